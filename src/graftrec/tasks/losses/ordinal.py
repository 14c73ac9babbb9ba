"""Cross-entropies of ordered classes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from graftrec.tasks.losses.base import Loss


class Ordinal(Loss):
    """Sum over k = 0..C-2 of the binary cross-entropy of P(y > k) against [y > k], from cumulative logits (B, C - 1).

    W. Cao et al., Rank Consistent Ordinal Regression for Neural Networks with Application to Age Estimation (CORAL),
    2020, https://arxiv.org/abs/1901.07884, equation 4 with all importance weights 1.
    """

    kinds = ("category",)
    form = "cumulative"

    def forward(self, output: Tensor, label: Tensor) -> Tensor:
        above = label[..., None] > torch.arange(output.shape[-1], device=label.device)
        each = F.binary_cross_entropy_with_logits(output.float(), above.float(), reduction="none")
        return each.sum(-1)
