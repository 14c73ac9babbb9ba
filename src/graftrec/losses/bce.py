"""Binary cross-entropy."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from graftrec.losses.base import Loss


class Bce(Loss):
    """-y log p - (1 - y) log(1 - p) from logits."""

    kinds = ("binary",)

    def forward(self, output: Tensor, label: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(output.float(), label, reduction="none")
