"""Dynamic weight average."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from graftrec.training.balancers.base import Balancer, shares


class Dwa(Balancer):
    """sum_t w_t L_t, w = T softmax(r / temperature), r_t = mean L_t of the last epoch / mean L_t of the one before.

    S. Liu, E. Johns, A. Davison, End-to-End Multi-Task Learning with Attention, CVPR 2019,
    https://arxiv.org/abs/1803.10704, equation 7. Where we differ: an epoch is ``every`` steps, since a pass over large
    data is too long; r_t is 1 until a task has been seen in two epochs (so in the paper for the first two). torchjd's
    DWA is not taken, as it forgets its means with a checkpoint and cannot leave out a task without rows.

    Args:
        tasks: names in the order of the losses (completed by the program).
        temperature: above 0; the smaller, the more weights differ. every: steps of an epoch, at least 1.
    """

    def __init__(self, tasks: Sequence[str], temperature: float = 2.0, every: int = 200) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature should be above 0. Found {temperature}.")
        if every < 1:
            raise ValueError(f"every should be at least 1. Found {every}.")
        self.temperature, self.every = temperature, every
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("total", torch.zeros(len(tasks)))  # of this epoch
        self.register_buffer("count", torch.zeros(len(tasks)))
        self.register_buffer("last", torch.full((len(tasks),), torch.nan))  # means
        self.register_buffer("before", torch.full((len(tasks),), torch.nan))
        self.steps: Tensor
        self.total: Tensor
        self.count: Tensor
        self.last: Tensor
        self.before: Tensor

    def forward(self, losses: Tensor, gramian: Tensor | None = None) -> Tensor:
        rates = (self.last / self.before).nan_to_num(1.0, 1.0, 1.0)
        weights = shares(rates / self.temperature, losses != 0)
        if self.training:
            self._take_in(losses.detach())
        return (weights.to(losses) * losses).sum()

    def _take_in(self, losses: Tensor) -> None:
        seen = (losses != 0) & losses.isfinite()
        self.total += torch.where(seen, losses, 0).to(self.total)
        self.count += seen
        self.steps += 1
        if self.steps % self.every == 0:
            self.before.copy_(self.last)
            self.last.copy_(self.total / self.count)
            self.total.zero_()
            self.count.zero_()
