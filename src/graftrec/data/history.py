"""What users did strictly before a time, for whole batches."""

from __future__ import annotations

import torch
from torch import Tensor


class Histories:
    """Events sorted by user, time and item; a question is one search and one gather.

    Args:
        user, item: (n,) int64. time: (n,) float64 days. Their order is no matter.
    """

    def __init__(self, user: Tensor, item: Tensor, time: Tensor) -> None:
        order = torch.argsort(item, stable=True)
        order = order[torch.argsort(time[order], stable=True)]
        order = order[torch.argsort(user[order], stable=True)]
        self._item, self._time = item[order], time[order]
        self._moments = torch.unique(time)
        self._span = len(self._moments) + 1
        self._key = user[order] * self._span + torch.searchsorted(self._moments, self._time)

    def bounds(self, user: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """First and one past the last event (B,) of each user strictly before its time (B,)."""
        low = torch.searchsorted(self._key, user * self._span)
        high = torch.searchsorted(self._key, user * self._span + torch.searchsorted(self._moments, time))
        return low, high

    def window(self, user: Tensor, time: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """The last events before a time, newest last.

        Args:
            user: (B,) int64. time: (B,) float64 days.

        Returns:
            items (B, L) int64, 0 where there are fewer, and their age log(1 + days) (B, L) float32.
        """
        low, high = self.bounds(user, time)
        at = high[:, None] + torch.arange(-length, 0)
        there = at >= low[:, None]
        at = at.clamp_min(0)
        if not len(self._item):
            return torch.zeros(at.shape, dtype=torch.int64), torch.zeros(at.shape)
        items = self._item[at].masked_fill(~there, 0)
        age = torch.log1p((time[:, None] - self._time[at]).clamp_min(0)).float().masked_fill(~there, 0.0)
        return items, age

    def since(self, user: Tensor, time: Tensor, longest: float = 60.0) -> Tensor:
        """Days (B,) float32 since each user's last event before its time, at most ``longest``, also where none was."""
        low, high = self.bounds(user, time)
        if not len(self._item):
            return torch.full(time.shape, longest)
        last = self._time[(high - 1).clamp_min(0)]
        return torch.where(high > low, time - last, longest).clamp(0, longest).float()
