"""What users did strictly before a time, for whole batches."""

from __future__ import annotations

import torch
from torch import Tensor

from graftrec.data.features.past_counts import Moments, moments_of

MILLISECONDS = 86_400_000  # of a day


class Histories:
    """Events sorted by user, time and item; a question is one search and one gather.

    Args:
        user, item: (n,) int64. time: (n,) float64 days. Their order is no matter.
        behaviour: (n,) int64 in [0, kinds), what each event was.
        gap: days without an event, after which a session is over.
        moments: `moments_of` the times, where they are known already. kinds: of behaviour.
    """

    def __init__(
        self,
        user: Tensor,
        item: Tensor,
        time: Tensor,
        behaviour: Tensor | None = None,
        gap: float = 0.02,
        moments: Moments | None = None,
        kinds: int = 0,
    ) -> None:
        self._moments, moment = moments or moments_of(time)
        self._span = len(self._moments) + 1
        self.kinds = kinds
        then = item if behaviour is None else item * kinds + behaviour
        order = by_key(user * self._span + moment, then)
        self._item, self._time = item[order], time[order]
        self._key = (user * self._span + moment)[order]
        self._behaviour = None if behaviour is None else behaviour[order]
        user = user[order]
        opens = torch.ones(len(order), dtype=torch.bool)
        opens[1:] = (user[1:] != user[:-1]) | (self._time[1:] - self._time[:-1] > gap)
        self._session = opens.cumsum(0) - 1
        self._opened = torch.nonzero(opens).squeeze(1)

    def bounds(self, user: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """First and one past the last event (B,) of each user strictly before its time (B,)."""
        low = torch.searchsorted(self._key, user * self._span)
        high = torch.searchsorted(self._key, user * self._span + torch.searchsorted(self._moments, time))
        return low, high

    def places(
        self, user: Tensor, time: Tensor, length: int, days: float | None = None, sessions: float | None = None
    ) -> tuple[Tensor, Tensor]:
        """Where the last events before a time stand, (B, length), newest last, and which of them there are.

        Args:
            user: (B,) int64. time: (B,) float64 days. days, sessions: how far back the window reaches.
        """
        low, high = self.bounds(user, time)
        if days is not None:
            low = torch.maximum(low, self.bounds(user, time - days)[1])
        if sessions is not None and len(self._item):
            first = (self._session[(high - 1).clamp_min(0)] - int(sessions) + 1).clamp_min(0)
            low = torch.maximum(low, self._opened[first])
        at = high[:, None] + torch.arange(-length, 0)
        return at.clamp_min(0), at >= low[:, None]

    def window(
        self, user: Tensor, time: Tensor, length: int, days: float | None = None, sessions: float | None = None
    ) -> tuple[Tensor, Tensor]:
        """The last events before a time, newest last; see `places`.

        Returns:
            items (B, L) int64, 0 where there are fewer, and their age log(1 + days) (B, L) float32.
        """
        at, there = self.places(user, time, length, days, sessions)
        if not len(self._item):
            return torch.zeros(at.shape, dtype=torch.int64), torch.zeros(at.shape)
        items = self._item[at].masked_fill(~there, 0)
        age = torch.log1p((time[:, None] - self._time[at]).clamp_min(0)).float().masked_fill(~there, 0.0)
        return items, age

    def last(self, user: Tensor, time: Tensor, length: int, origin: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
        """The last events before a time, newest last, all 0 where there are fewer; see `places`.

        Returns:
            items (B, L) int64, their milliseconds (B, L) int64 since ``origin``, and what they were (B, L) int64, 0 if
            nobody says.
        """
        at, there = self.places(user, time, length)
        if not len(self._item):
            nothing = torch.zeros(at.shape, dtype=torch.int64)
            return nothing, nothing, nothing
        items = self._item[at].masked_fill(~there, 0)
        times = milliseconds(self._time[at] - origin).masked_fill(~there, 0)
        kinds = torch.zeros_like(items) if self._behaviour is None else self._behaviour[at].masked_fill(~there, 0)
        return items, times, kinds

    def behaviours(
        self, user: Tensor, time: Tensor, length: int, days: float | None = None, sessions: float | None = None
    ) -> Tensor:
        """What the events of the same `window` were (B, L) int64, 0 where there are fewer."""
        at, there = self.places(user, time, length, days, sessions)
        if self._behaviour is None or not len(self._item):
            return torch.zeros(at.shape, dtype=torch.int64)
        return self._behaviour[at].masked_fill(~there, 0)

    def since(self, user: Tensor, time: Tensor, longest: float = 60.0) -> Tensor:
        """Days (B,) float32 since each user's last event before its time, at most ``longest``, also where none was."""
        low, high = self.bounds(user, time)
        if not len(self._item):
            return torch.full(time.shape, longest)
        last = self._time[(high - 1).clamp_min(0)]
        return torch.where(high > low, time - last, longest).clamp(0, longest).float()


def milliseconds(days: Tensor) -> Tensor:
    """Days (...) float64 as int64: whole numbers stay what they are in whatever precision a batch is cast to."""
    return (days * MILLISECONDS).round().long()


def by_key(key: Tensor, item: Tensor) -> Tensor:
    """The order (n,) by key, then by item; nothing is sorted that is in order already."""
    if bool(((key[1:] > key[:-1]) | ((key[1:] == key[:-1]) & (item[1:] >= item[:-1]))).all()):
        return torch.arange(len(key))
    order = torch.argsort(item, stable=True)
    return order[torch.argsort(key[order], stable=True)]
