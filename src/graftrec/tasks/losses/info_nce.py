"""InfoNCE."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from graftrec.tasks.losses.base import Loss


class InfoNce(Loss):
    """For a positive p of a row: -log (exp(s_p / t) / (exp(s_p / t) + sum over the row's negatives n of exp(s_n / t))).

    A. van den Oord et al., Representation Learning with Contrastive Predictive Coding, 2018,
    https://arxiv.org/abs/1807.03748, equation 4: a softmax over one positive and sampled negatives. Labels (B, C) of a
    row's candidates are 1 or 0; other positives of the row are left out of the sum; a row without a negative counts
    nothing. Where we differ: the temperature t, which the paper does not have.

    Args:
        temperature: t, above 0; the smaller, the more the hardest negatives count.
    """

    kinds = ("binary",)
    form = "list"

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature should be positive. Found {temperature}.")
        self.temperature = temperature

    def forward(self, output: Tensor, label: Tensor) -> Tensor:
        return self.measure(output, label, torch.ones_like(label, dtype=torch.bool))[0]

    def measure(self, output: Tensor, label: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        if label.ndim != 2:
            raise ValueError(f"label should be (B, C), one for each candidate. Found {tuple(label.shape)}.")
        score = output.float() / self.temperature
        negative = known & (label == 0)
        # a finite floor: the logsumexp of nothing but -inf has no gradient
        others = score.masked_fill(~negative, torch.finfo(score.dtype).min).logsumexp(-1, keepdim=True)
        counted = known & (label == 1) & negative.any(-1, keepdim=True)
        values = F.softplus(torch.where(counted, others - score, torch.zeros_like(score)))
        return torch.where(counted, values, torch.zeros_like(values)), counted
