"""Counts that use only the past: how often a key was seen strictly before a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from graftrec.data.tables.interactions import in_order

Ints = npt.NDArray[np.int64]
Days = npt.NDArray[np.float64]
Moments = tuple[Tensor, Tensor]

TABLE = 4_000_000  # keys (32 MB)
_BLOCK = 16_384  # codes that are searched for together: 128 KB
_NEVER = torch.iinfo(torch.int64).max


class PastCounts:
    """Answers, for many (key, time) pairs at once, what was seen of that key strictly before that time.

    Events are sorted once by key and time, with decayed counts up to each event. A question is two searches, so
    it costs O(log n) and no per-row Python, and a training batch, its negatives and a whole catalogue are asked
    through the same code. Events of one timestamp never see each other.

    Args:
        key: (n,) int64, at least 0, such as user * items + item.
        time: (n,) float64, days since the start of the data, at least 0.
        half_lives: days after which an event counts half; each adds one column.
        moments: `moments_of` the times, where they are known already.

    Raises:
        ValueError: a negative key or time, unequal lengths, or a half-life that is not positive.
    """

    def __init__(
        self, key: Tensor, time: Tensor, half_lives: Sequence[float] = (), moments: Moments | None = None
    ) -> None:
        if key.shape != time.shape or key.ndim != 1:
            raise ValueError(f"key and time should be (n,). Found {tuple(key.shape)} and {tuple(time.shape)}.")
        if len(key) and (int(key.min()) < 0 or float(time.min()) < 0):
            raise ValueError(f"key and time should be at least 0. Found {int(key.min())} and {float(time.min())}.")
        if any(h <= 0 for h in half_lives):
            raise ValueError(f"half_lives should be positive. Found {list(half_lives)}.")
        self.half_lives = tuple(float(h) for h in half_lives)
        # key and rank of time in one sortable integer: exact, unlike a float of both, and sorted without an index
        self._moments, rank = moments or moments_of(time)
        self._span = len(self._moments) + 1
        ordered = in_order((key * self._span + rank).numpy())
        self._sorted = torch.from_numpy(ordered)
        self._time = self._moments[self._sorted % self._span] if len(key) else time
        # where each key begins, as a table where that is small: one look-up instead of a search
        keys = int(key.max()) + 1 if len(key) else 0
        self._starts: Tensor | None = None
        of_key = ordered // self._span
        if 0 < keys <= TABLE:
            count = np.bincount(of_key, minlength=keys)
            self._starts = torch.from_numpy(np.concatenate([[0], np.cumsum(count)]))
            self._steps = [2**power for power in reversed(range(int(count.max()).bit_length()))]
            self._padded = torch.cat([self._sorted, torch.full((2 * self._steps[0],), _NEVER)])
        self._sums = list(map(torch.from_numpy, _decayed(of_key, self._time.numpy(), self.half_lives)))

    @property
    def columns(self) -> int:
        """How many numbers a question is answered with."""
        return 1 + len(self.half_lives)

    def firsts(self) -> tuple[Tensor, Tensor]:
        """Every key (K,) that was seen, and when it was first (K,)."""
        key = self._sorted // self._span
        opens = torch.ones(len(key), dtype=torch.bool)
        opens[1:] = key[1:] != key[:-1]
        return key[opens], self._time[opens]

    def __call__(self, key: Tensor, time: Tensor) -> Tensor:
        """log(1 + count), then log(1 + count weighted by age) for each half-life.

        Args:
            key: (...) int64. time: (...) float64, days; the two broadcast.

        Returns:
            (..., columns) float32.
        """
        moment = torch.searchsorted(self._moments, time.contiguous())  # before the two broadcast: fewer searches
        low, seen = self._low(key)
        if 2 * int(seen.sum()) > seen.numel():
            return self._counts(key, low, moment, time)
        # most users never met most items: their answers are 0, and no search is made for them
        key, low, seen, moment, time = torch.broadcast_tensors(key, low, seen, moment, time)  # type: ignore[no-untyped-call]
        answers = torch.zeros(*key.shape, self.columns)
        asked = seen.flatten().nonzero()[:, 0]
        known = (values.flatten()[asked] for values in (key, low, moment, time))
        answers.view(-1, self.columns)[asked] = self._counts(*known)
        return answers

    def _counts(self, key: Tensor, low: Tensor, moment: Tensor, time: Tensor) -> Tensor:
        """Answers (..., columns); the events of each key begin at ``low``, and ``moment`` is the rank of the time."""
        high = self._search(low, key * self._span + moment)
        low = low.expand_as(high)
        count = high - low
        found = torch.empty(*count.shape, self.columns, dtype=torch.float64)  # in float32 a place moves the last digit
        found[..., 0] = count
        if self.half_lives:
            last = (high - 1).clamp_min(0)
            age = self._time[last] - time
            for column, (half_life, sums) in enumerate(zip(self.half_lives, self._sums, strict=True), 1):
                found[..., column] = sums[last] * torch.exp2(age / half_life)
            found.masked_fill_((count == 0)[..., None], 0.0)
        return found.log1p_().float()

    def _search(self, low: Tensor, code: Tensor) -> Tensor:
        """Where each code (...), a key with a moment, belongs among the sorted ones; its key begins at ``low``.

        Where the longest run of one key is known, a search of just so many steps without branches, all codes at once,
        takes less than half of what `torch.searchsorted` takes among all events.
        """
        if self._starts is None:
            return torch.searchsorted(self._sorted, code)
        below = low.expand_as(code).flatten() - 1  # the last one that is known to come before the code
        for part, wanted in zip(torch.split(below, _BLOCK), torch.split(code.flatten(), _BLOCK), strict=True):
            for step in self._steps:
                part.add_(self._padded.index_select(0, part + step) < wanted, alpha=step)
        return below.add_(1).view(code.shape)

    def _low(self, key: Tensor) -> tuple[Tensor, Tensor]:
        """Where the events of each key (...) begin, and whether there are any, whenever."""
        if not len(self._sorted):
            return torch.zeros_like(key), torch.zeros(key.shape, dtype=torch.bool)
        if self._starts is None:
            low = torch.searchsorted(self._sorted, key * self._span)
            return low, self._sorted[low.clamp_max(len(self._sorted) - 1)] // self._span == key
        key = key.clamp_max(len(self._starts) - 1)
        low = self._starts[key]
        return low, self._starts[(key + 1).clamp_max_(len(self._starts) - 1)] > low


def moments_of(time: Tensor) -> Moments:
    """The distinct times, sorted, and which of them each time (n,) is."""
    moments, rank = torch.unique(time, return_inverse=True)
    return moments, rank


def _decayed(key: Ints, time: Days, half_lives: Sequence[float]) -> list[Days]:
    """S_i = sum over j <= i of the same key of 2^((t_j - t_i) / half_life), for events sorted by key and time.

    Each round doubles how far back every sum reaches (a segmented scan), so nothing of another key ever enters and no
    power is above 1: a running sum of 2^(t / half_life) over all keys would lose digits, and overflow within years. A
    round looks only at the events that have one of their own key so far back.
    """
    found = [np.ones(len(key)) for _ in half_lives]
    at, reach = np.arange(len(key)), 1
    while found:
        at = at[at >= reach]
        at = at[key[at] == key[at - reach]]
        if not len(at):
            break
        back = at - reach
        age = time[back] - time[at]
        for sums, half_life in zip(found, half_lives, strict=True):
            sums[at] += sums[back] * np.exp2(age / half_life)
        reach *= 2
    return found
