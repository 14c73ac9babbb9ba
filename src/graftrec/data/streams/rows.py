"""Single rows of a table with labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from graftrec.data.batch import Batch
from graftrec.data.features.history import Histories
from graftrec.data.features.train_statistics import Fitted
from graftrec.data.schema import UNSEEN, Feature, Label, LabelKind, Stream
from graftrec.data.streams.base import EVERY, WHOLE, Part, Stage, StreamData
from graftrec.data.streams.sampling_config import History
from graftrec.data.tables.builder import picked
from graftrec.data.tables.interactions import Column, Interactions, Ints
from graftrec.utils.seeds import generator

EVALUATED_AT_ONCE = 8192


@dataclass(frozen=True, eq=False)
class Place:
    """Where the ids of a column go: a ``table``, and the entity of each code (K + 1,), the last for none: 0."""

    table: str
    entity: Ints


@dataclass(frozen=True, eq=False)
class Person:
    """A column of users or items: its `Place`, the codes (n,) of all rows, and who training never saw (E,) bool."""

    place: Place
    codes: Tensor
    cold: Tensor

    def of(self, rows: Tensor) -> Tensor:
        """Entities (B,) of ``rows`` (B,)."""
        return gather(torch.from_numpy(self.place.entity), gather(self.codes, rows))


class Answers(NamedTuple):
    """A label of rows (n,), whose they are, 0 where nobody knows, and their days (n,), none without a clock."""

    label: Tensor
    user: Tensor
    day: Tensor | None


def gather(values: Tensor, rows: Tensor) -> Tensor:
    """``values[rows]`` for one index; twice as fast as indexing on rows of a matrix."""
    return torch.index_select(values, 0, rows)


class TableRows(StreamData):
    """Rows with ids, numbers and labels, each kind one contiguous matrix, so that a batch is a few gathers.

    The matrices hold raw codes and raw numbers, in memory or as a memory map; what training rows decided (which ids
    have a row of their own, scales) is applied to a batch. All streams of a dataset share the matrices.

    Args:
        name: of the stream. data: the table. splits: row numbers of train, val and test, and of ``support`` if there
            are rows that a history shows and that nothing is trained on.
        fitted: on the training rows. places: id and multi-value column -> where its ids go.
        people: user and item. past: histories of users, strictly before a row's own time, and their windows.
        time: (n,) days of all rows, which ``past`` needs. seed: the split's.
    """

    def __init__(
        self,
        name: str,
        data: Interactions,
        splits: Mapping[str, Ints],
        fitted: Fitted,
        places: Mapping[str, Place],
        people: Mapping[str, Person],
        past: tuple[Histories, History] | None,
        time: Tensor | None,
        seed: int,
    ) -> None:
        self._data, self._people, self._past, self._time = data, people, past, time
        self._rows = {stage: torch.from_numpy(rows) for stage, rows in splits.items()}
        self._train = self._rows["train"]
        self.rows = len(self._train)
        self.splits = {stage: len(rows) for stage, rows in splits.items() if stage in ("train", "val", "test")}
        self._codes = torch.from_numpy(data.codes)
        self._values = torch.from_numpy(data.values)
        self._answers = torch.from_numpy(data.answers)
        self._lists, self._places = data.lists, places
        # all tables of entities behind each other: one gather for all columns, and -1 finds the slot before its own
        sizes = [len(places[column].entity) for column in data.ids]
        self._offset = torch.tensor(np.cumsum([1, *sizes[:-1]])[: len(sizes)], dtype=torch.int32)
        slots = [np.roll(places[column].entity, 1) for column in data.ids]
        self._entity = torch.from_numpy(np.concatenate(slots) if slots else np.zeros(0, np.int64))
        self._scale = [torch.from_numpy(values) for values in (fitted.mean, fitted.spread, fitted.low, fitted.high)]
        self._clipped = bool(np.isfinite(fitted.low).any())
        self._edges = {column: torch.from_numpy(edges) for column, edges in fitted.edges.items()}
        self._vectors = {
            column: (torch.from_numpy(vectors), *map(torch.from_numpy, fitted.vectors[column]))
            for column, vectors in data.vectors.items()
        }
        self._texts = {column: torch.from_numpy(words) for column, words in data.texts.items()}
        self._weight = None if data.weight is None else torch.from_numpy(data.weight)
        labels = [
            Label(column, "category", _classes(places[column])) if kind == "category" else Label(column, kind_of(kind))
            for column, kind in data.labels.items()
        ]
        self.schema = Stream(name, tuple(self._features()), tuple(labels))
        self._cold = any(bool(person.cold[person.of(rows)].any()) for person in people.values()
                         for stage, rows in self._rows.items() if stage in ("val", "test"))  # fmt: skip
        self.sample = self._sample(seed) if self.rows else {}

    def _sample(self, seed: int) -> Batch:
        """What `draw_sample` draws, read from the matrices on disk, if they are there, instead of mapping them."""
        random = generator(seed, self.schema.name, "sample")
        rows = self._train[torch.randint(self.rows, (min(self.rows, 4096),), generator=random)]
        data = self._data
        few = (torch.from_numpy(picked(values, rows.numpy())) for values in (data.codes, data.values, data.answers))
        return self._take(rows, *few)

    def _features(self) -> Iterator[Feature]:
        data = self._data
        for kind, person in self._people.items():
            yield Feature(kind, "id", person.place.table)
        for name in data.columns:
            column: Column = data.columns[name]
            if name in self._people:
                continue
            if column.kind == "number" and column.buckets:
                yield Feature(name, "id", self._places[name].table)
            elif column.kind == "number":
                yield Feature(name, "number")
            elif column.kind == "vector":
                yield Feature(name, "vector", size=data.vectors[name].shape[1])
            elif column.kind in ("ids", "text"):
                yield Feature(name, "ids", self._places[name].table)
            elif column.kind == "id" and name not in data.labels:
                yield Feature(name, "id", self._places[name].table)
            elif column.kind == "history":
                yield Feature(name, "history", self._places[name].table)
        if self._past is not None:
            histories, windows = self._past
            table = self._people["item"].place.table
            if windows.long:
                yield Feature("long", "ids", table)
            if windows.short:
                yield Feature("recent", "history", table, behaviours=histories.kinds)

    def batch(self, index: Tensor, random: torch.Generator, mine: slice = EVERY) -> Batch:
        return self._read(gather(self._train, index[mine]))

    def shown(self) -> Iterator[Batch]:
        """All rows that a model may look at before an evaluation: training, and support where rows have a history."""
        for rows in torch.split(torch.cat(self._shown()), EVALUATED_AT_ONCE):
            yield self._read(rows)

    def _shown(self) -> list[Tensor]:
        return [self._train] if self._past is None else [self._train, self._rows.get("support", self._train[:0])]

    def before(self, stage: Stage, column: str) -> Answers:
        """A label of all rows that are known before a stage: `shown`, and for the test those of validation."""
        rows = torch.cat([*self._shown(), *([self._rows["val"]] if stage == "test" else [])])
        user = self._people["user"].of(rows) if "user" in self._people else torch.zeros_like(rows)
        return Answers(self._label(column, rows), user, self._days(rows))

    def begins(self, stage: Stage) -> Tensor | None:
        """The day (U,) of each user's first row of a stage, infinity where there is none; none without a clock."""
        rows = self._rows[stage]
        days = self._days(rows)
        if days is None or "user" not in self._people:
            return None
        person = self._people["user"]
        found = torch.full((len(person.cold),), torch.inf, dtype=torch.float64)
        return found.scatter_reduce(0, person.of(rows), days, "amin")

    def _days(self, rows: Tensor) -> Tensor | None:
        """Days (n,) float64 of ``rows`` (n,)."""
        data = self._data
        return torch.from_numpy(data.time[rows.numpy()]) if data.time is not None and data.clock else None

    def evaluation(self, stage: Stage, part: Part = WHOLE) -> Iterator[Batch]:
        for together in torch.split(self._rows[stage], EVALUATED_AT_ONCE) if self.splits[stage] else ():
            rows = together[part.of(len(together))]
            batch = self._read(rows)
            if self._cold:
                batch |= {f"cold_{kind}": person.cold[person.of(rows)] for kind, person in self._people.items()}
            yield batch

    def labels(self, column: str) -> Tensor:
        return self._label(column, self._train)

    def _label(self, column: str, rows: Tensor) -> Tensor:
        if self._data.labels[column] != "category":
            return self._answers[rows, self._data.asked.index(column)]
        return self._numbers(self._codes[rows])[:, self._data.ids.index(column)] - 1

    def strangers(self, column: str, stage: Stage) -> list[str]:
        """Raw values of a category in a stage that training never saw, one for each row."""
        ids = self._data.column(column)
        codes = ids.codes[self._rows[stage].numpy()]
        strange = (codes >= 0) & (self._places[column].entity[codes] == 0)
        return [str(value) for value in ids.keys.gather(codes[strange])]

    def _numbers(self, codes: Tensor) -> Tensor:
        """Entities (B, F) int64 of codes (B, F)."""
        at = codes + self._offset
        return gather(self._entity, at.flatten()).view(at.shape)

    def _read(self, rows: Tensor) -> Batch:
        return self._take(rows, *(gather(values, rows) for values in (self._codes, self._values, self._answers)))

    def _take(self, rows: Tensor, codes: Tensor, raw: Tensor, answers: Tensor) -> Batch:
        data = self._data
        batch: Batch = {kind: person.of(rows) for kind, person in self._people.items()}
        if data.ids:
            columns = self._numbers(codes).unbind(1)
            batch |= {n: ids for n, ids in zip(data.ids, columns, strict=True) if n not in batch}
        if data.numbers:
            batch |= dict(zip(data.numbers, self._scaled(raw).unbind(1), strict=True))
            for column, edges in self._edges.items():
                values = raw[:, data.numbers.index(column)].contiguous()
                batch[column] = torch.where(values.isnan(), 0, torch.bucketize(values, edges, right=True) + 1)
        batch |= dict(self._padded(rows))
        for column, (vectors, mean, spread) in self._vectors.items():
            batch[column] = (vectors[rows] - mean) / spread
        batch |= {column: words[rows].long() for column, words in self._texts.items()}
        batch |= self._history(rows)
        if data.asked:
            batch |= dict(zip(data.asked, answers.unbind(1), strict=True))
        for column, kind in data.labels.items():
            if kind == "category":
                strange = (batch[column] == 0) & (codes[:, data.ids.index(column)] >= 0)
                batch[column] = torch.where(strange, UNSEEN, batch[column] - 1)
        if self._weight is not None:
            batch["weight"] = self._weight[rows]
        return batch

    def _scaled(self, raw: Tensor) -> Tensor:
        mean, spread, low, high = self._scale
        kept = torch.minimum(torch.maximum(raw, low), high) if self._clipped else raw
        return ((kept - mean) / spread).nan_to_num(0.0)  # a missing number is the mean

    def _padded(self, rows: Tensor) -> Iterator[tuple[str, Tensor]]:
        for name, lists in self._lists.items():
            column = self._data.columns[name]
            newest = column.kind == "history"
            codes = lists.padded(rows.numpy(), column.length, newest)
            yield name, torch.from_numpy(self._places[name].entity[codes])
            if newest:  # nobody said when: the place from the end stands for the age
                age = torch.log1p(torch.arange(column.length, 0, -1).float()).expand(len(rows), -1)
                yield f"{name}_age", age

    def _history(self, rows: Tensor) -> Batch:
        if self._past is None or self._time is None:
            return {}
        histories, windows = self._past
        user, time = self._people["user"].of(rows), self._time[rows]
        found: Batch = {}
        if windows.long:
            found["long"] = histories.window(user, time, windows.long, **windows.reach(windows.long_within))[0]
        if windows.short:
            reach = windows.reach(windows.short_within)
            found["recent"], found["recent_age"] = histories.window(user, time, windows.short, **reach)
            if histories.kinds:
                found["recent_behaviour"] = histories.behaviours(user, time, windows.short, **reach)
        return found


def _classes(place: Place) -> int:
    return int(place.entity.max())


def kind_of(kind: str) -> LabelKind:
    """What a label that is a number is to a task."""
    return "binary" if kind == "binary" else "number"
