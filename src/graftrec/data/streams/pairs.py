"""Pairs of items and how related they are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from graftrec.data.batch import Batch
from graftrec.data.schema import Feature, Label, Stream
from graftrec.data.streams.base import EVERY, WHOLE, Part, Stage, StreamData
from graftrec.data.streams.co_purchase import Pairs, co_purchase

TRAIN_SUPPORT, HELD_OUT_SUPPORT = 2, 5


class PairRows(StreamData):
    """Item pairs labelled with their co-purchase cosine, each window counted on its own rows.

    Training rows are the pairs with at least 2 common baskets before the cut; each comes with one pair drawn at random
    (most of them never bought together), else everything would be similar. Validation and test pairs are those with at
    least 5 common baskets inside their window, beside ``training_similarity``, what the same pair had before the cut.

    Args:
        name: of the stream. basket, item: (n,) int64, items from 1. window: (n,) 0 train, 1 val, 2 test.
        items: (N,) items that may be drawn. seed: the split's. table: of the items. reach: see `co_purchase`.
    """

    baselines = ("training_similarity",)

    def __init__(
        self,
        name: str,
        basket: Tensor,
        item: Tensor,
        window: Tensor,
        items: Tensor,
        seed: int,
        table: str = "item",
        reach: int = 100,
    ) -> None:
        self.schema = Stream(
            name, (Feature("item", "id", table, keep=True),), (Label("similarity", "number"),), candidate=table
        )
        self._items, self._span = items, int(items.max()) + 1
        counted = []
        for part, support in ((0, TRAIN_SUPPORT), (1, HELD_OUT_SUPPORT), (2, HELD_OUT_SUPPORT)):
            inside = window == part
            counted.append(co_purchase(basket[inside].numpy(), item[inside].numpy(), support, reach))
        train = counted[0]
        self._a, self._b = torch.from_numpy(train.a), torch.from_numpy(train.b)
        self._similarity = torch.from_numpy(train.cosine)
        self._key = self._a * self._span + self._b  # sorted, as co_purchase sorts
        self.rows = len(self._a)
        self._held_out = {"val": counted[1], "test": counted[2]}
        self.splits = {"train": self.rows, "val": len(counted[1].a), "test": len(counted[2].a)}

        self.sample = self.draw_sample(seed) if self.rows else {}

    def trained(self, a: Tensor, b: Tensor) -> Tensor:
        """Similarity (B,) of pairs as counted before the cut, 0 where it was below the support."""
        if not self.rows:
            return torch.zeros(a.shape)
        key = torch.minimum(a, b) * self._span + torch.maximum(a, b)
        at = torch.searchsorted(self._key, key).clamp_max(self.rows - 1)
        return torch.where(self._key[at] == key, self._similarity[at], 0.0)

    def batch(self, index: Tensor, random: torch.Generator, mine: slice = EVERY) -> Batch:
        drawn = self._items[torch.randint(len(self._items), (2, len(index)), generator=random)[:, mine]]
        index = index[mine]
        a, b = torch.cat([self._a[index], drawn[0]]), torch.cat([self._b[index], drawn[1]])
        label = self.trained(a, b).masked_fill(a == b, torch.nan)
        return {"item": a, "candidate": b[:, None], "similarity": label[:, None]}

    def labels(self, column: str) -> Tensor:
        return self._similarity

    def evaluation(self, stage: Stage, part: Part = WHOLE) -> Iterator[Batch]:
        pairs: Pairs = self._held_out[stage]
        for low in range(0, len(pairs.a), 65_536):
            own = part.of(min(65_536, len(pairs.a) - low))
            rows = slice(low + own.start, low + own.stop)
            a, b = torch.from_numpy(np.ascontiguousarray(pairs.a[rows])), torch.from_numpy(pairs.b[rows])
            label = torch.from_numpy(pairs.cosine[rows])
            yield {
                "item": a,
                "candidate": b[:, None],
                "similarity": label[:, None],
                "training_similarity": self.trained(a, b),
            }
