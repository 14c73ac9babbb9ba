"""Homoscedastic uncertainty."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from graftrec.balancers.base import Balancer


class Uncertainty(Balancer):
    """sum_t exp(-s_t) L_t + s_t / 2 with a learned s_t = log sigma_t^2.

    A. Kendall, Y. Gal, R. Cipolla, Multi-Task Learning Using Uncertainty to Weigh Losses, CVPR 2018,
    https://arxiv.org/abs/1705.07115, equation 7. Where we differ: one form for all losses (1 / (2 sigma^2) in the
    paper for regression), since a constant factor on a loss only shifts its s_t.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(len(tasks)))

    def forward(self, losses: Tensor, gramian: Tensor | None = None) -> Tensor:
        return (torch.exp(-self.log_variance) * losses + self.log_variance / 2).sum()
