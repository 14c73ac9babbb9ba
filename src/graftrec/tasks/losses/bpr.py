"""Bayesian personalised ranking."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from graftrec.tasks.losses.base import Loss


class Bpr(Loss):
    """For a positive p of a row: mean over the row's negatives n of -log sigmoid(s_p - s_n).

    S. Rendle et al., BPR: Bayesian Personalized Ranking from Implicit Feedback, UAI 2009,
    https://arxiv.org/abs/1205.2618, section 4.1. Labels (B, C) of a row's candidates are 1 or 0; a row without a
    negative counts nothing. Where we differ: the paper draws one negative for a step, here all of the row's count
    equally; its penalty on parameters is the optimizer's weight decay. Only differences are learnt, so predictions are
    an order and no probabilities.
    """

    kinds = ("binary",)
    form = "list"

    def forward(self, output: Tensor, label: Tensor) -> Tensor:
        return self.measure(output, label, torch.ones_like(label, dtype=torch.bool))[0]

    def measure(self, output: Tensor, label: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        score, negative = output.float(), known & (label == 0)
        if label.ndim != 2:
            raise ValueError(f"label should be (B, C), one for each candidate. Found {tuple(label.shape)}.")
        counted = known & (label == 1) & negative.any(-1, keepdim=True)
        row, column = counted.nonzero(as_tuple=True)
        pairs = F.softplus(score[row] - score[row, column][:, None])  # (P, C): all pairs of a row would be (B, C, C)
        mean = (pairs * negative[row]).sum(-1) / negative[row].sum(-1).clamp_min(1)
        return torch.zeros_like(score).index_put((row, column), mean), counted
