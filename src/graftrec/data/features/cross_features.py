"""Columns of user x candidate pairs that only the past decides."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from graftrec.data.features.past_counts import Moments, PastCounts, moments_of


class Cross:
    """Past counts of a pair: the user with the item, with each attribute of the item, and the item with everybody.

    Reordering is most of grocery recommendation (Hu et al. 2020, https://arxiv.org/abs/2006.00556): how often and how
    long ago is what a network cannot see from embeddings. First purchases of an item by distinct users say which items
    people are taking up, which is what a recommendation of something new needs.

    Args:
        user, item: (n,) int64, item in [0, items). time: (n,) float64 days.
        content: attribute -> (items,) int64, each item's value.
        everybody: (n,) bool, the rows that count for the item with everybody; none: no such columns, as where times are
            no real ones.
        pairs: whether a user may come back to an item.
        moments: `moments_of` the times, where they are known already.
    """

    def __init__(
        self,
        user: Tensor,
        item: Tensor,
        time: Tensor,
        items: int,
        content: dict[str, Tensor],
        everybody: Tensor | None,
        pairs: bool = True,
        moments: Moments | None = None,
    ) -> None:
        clock = everybody is not None
        self.content = content
        self._items = items
        self._sizes = {name: int(values.max()) + 1 for name, values in content.items()}
        names: list[str] = []

        moments = moments or moments_of(time)

        def counts(name: str, key: Tensor, when: Tensor, half_lives: Sequence[float]) -> PastCounts:
            names.extend([name, *(f"{name}_{life:g}" for life in half_lives if clock)])
            return PastCounts(key, when, half_lives if clock else (), moments if when is time else None)

        self._pair = counts("pair", user * items + item, time, (10.0, 30.0, 90.0)) if pairs else None
        self._attribute = {
            name: counts(name, user * self._sizes[name] + values[item], time, (60.0,))
            for name, values in content.items()
        }
        self._everybody: tuple[PastCounts, ...] = ()
        if everybody is not None:
            pair = self._pair
            if not bool(everybody.all()):
                user, item, time, pair = user[everybody], item[everybody], time[everybody], None
                moments = moments_of(time)
            first, since = (pair or PastCounts(user * items + item, time, (), moments)).firsts()
            self._everybody = (
                counts("item", item, time, (30.0, 120.0)),
                counts("first", first % items, since, (60.0,)),
            )
        self.names = tuple(names)

    def __call__(self, user: Tensor, item: Tensor, time: Tensor) -> Tensor:
        """Columns (B, C, K) float32 of users (B,) and items (B, C) or (1, C) strictly before times (B,)."""
        who, when = user[:, None], time[:, None]
        parts = [] if self._pair is None else [self._pair(who * self._items + item, when)]
        for name, counts in self._attribute.items():
            parts.append(counts(who * self._sizes[name] + self.content[name][item], when))
        wide = item.expand(len(user), -1)
        parts += [counts(wide, when) for counts in self._everybody]
        return torch.cat(parts, -1) if parts else torch.zeros(*wide.shape, 0)
