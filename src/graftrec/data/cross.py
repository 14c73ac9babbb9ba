"""Columns of user x candidate pairs that only the past decides."""

from __future__ import annotations

import torch
from torch import Tensor

from graftrec.data.past import PastCounts


class Cross:
    """Past counts of a pair: the user with the item, with each attribute of the item, and the item with everybody.

    Reordering is most of grocery recommendation (Hu et al. 2020, https://arxiv.org/abs/2006.00556): how often and how
    long ago is what a network cannot see from embeddings. First purchases of an item by distinct users say which items
    people are taking up, which is what a recommendation of something new needs.

    Args:
        user, item: (n,) int64, item in [0, items). time: (n,) float64 days.
        content: attribute -> (items,) int64, each item's value.
    """

    def __init__(self, user: Tensor, item: Tensor, time: Tensor, items: int, content: dict[str, Tensor]) -> None:
        self.content = content
        self._items = items
        self._sizes = {name: int(values.max()) + 1 for name, values in content.items()}
        self._pair = PastCounts(user * items + item, time, (10.0, 30.0, 90.0))
        self._attribute = {
            name: PastCounts(user * self._sizes[name] + values[item], time, (60.0,)) for name, values in content.items()
        }
        self._item = PastCounts(item, time, (30.0, 120.0))
        order = torch.argsort(time, stable=True)
        pairs = (user * items + item)[order]
        _, inverse = torch.unique(pairs, return_inverse=True)
        first = torch.full((int(inverse.max()) + 1 if len(inverse) else 0,), len(pairs))
        first = first.scatter_reduce(0, inverse, torch.arange(len(pairs)), "amin")
        self._first = PastCounts(item[order][first], time[order][first], (60.0,))
        names = ["pair", "pair_10", "pair_30", "pair_90"]
        names += [f"{name}{part}" for name in content for part in ("", "_60")]
        self.names = (*names, "item", "item_30", "item_120", "first", "first_60")

    def __call__(self, user: Tensor, item: Tensor, time: Tensor) -> Tensor:
        """Columns (B, C, K) float32 of users (B,) and items (B, C) or (1, C) strictly before times (B,)."""
        who, when = user[:, None], time[:, None]
        parts = [self._pair(who * self._items + item, when)]
        for name, counts in self._attribute.items():
            parts.append(counts(who * self._sizes[name] + self.content[name][item], when))
        wide = item.expand(len(user), -1)
        parts += [self._item(wide, when), self._first(wide, when)]
        return torch.cat(parts, -1)
