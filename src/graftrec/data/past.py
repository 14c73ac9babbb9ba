"""Counts that use only the past: how often a key was seen strictly before a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class PastCounts:
    """Answers, for many (key, time) pairs at once, what was seen of that key strictly before that time.

    Events are sorted once by key and time, with running sums of 2^(t / half_life). A question is two searches, so
    it costs O(log n) and no per-row Python, and a training batch, its negatives and a whole catalogue are asked
    through the same code. Events of one timestamp never see each other.

    Args:
        key: (n,) int64, at least 0, such as user * items + item.
        time: (n,) float64, days since the start of the data, at least 0.
        half_lives: days after which an event counts half; each adds one column.

    Raises:
        ValueError: a negative key or time, unequal lengths, or a half-life that is not positive.
    """

    def __init__(self, key: Tensor, time: Tensor, half_lives: Sequence[float] = ()) -> None:
        if key.shape != time.shape or key.ndim != 1:
            raise ValueError(f"key and time should be (n,). Found {tuple(key.shape)} and {tuple(time.shape)}.")
        if len(key) and (int(key.min()) < 0 or float(time.min()) < 0):
            raise ValueError(f"key and time should be at least 0. Found {int(key.min())} and {float(time.min())}.")
        if any(h <= 0 for h in half_lives):
            raise ValueError(f"half_lives should be positive. Found {list(half_lives)}.")
        self.half_lives = tuple(float(h) for h in half_lives)
        order = torch.argsort(time, stable=True)
        order = order[torch.argsort(key[order], stable=True)]
        self._time = time[order]
        # key and rank of time in one sortable integer: exact, unlike a float of both
        self._moments = torch.unique(time)
        self._span = len(self._moments) + 1
        self._sorted = key[order] * self._span + torch.searchsorted(self._moments, self._time)
        zero = torch.zeros(1, dtype=torch.float64)
        self._sums = [torch.cat([zero, torch.exp2(self._time / h).cumsum(0)]) for h in self.half_lives]

    @property
    def columns(self) -> int:
        """How many numbers a question is answered with."""
        return 1 + len(self.half_lives)

    def __call__(self, key: Tensor, time: Tensor) -> Tensor:
        """log(1 + count), then log(1 + count weighted by age) for each half-life.

        Args:
            key: (...) int64. time: (...) float64, days; the two broadcast.

        Returns:
            (..., columns) float32.
        """
        key, time = key + torch.zeros_like(time, dtype=key.dtype), time + torch.zeros_like(key, dtype=time.dtype)
        first = key * self._span
        low = torch.searchsorted(self._sorted, first)
        high = torch.searchsorted(self._sorted, first + torch.searchsorted(self._moments, time))
        counts = [(high - low).double()]
        for half_life, sums in zip(self.half_lives, self._sums, strict=True):
            counts.append(((sums[high] - sums[low]) * torch.exp2(-time / half_life)).clamp_min(0))
        return torch.log1p(torch.stack(counts, -1)).float()
