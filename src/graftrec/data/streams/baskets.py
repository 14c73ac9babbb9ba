"""Baskets: what a user chose next, from what was known some time before."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from graftrec.data.batch import Batch
from graftrec.data.features.cross_features import Cross
from graftrec.data.features.history import Histories
from graftrec.data.features.past_counts import PastCounts, moments_of
from graftrec.data.schema import Edges, Feature, Label, Stream
from graftrec.data.streams.base import EVERY, WHOLE, Part, Stage, StreamData
from graftrec.data.streams.catalogue import Catalogue
from graftrec.data.streams.events import Lines
from graftrec.data.streams.negatives import Negatives
from graftrec.data.streams.sampling_config import Candidates, History
from graftrec.data.tables.interactions import distinct
from graftrec.utils.seeds import generator as seeded

SAMPLE = 1024  # rows that the scale of numbers is fitted on, each with all its candidates
NUMBERS = ("lines", "lines_30", "days_since")


class BasketRows(StreamData):
    """One row per basket and chunk of at most ``chunk`` distinct items, with negatives drawn from the catalogue.

    The state of a row (histories, counts) is taken ``lag`` days before its basket, uniformly in [0, ``lag``]: in the
    test the state is frozen at the cut, so purchases are predicted from states that are up to a window old, and a model
    that only ever saw fresh states would lean on yesterday. ``next_<attribute>`` is the attribute of one line of the
    basket, drawn once with the split's seed, and missing in all but a basket's first chunk.

    Args:
        name: of the stream. lines: all of them. history: its windows. candidates: what a row is compared with.
        seed: the split's. tables: of users and items. hard: (users, items), see `Candidates`.
    """

    def __init__(
        self,
        name: str,
        lines: Lines,
        history: History,
        candidates: Candidates,
        seed: int,
        tables: tuple[str, str] = ("user", "item"),
        hard: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        self.lines, self._windows, self._candidates = lines, history, candidates
        self._people = tables[0]
        visible = torch.ones(len(lines.user), dtype=torch.bool) if lines.forward else lines.known("val")
        user, item, time = (values[visible] for values in (lines.user, lines.item, lines.time))
        behaviour = None if lines.behaviour is None else lines.behaviour[visible]
        moments = moments_of(time)
        self.history = Histories(user, item, time, behaviour, history.gap, moments, lines.kinds)
        self.catalogue = Catalogue(lines)
        self._place = self.catalogue.place
        attributes = {key: values[lines.items] for key, values in lines.content.items()}
        everybody = None
        if lines.clock:  # without a cut for everybody, a row of another user's test may be earlier than mine
            everybody = visible[visible] if lines.cuts is not None else lines.part[visible] == 0
        places = self._place[item]
        self.cross = Cross(user, places, time, len(lines.items), attributes, everybody, not lines.unique, moments)
        self._activity = PastCounts(user, time, (30.0,) if lines.clock else (), moments)
        usual = lines.cuts[1] - lines.cuts[0] if lines.cuts is not None else 0.0
        self.lag = usual if history.lag is None else history.lag
        self._rows(candidates.chunk, seed)
        labels = [Label("bought", "binary")]
        labels += [Label(f"next_{key}", "category", count) for key, count in lines.classes.items() if count > 1]
        self._numbers = NUMBERS if lines.clock else NUMBERS[:1]
        features = [Feature("user", "id", tables[0])]
        features += [Feature("long", "ids", tables[1])] if history.long else []
        features += [Feature("recent", "history", tables[1], behaviours=lines.kinds)] if history.short else []
        features += [Feature(key, "number") for key in self._numbers]
        self.schema = Stream(name, tuple(features), tuple(labels), tables[1], self.cross.names)
        trained = self._place[lines.item[lines.part == 0]]
        counts = torch.bincount(trained, minlength=len(lines.items))
        keys = None if hard is None else torch.sort(hard[0] * len(lines.items) + self._place[hard[1]]).values
        self._negatives = Negatives(lines.items, counts, candidates.drawn, keys, len(lines.items))
        self._avoided = self._in_basket
        if candidates.avoid == "history":
            own = lines.part == 0
            self._avoided = torch.from_numpy(distinct((lines.user[own] * len(self._place) + lines.item[own]).numpy()))
        self._fit_scale(seed)

    def _rows(self, chunk: int, seed: int) -> None:
        """Cut baskets into chunks of distinct items, and draw each basket's line for the ``next_`` labels."""
        lines = self.lines
        keys = lines.basket * len(self._place) + lines.item
        self._in_basket = torch.from_numpy(distinct(keys.numpy()))  # sorted basket x item
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
        window = torch.zeros(baskets, dtype=torch.int64)
        window[lines.basket] = lines.part
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
        batch = self.draw_sample(seed, SAMPLE)
        numbers = torch.stack([batch[name] for name in self._numbers], -1)
        for key, values in (("numbers", numbers), ("cross", batch["cross"].flatten(0, 1))):
            if len(values) < 2 or not values.shape[1]:
                continue
            spread = values.std(0)
            self._scale[key] = (values.mean(0), torch.where(spread > 1e-6, spread, 1.0))
        self.sample = batch

    def _features(self, user: Tensor, time: Tensor) -> Batch:
        """What is known of users (B,) strictly before times (B,)."""
        windows, found = self._windows, {"user": user}
        if windows.long:
            found["long"] = self.history.window(user, time, windows.long, **windows.reach(windows.long_within))[0]
        if windows.short:
            reach = windows.reach(windows.short_within)
            found["recent"], found["recent_age"] = self.history.window(user, time, windows.short, **reach)
            if self.lines.behaviour is not None:
                found["recent_behaviour"] = self.history.behaviours(user, time, windows.short, **reach)
        numbers = self._activity(user, time)
        if self.lines.clock:
            numbers = torch.cat([numbers, torch.log1p(self.history.since(user, time))[:, None]], 1)
        mean, spread = self._scale["numbers"]
        return found | dict(zip(self._numbers, ((numbers - mean) / spread).unbind(1), strict=True))

    def _next(self, basket: Tensor) -> Batch:
        return {
            f"next_{key}": values[self._drawn[basket]] - 1  # 0 is unknown in a table, -1 is missing in a label
            for key, values in self.lines.content.items()
            if self.lines.classes[key] > 1
        }

    def _cross(self, user: Tensor, items: Tensor, time: Tensor) -> Tensor:
        mean, spread = self._scale["cross"]
        return (self.cross(user, self._place[items], time) - mean) / spread

    def edges(self) -> Edges:
        return self.lines.edges(self._people)

    def labels(self, column: str) -> Tensor:
        if column == "bought":
            return self.sample[column].flatten()  # positives and negatives as training draws them
        return self._next(self._basket[self._train])[column].masked_fill(~self._opens[self._train], -1)

    def batch(self, index: Tensor, random: torch.Generator, mine: slice = EVERY) -> Batch:
        row = self._train[index]
        basket = self._basket[row]
        user = self._user[basket]
        age = torch.rand(len(row), generator=random, dtype=torch.float64) * self.lag
        bought = self._items[row]
        drawn = self._negatives(user, self._place[bought[bought > 0]], self._candidates.negatives, random)
        row, basket, user, age, bought, drawn = (values[mine] for values in (row, basket, user, age, bought, drawn))
        time = self._time[basket] - age
        drawn = self.lines.items[drawn]
        owner = basket if self._candidates.avoid == "basket" else user
        key = owner[:, None] * len(self._place) + drawn
        at = torch.searchsorted(self._avoided, key).clamp_max(len(self._avoided) - 1)
        label = torch.cat([(bought > 0).float(), torch.zeros(drawn.shape)], 1)
        missing = torch.cat([bought == 0, self._avoided[at] == key], 1)
        candidate = torch.cat([bought, drawn], 1)
        labels = {name: values.masked_fill(~self._opens[row], -1) for name, values in self._next(basket).items()}
        found = {
            **self._features(user, time), **labels, "candidate": candidate,
            "cross": self._cross(user, candidate, time), "bought": label.masked_fill(missing, torch.nan),
        }  # fmt: skip
        if self._negatives.corrected:
            found["log_q"] = self._negatives.log_q(self._place[candidate])
        return found

    def evaluation(self, stage: Stage, part: Part = WHOLE) -> Iterator[Batch]:
        """First every basket of the stage for the ``next_`` labels, then every user of it for the ranking."""
        if not len(self._evaluated[stage]):
            return
        times = self.lines.times(stage)
        if self.lines.content:
            for together in torch.split(self._evaluated[stage], 2048):
                basket = together[part.of(len(together))]
                user = self._user[basket]
                yield {**self._features(user, times[user]), **self._next(basket)}
        for users in torch.split(self.users(stage), self.ranked_at_once):
            yield self.ranking(users[part.of(len(users))], stage)

    @property
    def asked_at_once(self) -> int:
        """Users whose state, with cross columns of all candidates, is looked up at once."""
        return self.ranked_at_once

    @property
    def ranked_at_once(self) -> int:
        """Users who are ranked for at once."""
        return self.catalogue.at_once(len(self.cross.names))

    def ranking(self, users: Tensor, stage: Stage) -> Batch:
        """Everything that a ranking of the catalogue needs, for users (B,), with the state of the stage's beginning."""
        return {**self.state(users, stage), **self.answers(users, stage)}

    def answers(self, users: Tensor, stage: Stage) -> Batch:
        """What a ranking is judged by, for users (B,); see `Catalogue`."""
        return self.catalogue.answers(users, stage)

    def state(self, users: Tensor, at: str) -> Batch:
        """What is known of users (B,), 0 for a stranger, as of a stage or the ``latest`` row: all a ranking reads."""
        time = self.lines.times(at)[users]
        cross = self._cross(users, self.lines.items[None], time)
        return {**self._features(users, time), "query": users, "catalogue": self.lines.items, "cross": cross}

    def fresh(self, users: Tensor, at: str) -> Tensor:
        """Items (B, N) of the catalogue that users (B,) never chose before a stage, or at all if it is ``latest``."""
        return self.catalogue.fresh(users, at)

    def users(self, stage: Stage) -> Tensor:
        """Users (U,) who chose something in the stage, sorted."""
        return self.catalogue.users(stage)

    @property
    def places(self) -> Tensor:
        """Each line's place in the catalogue: (n,) int64 in [0, N)."""
        return self._place[self.lines.item]
