"""Binary cross-entropy."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from graftrec.tasks.losses.base import Loss


class Bce(Loss):
    """-w y log p - (1 - y) log(1 - p) from logits.

    Args:
        positive_weight: w, above 0; other than 1 the odds that are learnt are w times too high, and ``log_loss``,
            ``ece`` and ``copc`` say so.
    """

    kinds = ("binary",)

    def __init__(self, positive_weight: float = 1.0) -> None:
        super().__init__()
        if positive_weight <= 0:
            raise ValueError(f"positive_weight should be positive. Found {positive_weight}.")
        self.positive_weight = positive_weight

    def forward(self, output: Tensor, label: Tensor) -> Tensor:
        logit = output.float()
        return self.positive_weight * label * F.softplus(-logit) + (1 - label) * F.softplus(logit)
