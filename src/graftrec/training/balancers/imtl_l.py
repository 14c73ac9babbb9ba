"""IMTL-L: impartial multi-task learning, its balance of losses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from graftrec.training.balancers.base import Balancer, check_not_negative


class ImtlL(Balancer):
    """sum_t exp(s_t) L_t - s_t with a learned s_t: at its minimum exp(s_t) L_t = 1 for every task.

    L. Liu et al., Towards Impartial Multi-task Learning, ICLR 2021, https://openreview.net/forum?id=IMPnRXEWpvr,
    section 3.2, base e. Weights are the paper's, and add up to T only at the start. Where we differ: a task without
    rows leaves its s_t as it is (the reason for not taking torchjd's IMTLL). Weights of tasks and lambda_shared say
    where the weights start, and s_t learns them away again.

    Args:
        tasks: names in the order of the losses (completed by the program).

    Raises:
        ValueError: a negative loss, for which s_t has no minimum.
    """

    additive = True

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(len(tasks)), requires_grad=len(tasks) > 1)

    def forward(self, losses: Tensor, gramian: Tensor | None = None) -> Tensor:
        check_not_negative(losses, "IMTL-L")
        terms = torch.exp(self.log_scale) * losses - self.log_scale
        return torch.where(losses != 0, terms, torch.zeros_like(terms)).sum()
