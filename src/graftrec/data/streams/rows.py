"""Single rows of a table with labels."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from graftrec.batch import Batch
from graftrec.data.streams.base import Stage, StreamData
from graftrec.schema import Stream


class TableRows(StreamData):
    """Rows with ids, numbers and labels, each kind one contiguous matrix, so that a batch is three gathers.

    Args:
        schema: ids, then numbers, in the order of the matrices; labels likewise.
        ids: (n, F) int64. numbers: (n, M) float32. labels: (n, T) float32, NaN where missing.
        train, val, test: row numbers of each split.
        seed: the split's. evaluated_at_once: rows of an evaluation batch.
    """

    def __init__(
        self,
        schema: Stream,
        ids: Tensor,
        numbers: Tensor,
        labels: Tensor,
        train: Tensor,
        val: Tensor,
        test: Tensor,
        seed: int,
        evaluated_at_once: int = 8192,
    ) -> None:
        self.schema, self.rows, self._at_once = schema, len(train), evaluated_at_once
        self._ids, self._numbers, self._labels, self._train = ids, numbers, labels, train
        self._evaluated = {"val": val, "test": test}
        self.splits = {"train": len(train), "val": len(val), "test": len(test)}
        self._id_names = [feature.name for feature in schema.features if feature.kind == "id"]
        self._number_names = [feature.name for feature in schema.features if feature.kind == "number"]
        self.sample = self.draw_sample(seed) if self.rows else {}

    def batch(self, index: Tensor, random: torch.Generator) -> Batch:
        return self._take(self._train[index])

    def evaluation(self, stage: Stage) -> Iterator[Batch]:
        for rows in torch.split(self._evaluated[stage], self._at_once):
            yield self._take(rows)

    def labels(self, column: str) -> Tensor:
        return self._labels[self._train, [label.name for label in self.schema.labels].index(column)]

    def _take(self, rows: Tensor) -> Batch:
        batch = dict(zip(self._id_names, self._ids[rows].unbind(1), strict=True))
        batch |= dict(zip(self._number_names, self._numbers[rows].unbind(1), strict=True))
        names = [label.name for label in self.schema.labels]
        return batch | dict(zip(names, self._labels[rows].unbind(1), strict=True))
