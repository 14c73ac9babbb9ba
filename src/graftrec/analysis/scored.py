"""What a user would pick instead of a network, measured on the same rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile

import torch
from torch import Tensor

from graftrec.analysis.baselines import Baseline, Ease, ItemKnn, OwnFrequency, Past, Popularity, Scores, choose
from graftrec.analysis.gbdt import gbdt
from graftrec.data.streams.base import Stage, StreamData
from graftrec.data.streams.baskets import BasketRows
from graftrec.data.streams.rows import TableRows
from graftrec.data.streams.sequences import SequenceRows
from graftrec.metrics.pointwise import Value, binary, numbers
from graftrec.metrics.pointwise import classes as class_metrics
from graftrec.metrics.ranking import per_user, ranking_metrics
from graftrec.tasks.base import Task, within
from graftrec.tasks.ranking import RankingTask, means_over_users

RANKERS: tuple[type[Baseline], ...] = (Popularity, OwnFrequency, ItemKnn, Ease)


@dataclass
class Scored:
    """A scored baseline of one task: its test metrics, values per user, and the setting that validation chose."""

    metrics: dict[str, Value]
    units: dict[str, Tensor] = field(default_factory=dict)
    chosen: float | None = None


def score_baselines(task: Task, stream: StreamData, target: bool = True) -> dict[str, Scored]:
    """Baselines of a task by name: rankers for a ranking; else ``mean`` or ``majority``, ``gbdt``, the stream's own.

    Beside a task that is no ``target`` stands only popularity or a constant: the others take longer than some training.
    """
    if isinstance(task, RankingTask) and isinstance(stream, (BasketRows, SequenceRows)):
        k = int(task.main.partition("@")[2])
        asked = [b for b in (RANKERS if target else RANKERS[:1]) if stream.lines.seen or b is not OwnFrequency]
        return {baseline.name: score_ranker(baseline(), stream, k, task.relevant) for baseline in asked}
    if len(task.columns) > 1:
        return {}  # no single number to predict
    found = _rows(task, stream)
    if target and found and isinstance(stream, TableRows):
        found["gbdt"] = Scored(gbdt(stream, task.label, task.labels))
    return found


def score_ranker(
    baseline: Baseline, stream: BasketRows | SequenceRows, k: int, relevant: str = "relevant"
) -> Scored:
    """One ranker on the test users of a stream, fitted on all that came before, its setting chosen on validation.

    It is judged by the column ``relevant`` of the stream's answers.
    """
    lines = stream.lines
    people, items = len(lines.cold_user), len(lines.items)
    if items > baseline.most:
        why = f"a catalogue of {items:,} items; up to {baseline.most:,} are scored"
        return Scored({f"ndcg@{k}": Value(None, why)})

    def past(stage: Stage) -> Past:
        kept = lines.known(stage)
        user, place, time = (values[kept].numpy() for values in (lines.user, stream.places, lines.time))
        return Past(user, place, time, people, items)

    def blocks(stage: Stage) -> Iterator[tuple[slice, Tensor]]:
        size, users = max(1, 20_000_000 // items), stream.users(stage)
        for low in range(0, len(users), size):
            yield slice(low, low + size), users[low : low + size]

    def on_validation(scores: Scores) -> float:
        parts = []
        for rows, users in blocks("val"):
            answers = stream.answers(users, "val")
            own = ranking_metrics(torch.from_numpy(scores[rows]), answers[relevant], answers.get("listed"), k)
            parts.append(own[f"ndcg@{k}"])
        return float(torch.cat(parts).nanmean()) if parts else float("nan")

    judged = stream.users("val").numpy()
    value = choose(baseline, past("val"), lines.times("val").numpy(), judged, on_validation)
    judged = stream.users("test").numpy()
    scores = baseline.scores(past("test"), lines.times("test").numpy(), value, judged)
    parts = []
    for rows, users in blocks("test"):
        answers = stream.answers(users, "test")
        parts.append(per_user(torch.from_numpy(scores[rows]), answers | {"relevant": answers[relevant]}, k))
    units = {name: torch.cat([part[name] for part in parts]) for name in (parts[0] if parts else ())}
    return Scored(means_over_users(units), units, value)


def _rows(task: Task, stream: StreamData) -> dict[str, Scored]:
    trained = stream.labels(task.column)
    if task.space:
        trained = within(trained, stream.labels(task.space))
    rows = takewhile(lambda batch: "relevant" not in batch, stream.evaluation("test"))  # rankings come last
    batches = [batch for batch in rows if task.column in batch]
    if not batches:
        return {}
    label = torch.cat([task.labels(batch).flatten() for batch in batches])
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
