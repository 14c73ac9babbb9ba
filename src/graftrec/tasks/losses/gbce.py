"""Generalised binary cross-entropy."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from graftrec.tasks.losses.base import Loss


class Gbce(Loss):
    """For a positive p of a row with K negatives n: -(log sigmoid(s_p)^b + sum_n log(1 - sigmoid(s_n))) / (K + 1).

    A. Petrov, C. Macdonald, gSASRec: Reducing Overconfidence in Sequential Recommendation Trained with Negative
    Sampling, RecSys 2023, https://arxiv.org/abs/2308.07192, section 5: b = a (t (1 - 1/a) + 1/a), where a is the share
    of all other items that are drawn, K / (N - 1). With few negatives a plain cross-entropy (t = 0, b = 1) says nearly
    1 for whatever was chosen once; t = 1 (b = a) undoes this, and sigmoid(s) is the chance that an item is chosen.

    Labels (B, C) of a row's candidates are 1 or 0; of several positives each is compared with all negatives; a row
    without a negative counts nothing, as in the other losses on lists. Where we differ: one item may be drawn twice
    (the paper draws without replacement).

    Args:
        t: in [0, 1], how far the sampling is undone. rate: a, above 0; none: what the task says that draws. Without
            either it is 1, and t of no use: tasks whose rows come with negatives need it.
    """

    kinds = ("binary",)
    form = "list"

    def __init__(self, t: float = 0.75, rate: float | None = None) -> None:
        super().__init__()
        if not 0 <= t <= 1:
            raise ValueError(f"t should be in [0, 1]. Found {t}.")
        if rate is not None and rate <= 0:
            raise ValueError(f"rate should be above 0. Found {rate}.")
        self.t, self.rate = t, rate

    @property
    def power(self) -> float:
        """b."""
        rate = 1.0 if self.rate is None else self.rate
        return self.t * (rate - 1) + 1

    def sampled(self, rate: float) -> None:
        self.rate = rate if self.rate is None else self.rate

    def start(self, negatives: int) -> float:
        return math.log(self.power / negatives)

    def forward(self, output: Tensor, label: Tensor) -> Tensor:
        return self.measure(output, label, torch.ones_like(label, dtype=torch.bool))[0]

    def measure(self, output: Tensor, label: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        if label.ndim != 2:
            raise ValueError(f"label should be (B, C), one for each candidate. Found {tuple(label.shape)}.")
        score, negative = output.float(), known & (label == 0)
        others = (F.softplus(score) * negative).sum(-1, keepdim=True)  # -log(1 - sigmoid(s))
        values = (self.power * F.softplus(-score) + others) / (negative.sum(-1, keepdim=True) + 1)
        counted = known & (label == 1) & negative.any(-1, keepdim=True)
        return torch.where(counted, values, torch.zeros_like(values)), counted
