"""What a user would pick instead of a network, measured on the same rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile

import torch
from torch import Tensor

from graftrec.analysis.baselines import Baseline, Ease, ItemKnn, OwnFrequency, Past, Popularity, Scores, choose
from graftrec.data.streams.base import Stage, StreamData
from graftrec.data.streams.baskets import BasketRows
from graftrec.metrics.pointwise import Value, binary, numbers
from graftrec.metrics.pointwise import classes as class_metrics
from graftrec.metrics.ranking import per_user, ranking_metrics
from graftrec.tasks.base import Task
from graftrec.tasks.recommendation import means_over_users

CELLS = 250_000_000  # 1 GB of scores
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
    users, items = len(lines.cold_user), len(lines.items)
    if users * items > CELLS and baseline.dense:
        why = f"{users:,} users x {items:,} items are more than the {CELLS:,} cells that fit into memory at once"
        return Scored({f"ndcg@{k}": Value(None, why)})

    def past(stage: Stage) -> Past:
        kept = lines.known(stage)
        user, place, time = (values[kept].numpy() for values in (lines.user, stream.places, lines.time))
        return Past(user, place, time, users, items)

    def blocks(stage: Stage) -> Iterator[Tensor]:
        yield from torch.split(stream.users(stage), max(1, 20_000_000 // items))

    def on_validation(scores: Scores) -> float:
        parts = []
        for block in blocks("val"):
            answers = stream.answers(block, "val")
            own = torch.from_numpy(scores[block.numpy()])
            parts.append(ranking_metrics(own, answers["relevant"], answers.get("listed"), k)[f"ndcg@{k}"])
        return float(torch.cat(parts).nanmean()) if parts else float("nan")

    def values(scores: Scores) -> dict[str, Tensor]:
        parts = [
            per_user(torch.from_numpy(scores[block.numpy()]), stream.answers(block, "test"), k)
            for block in blocks("test")
        ]
        return {name: torch.cat([part[name] for part in parts]) for name in (parts[0] if parts else ())}

    value = choose(baseline, past("val"), lines.times("val").numpy(), on_validation)
    units = values(baseline.scores(past("test"), lines.times("test").numpy(), value))
    return Scored(means_over_users(units), units, value)


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
