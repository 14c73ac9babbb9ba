"""Metrics of tasks on rows: predictions and labels side by side until the end of a stage."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from graftrec.batch import Batch
from graftrec.metrics.pointwise import Value
from graftrec.tasks.base import Task, gathered


class RowTask(Task):
    """A task that is evaluated on single rows."""

    _seen: tuple[list[Tensor], list[Tensor]] | None = None
    _units: dict[str, Tensor] | None = None

    def update(self, logits: Tensor, batch: Batch) -> None:
        prediction, label = self.predict(logits).detach().float(), batch[self.column]
        if label.ndim > 1:  # one row per candidate
            prediction, label = prediction.flatten(), label.flatten()
        self._seen = self._seen or ([], [])
        self._seen[0].append(prediction)
        self._seen[1].append(label)

    def compute(self) -> dict[str, Value]:
        prediction, label = (gathered(parts) for parts in self._seen or ([], []))
        self._seen, self._units = None, {}
        if not len(label):
            return {self.main: Value(None, "0 rows")}
        self._units = self.per_row(prediction, label)
        return self.metrics(prediction, label)

    def units(self) -> dict[str, Tensor]:
        return self._units or {}

    @abstractmethod
    def metrics(self, prediction: Tensor, label: Tensor) -> dict[str, Value]:
        """Metrics of all rows (n,)."""

    def per_row(self, prediction: Tensor, label: Tensor) -> dict[str, Tensor]:
        """Metrics that are means over rows, row by row, higher is better."""
        return {}


def correct(prediction: Tensor, label: Tensor) -> Tensor:
    """1 where the likeliest class is the label, NaN where the label is missing: (n,) float64."""
    return (prediction.argmax(1) == label).double().masked_fill(label == -1, torch.nan)
