"""Metrics of tasks on rows: predictions and labels side by side until the end of a stage."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from graftrec.batch import Batch
from graftrec.metrics.pointwise import Value
from graftrec.tasks.base import Task, gathered

COHORTS = ("warm", "cold_user", "cold_item", "cold_both")


class RowTask(Task):
    """A task that is evaluated on single rows, and per cohort as ``metric/cohort`` where some are cold."""

    _kept: dict[str, list[Tensor]] | None = None
    _units: dict[str, Tensor] | None = None

    def update(self, logits: Tensor, batch: Batch, given: Tensor | None = None) -> None:
        found = {name: values.detach() for name, values in self.seen(logits, batch, given).items()}
        cohort = cohort_of(batch)
        if cohort is not None:
            found["cohort"] = cohort
        self._kept = self._kept or {}
        for name, values in found.items():
            self._kept.setdefault(name, []).append(values)

    def seen(self, logits: Tensor, batch: Batch, given: Tensor | None) -> dict[str, Tensor]:
        """What metrics are made of: ``prediction`` and ``label`` of each row, and its ``user`` if there is one.

        A row with candidates is one row for each of them.
        """
        prediction, label = self.predict(logits).float(), self.labels(batch)
        found = {"prediction": prediction, "label": label}
        if "user" in batch:
            found["user"] = batch["user"]
        if label.ndim > 1:
            found |= {"prediction": prediction.flatten(), "label": label.flatten()}
            if "user" in found:
                found["user"] = found["user"].repeat_interleave(label[0].numel())
        return found

    def compute(self) -> dict[str, Value]:
        seen = gathered(self._kept or {})
        self._kept, self._units = None, {}
        if not seen or not len(seen["label"]):
            return {self.main: Value(None, "0 rows")}
        cohorts = seen.pop("cohort", None)
        self._units = self.per_row(seen["prediction"], seen["label"])
        for number, cohort in enumerate(COHORTS):
            own = torch.zeros(0, dtype=torch.bool) if cohorts is None else cohorts == number
            if bool(own.any()):
                values = self.per_row(seen["prediction"][own], seen["label"][own])
                for name, each in values.items():
                    spread = each.new_full((len(own), *each.shape[1:]), torch.nan)
                    spread[own] = each
                    self._units[f"{name}/{cohort}"] = spread
        return by_cohort(self.metrics, seen, cohorts)

    def units(self) -> dict[str, Tensor]:
        return self._units or {}

    @abstractmethod
    def metrics(self, seen: Mapping[str, Tensor]) -> dict[str, Value]:
        """Metrics of all rows, from what `seen` said of each: (n, ...)."""

    def per_row(self, prediction: Tensor, label: Tensor) -> dict[str, Tensor]:
        """Metrics whose mean over rows is the metric, row by row."""
        return {}


def cohort_of(batch: Batch) -> Tensor | None:
    """Which of `COHORTS` each row (B,) is in; none where all of the stage are warm."""
    cold = [batch[name] for name in ("cold_user", "cold_item") if name in batch]
    return cold[0].long() + (2 * cold[1].long() if len(cold) > 1 else 0) if cold else None


def by_cohort(
    metrics: Callable[[Mapping[str, Tensor]], dict[str, Value]], seen: Mapping[str, Tensor], cohorts: Tensor | None
) -> dict[str, Value]:
    """``metrics`` of columns (n, ...), and as ``metric/cohort`` of the rows of each of ``cohorts`` (n,), if any."""
    found = metrics(seen)
    if cohorts is None:
        return found
    for number, cohort in enumerate(COHORTS):
        own = cohorts == number
        if bool(own.any()):
            values = metrics({name: part[own] for name, part in seen.items()})
            found |= {f"{name}/{cohort}": value for name, value in values.items()}
    return found


def correct(prediction: Tensor, label: Tensor) -> Tensor:
    """1 where the likeliest class is the label, NaN where the label is missing: (n,) float64."""
    return (prediction.argmax(1) == label).double().masked_fill(label == -1, torch.nan)
