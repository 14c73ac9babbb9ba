"""Metrics of tasks on rows: predictions and labels side by side until the end of a stage."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from graftrec.data.batch import Batch
from graftrec.tasks.base import Task, gathered
from graftrec.tasks.metrics.pointwise import Value
from graftrec.tasks.metrics.row_values import spread

COHORTS = ("warm", "cold_user", "cold_item", "cold_both")


class RowTask(Task):
    """A task that is evaluated on single rows, and per cohort as ``metric/cohort`` where some are cold."""

    _kept: dict[str, list[Tensor]] | None = None
    _units: dict[str, Tensor] | None = None

    def update(self, logits: Tensor, batch: Batch, given: Tensor | None = None) -> None:
        self._kept = self._kept or {}
        for name, values in self.seen(logits, batch, given).items():
            self._kept.setdefault(name, []).append(values.detach())

    def seen(self, logits: Tensor, batch: Batch, given: Tensor | None) -> dict[str, Tensor]:
        """What metrics are made of: the ``prediction`` of each row, and what is `about` it."""
        prediction = self.predict(logits).float()
        return self.about(batch) | {"prediction": prediction.flatten() if self._candidates(batch) else prediction}

    def about(self, batch: Batch) -> dict[str, Tensor]:
        """The ``label`` of each evaluated row, and its ``user`` and ``cohort``, see `cohort_of`, if there is such.

        A row with candidates is one row for each of them.
        """
        label, cohort = self.labels(batch), cohort_of(batch)
        found = {"user": batch["user"]} if "user" in batch else {}
        found |= {} if cohort is None else {"cohort": cohort}
        if not self._candidates(batch):
            return {"label": label, **found}
        each = label.shape[1:].numel()
        return {"label": label.flatten(), **{name: values.repeat_interleave(each) for name, values in found.items()}}

    def _candidates(self, batch: Batch) -> bool:
        return len(self.columns) == 1 and self.labels(batch).ndim > 1

    def compute(self) -> dict[str, Value]:
        seen = gathered(self._kept or {})
        self._kept, self._units = None, {}
        if not seen or not len(seen["label"]):
            return {self.main: Value(None, "0 rows")}
        found = by_cohort(self.metrics, seen)
        self._units = units_of(self, seen)
        return found

    def units(self) -> dict[str, Tensor]:
        return self._units or {}

    @abstractmethod
    def metrics(self, seen: Mapping[str, Tensor]) -> dict[str, Value]:
        """Metrics of all rows, from what `seen` said of each: (n, ...)."""

    def per_row(self, seen: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Values (n,) of each row for the metrics that have such: their mean, without NaN, is the metric."""
        return {}


def cohort_of(batch: Batch) -> Tensor | None:
    """Which of `COHORTS` each row (B,) is in; none where all of the stage are warm."""
    places = {"cold_user": 1, "cold_item": 2}
    parts = [place * batch[name].long() for name, place in places.items() if name in batch]
    return torch.stack(parts).sum(0) if parts else None


def by_cohort(
    metrics: Callable[[Mapping[str, Tensor]], dict[str, Value]], seen: Mapping[str, Tensor]
) -> dict[str, Value]:
    """``metrics`` of columns (n, ...), and as ``metric/cohort`` of the rows of each, if they have a ``cohort``."""
    found = dict(metrics(seen))
    for cohort, own in _cohorts(seen):
        values = metrics({name: part[own] for name, part in seen.items()})
        found |= {f"{name}/{cohort}": value for name, value in values.items()}
    return found


def units_of(task: RowTask, seen: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`Task.units` of what was seen of n rows: ``metric``, ``metric/cohort``, NaN outside of it, and ``user``."""
    found = dict(task.per_row(seen))
    for cohort, own in _cohorts(seen):
        values = task.per_row({name: part[own] for name, part in seen.items()})
        found |= {f"{name}/{cohort}": spread(each, own) for name, each in values.items()}
    return found | ({"user": seen["user"].long()} if "user" in seen else {})


def _cohorts(seen: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Each of `COHORTS` that somebody is in, and who (n,)."""
    for number, cohort in enumerate(COHORTS if "cohort" in seen else ()):
        own = seen["cohort"] == number
        if bool(own.any()):
            yield cohort, own
