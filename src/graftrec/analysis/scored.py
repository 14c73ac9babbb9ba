"""What a user would pick instead of a network, measured on the same rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import takewhile

import numpy as np
import torch
from torch import Tensor

from graftrec.analysis.baselines import Baseline, Ease, ItemKnn, OwnFrequency, Past, Popularity, Scores, choose
from graftrec.data.streams.base import StreamData
from graftrec.data.streams.baskets import BasketRows
from graftrec.metrics.pointwise import Value, binary, numbers
from graftrec.metrics.pointwise import classes as class_metrics
from graftrec.metrics.ranking import ranking_metrics
from graftrec.tasks.base import Task

RANKERS: tuple[type[Baseline], ...] = (Popularity, OwnFrequency, ItemKnn, Ease)


@dataclass
class Scored:
    """A scored baseline of one task: its test metrics, values per user, and the setting that validation chose."""

    metrics: dict[str, Value]
    units: dict[str, Tensor] = field(default_factory=dict)
    chosen: float | None = None


def score_baselines(task: Task, stream: StreamData) -> dict[str, Scored]:
    """Baselines of a task by name: rankers for a ranking; else ``mean`` or ``majority`` and the stream's own."""
    if task.ranks and isinstance(stream, BasketRows):
        return {baseline.name: _ranked(baseline(), stream, int(task.main.partition("@")[2])) for baseline in RANKERS}
    return _rows(task, stream)


def _ranked(baseline: Baseline, stream: BasketRows, k: int) -> Scored:
    lines = stream.lines
    users = len(lines.row_of)
    past = Past(lines.user.numpy(), stream.places.numpy(), lines.time.numpy(), users, len(lines.items))
    judged = stream.users("val")
    relevant, _ = stream.answers(judged, "val")

    def on_validation(scores: Scores) -> float:
        values = ranking_metrics(torch.from_numpy(scores)[judged], relevant, k=k)[f"ndcg@{k}"]
        return float(values.nanmean())

    value = choose(baseline, past, lines.cuts[0], on_validation)
    judged = stream.users("test")
    scores = torch.from_numpy(baseline.scores(past, lines.cuts[1], value))[judged]
    relevant, fresh = stream.answers(judged, "test")
    units = ranking_metrics(scores, relevant, k=k)
    first = ranking_metrics(scores, relevant & fresh, fresh, k=k)
    units |= {f"{name}/first_time": values for name, values in first.items()}
    ranks = torch.from_numpy(np.unique(scores.numpy(), return_inverse=True)[1].reshape(scores.shape)).double()
    metrics = {"auc": binary((ranks / max(1.0, float(ranks.max()))).flatten(), relevant.flatten().float())["auc"]}
    for name, values in units.items():
        metrics[name] = _mean(values)
    return Scored(metrics, units, value)


def _mean(values: Tensor) -> Value:
    kept = values[~values.isnan()]
    return Value(float(kept.mean())) if len(kept) else Value(None, "0 users with a relevant item")


def _rows(task: Task, stream: StreamData) -> dict[str, Scored]:
    trained = stream.labels(task.column)
    rows = takewhile(lambda batch: "relevant" not in batch, stream.evaluation("test"))  # rankings come last
    batches = [batch for batch in rows if task.column in batch]
    if not batches:
        return {}
    label = torch.cat([batch[task.column].flatten() for batch in batches])
    if task.label.kind == "category":
        share = torch.bincount(trained[trained >= 0], minlength=task.label.classes).float()
        share = share / share.sum().clamp_min(1)
        return {"majority": Scored(class_metrics(share.expand(len(label), -1), label))}
    mean = trained[~trained.isnan()].mean()
    measure = binary if task.label.kind == "binary" else numbers
    found = {"mean": Scored(measure(mean.expand(len(label)), label))}
    for name in stream.baselines:
        values = torch.cat([batch[name].flatten() for batch in batches])
        found[name] = Scored(measure(values, label))
    return found
