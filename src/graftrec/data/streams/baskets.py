"""Baskets: what a user bought next, from what was known some time before."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from graftrec.batch import Batch
from graftrec.data.cross import Cross
from graftrec.data.history import Histories
from graftrec.data.past import PastCounts
from graftrec.data.seeds import generator as seeded
from graftrec.data.streams.base import Stage, StreamData
from graftrec.schema import Feature, Label, Stream

NUMBERS = ("lines", "lines_30", "days_since")


@dataclass(frozen=True, eq=False)
class Lines:
    """Purchase lines of one domain, sorted by user, time and item, so that file order is no matter.

    ``user`` numbers every user from 1, ``item`` is the item's table row from 1, ``basket`` numbers baskets from 0.
    ``row_of`` (users + 1,) is a user's table row, 0 where training never saw it. ``items`` (N,) is the catalogue and
    ``content`` maps an attribute to its value (items in the table,) int64; ``classes`` says how many values there are.
    """

    user: Tensor
    item: Tensor
    time: Tensor
    basket: Tensor
    row_of: Tensor
    items: Tensor
    content: dict[str, Tensor]
    classes: dict[str, int]
    cuts: tuple[float, float]  # days: end of training, end of validation


class BasketRows(StreamData):
    """One row per basket and chunk of at most ``chunk`` distinct items, with negatives drawn from the catalogue.

    The state of a row (histories, counts) is taken ``lag`` days before its basket, uniformly in [0, ``lag``]: in the
    test the state is frozen at the cut, so purchases are predicted from states that are up to a window old, and a model
    that only ever saw fresh states would lean on yesterday. ``next_<attribute>`` is the attribute of one line of the
    basket, drawn once with the split's seed, and missing in all but a basket's first chunk.

    Args:
        name: of the stream. lines: all purchases. long, short: items in the long and the short window.
        negatives: candidates drawn uniformly per row, none of its basket. lag: days. seed: the split's.
    """

    def __init__(
        self, name: str, lines: Lines, long: int, short: int, chunk: int, negatives: int, lag: float, seed: int
    ) -> None:
        self.lines, self.long, self.short, self.negatives, self.lag = lines, long, short, negatives, lag
        self.history = Histories(lines.user, lines.item, lines.time)
        self._place = torch.zeros(int(lines.items.max()) + 1, dtype=torch.int64)  # table row -> place in the catalogue
        self._place[lines.items] = torch.arange(len(lines.items))
        attributes = {key: values[lines.items] for key, values in lines.content.items()}
        self.cross = Cross(lines.user, self._place[lines.item], lines.time, len(lines.items), attributes)
        self._activity = PastCounts(lines.user, lines.time, (30.0,))
        self._rows(chunk, seed)
        labels = [Label("bought", "binary")]
        labels += [Label(f"next_{key}", "category", count) for key, count in lines.classes.items() if count > 1]
        features = [Feature("user", "id", "user"), Feature("long", "ids", "item"), Feature("recent", "history", "item")]
        features += [Feature(key, "number") for key in NUMBERS]
        self.schema = Stream(name, tuple(features), tuple(labels), "item", self.cross.names)
        self._fit_scale(seed)

    def _rows(self, chunk: int, seed: int) -> None:
        """Cut baskets into chunks of distinct items, and draw each basket's line for the ``next_`` labels."""
        lines = self.lines
        self._in_basket = torch.unique(lines.basket * (len(self._place)) + lines.item)  # sorted basket x item
        basket, item = self._in_basket // len(self._place), self._in_basket % len(self._place)
        baskets = int(basket.max()) + 1
        first = torch.searchsorted(basket, torch.arange(baskets))
        count = torch.bincount(basket, minlength=baskets)
        place = torch.arange(len(basket)) - first[basket]
        chunks = (count + chunk - 1) // chunk
        start = chunks.cumsum(0) - chunks
        row = start[basket] + place // chunk
        self._items = torch.zeros(int(chunks.sum()), chunk, dtype=torch.int64)
        self._items[row, place % chunk] = item
        self._basket = torch.repeat_interleave(torch.arange(baskets), chunks)
        self._opens = torch.zeros(len(self._items), dtype=torch.bool)
        self._opens[start] = True
        self._user = torch.zeros(baskets, dtype=torch.int64)
        self._user[lines.basket] = lines.user
        self._time = torch.zeros(baskets, dtype=torch.float64)
        self._time[lines.basket] = lines.time
        low, high = lines.cuts
        window = (self._time >= low).long() + (self._time >= high).long()
        share = torch.zeros(baskets)
        for part in range(3):  # each window draws for itself: what comes later moves nothing in training
            inside = window == part
            share[inside] = torch.rand(int(inside.sum()), generator=seeded(seed, "next", part))
        self._drawn = item[first + (share * count).long()]  # (baskets,) item
        self._train = torch.nonzero(window[self._basket] == 0).squeeze(1)
        self._evaluated = {"val": torch.nonzero(window == 1).squeeze(1), "test": torch.nonzero(window == 2).squeeze(1)}
        self.rows = len(self._train)
        self.splits = {"train": self.rows, **{stage: len(kept) for stage, kept in self._evaluated.items()}}

    def _fit_scale(self, seed: int) -> None:
        """Mean and spread of the numbers and cross columns, on training rows."""
        self._scale = {"numbers": (torch.zeros(1), torch.ones(1)), "cross": (torch.zeros(1), torch.ones(1))}
        if not self.rows:
            self.sample = {}
            return
        batch = self.draw_sample(seed)
        numbers = torch.stack([batch[name] for name in NUMBERS], -1)
        for key, values in (("numbers", numbers), ("cross", batch["cross"].flatten(0, 1))):
            spread = values.std(0)
            self._scale[key] = (values.mean(0), torch.where(spread > 1e-6, spread, 1.0))
        self.sample = batch

    def _features(self, user: Tensor, time: Tensor) -> Batch:
        """What is known of users (B,) strictly before times (B,)."""
        recent, age = self.history.window(user, time, self.short)
        long, _ = self.history.window(user, time, self.long)
        counts = self._activity(user, time)
        numbers = torch.cat([counts, torch.log1p(self.history.since(user, time))[:, None]], 1)
        mean, spread = self._scale["numbers"]
        columns = ((numbers - mean) / spread).unbind(1)
        return {
            "user": self.lines.row_of[user], "long": long, "recent": recent, "recent_age": age,
            **dict(zip(NUMBERS, columns, strict=True)),
        }  # fmt: skip

    def _next(self, basket: Tensor) -> Batch:
        return {
            f"next_{key}": values[self._drawn[basket]] - 1  # 0 is unknown in a table, -1 is missing in a label
            for key, values in self.lines.content.items()
            if self.lines.classes[key] > 1
        }

    def _cross(self, user: Tensor, items: Tensor, time: Tensor) -> Tensor:
        mean, spread = self._scale["cross"]
        return (self.cross(user, self._place[items], time) - mean) / spread

    def labels(self, column: str) -> Tensor:
        if column == "bought":
            return self.sample[column].flatten()  # positives and negatives as training draws them
        return self._next(self._basket[self._train])[column].masked_fill(~self._opens[self._train], -1)

    def batch(self, index: Tensor, random: torch.Generator) -> Batch:
        row = self._train[index]
        basket = self._basket[row]
        user = self._user[basket]
        time = self._time[basket] - torch.rand(len(row), generator=random, dtype=torch.float64) * self.lag
        bought = self._items[row]
        catalogue = self.lines.items
        drawn = catalogue[torch.randint(len(catalogue), (len(row), self.negatives), generator=random)]
        key = basket[:, None] * len(self._place) + drawn
        at = torch.searchsorted(self._in_basket, key).clamp_max(len(self._in_basket) - 1)
        label = torch.cat([(bought > 0).float(), torch.zeros(drawn.shape)], 1)
        missing = torch.cat([bought == 0, self._in_basket[at] == key], 1)
        candidate = torch.cat([bought, drawn], 1)
        labels = {name: values.masked_fill(~self._opens[row], -1) for name, values in self._next(basket).items()}
        return {
            **self._features(user, time), **labels, "candidate": candidate,
            "cross": self._cross(user, candidate, time), "bought": label.masked_fill(missing, torch.nan),
        }  # fmt: skip

    def evaluation(self, stage: Stage) -> Iterator[Batch]:
        """First every basket of the stage for the ``next_`` labels, then every user of it for the ranking."""
        cut = self.lines.cuts[0 if stage == "val" else 1]
        baskets = self._evaluated[stage]
        for basket in torch.split(baskets, 2048):
            user = self._user[basket]
            yield {**self._features(user, torch.full(user.shape, cut, dtype=torch.float64)), **self._next(basket)}
        for users in torch.split(self.users(stage), self.ranked_at_once):
            yield self.ranking(users, stage)

    @property
    def ranked_at_once(self) -> int:
        """Users whose candidates fit into about 100 MB."""
        return max(1, 25_000_000 // (len(self.lines.items) * (len(self.cross.names) + 4)))

    def ranking(self, users: Tensor, stage: Stage) -> Batch:
        """Everything that a ranking of the catalogue needs, for users (B,), with the state frozen at the cut.

        ``relevant`` (B, N): bought inside the stage's window. ``fresh`` (B, N): never bought before the cut.
        """
        relevant, fresh = self.answers(users, stage)
        return {**self.state(users, self.lines.cuts[0 if stage == "val" else 1]), "relevant": relevant, "fresh": fresh}

    def state(self, users: Tensor, day: float) -> Batch:
        """What is known of users (B,), 0 for a stranger, strictly before a day: all that a ranking reads."""
        time = torch.full(users.shape, day, dtype=torch.float64)
        cross = self._cross(users, self.lines.items[None], time)
        return {**self._features(users, time), "query": users, "catalogue": self.lines.items, "cross": cross}

    def fresh(self, users: Tensor, day: float) -> Tensor:
        """Items (B, N) of the catalogue that users (B,) never bought before a day."""
        return ~self._matrix(users, self.lines.time < day)

    def users(self, stage: Stage) -> Tensor:
        """Users (U,) who bought something inside the stage's window, sorted."""
        users: Tensor = torch.unique(self._user[self._evaluated[stage]])
        return users

    def answers(self, users: Tensor, stage: Stage) -> tuple[Tensor, Tensor]:
        """``relevant`` and ``fresh`` (B, N) of users (B,); see `ranking`."""
        low = self.lines.cuts[0 if stage == "val" else 1]
        high = self.lines.cuts[1] if stage == "val" else math.inf
        relevant = self._matrix(users, (self.lines.time >= low) & (self.lines.time < high))
        return relevant, self.fresh(users, low)

    @property
    def places(self) -> Tensor:
        """Each line's place in the catalogue: (n,) int64 in [0, N)."""
        return self._place[self.lines.item]

    def _matrix(self, users: Tensor, kept: Tensor) -> Tensor:
        """Who bought what (B, N) among the lines ``kept``."""
        distinct, inverse = torch.unique(users, return_inverse=True)
        row = torch.searchsorted(distinct, self.lines.user).clamp_max(len(distinct) - 1)
        kept = kept & (distinct[row] == self.lines.user)
        found = torch.zeros(len(distinct), len(self.lines.items), dtype=torch.bool)
        found[row[kept], self._place[self.lines.item[kept]]] = True
        return found[inverse]
