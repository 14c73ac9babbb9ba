"""Homoscedastic uncertainty."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from graftrec.training.balancers.base import Balancer


class Uncertainty(Balancer):
    """sum_t exp(-s_t) L_t + s_t / 2 with a learned s_t = log sigma_t^2.

    A. Kendall, Y. Gal, R. Cipolla, Multi-Task Learning Using Uncertainty to Weigh Losses, CVPR 2018,
    https://arxiv.org/abs/1705.07115, equation 7. Weights are the paper's, and add up to T only at the start. Where we
    differ: one form for all losses (1 / (2 sigma^2) in the paper for regression), since a constant factor on a loss
    only shifts its s_t; a task without rows leaves its s_t as it is, which otherwise would sink with every such batch.
    Weights of tasks and lambda_shared say where the weights start, and s_t learns them away again.

    Args:
        tasks: names in the order of the losses (completed by the program).
    """

    additive = True

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(len(tasks)), requires_grad=len(tasks) > 1)

    def forward(self, losses: Tensor, gramian: Tensor | None = None) -> Tensor:
        terms = torch.exp(-self.log_variance) * losses + self.log_variance / 2
        return torch.where(losses != 0, terms, torch.zeros_like(terms)).sum()
