"""What a user would pick instead of a network, measured on the same rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

import torch
from torch import Tensor

from graftrec.analysis.baselines import Baseline, Ease, ItemKnn, OwnFrequency, Past, Popularity, Scores, choose
from graftrec.analysis.bias import bias
from graftrec.analysis.gbdt import gbdt
from graftrec.analysis.union import past_of
from graftrec.batch import Batch
from graftrec.data.streams.base import Stage, StreamData
from graftrec.data.streams.baskets import BasketRows
from graftrec.data.streams.rows import TableRows
from graftrec.data.streams.sequences import SequenceRows
from graftrec.metrics.lists import Lists
from graftrec.metrics.pointwise import Value, binary, numbers
from graftrec.metrics.pointwise import classes as class_metrics
from graftrec.metrics.ranking import per_user, ranking_metrics
from graftrec.tasks.base import Task, within
from graftrec.tasks.ranking import RankingTask, of_users
from graftrec.tasks.rows import by_cohort, cohort_of

RANKERS: tuple[type[Baseline], ...] = (Popularity, OwnFrequency, ItemKnn, Ease)


@dataclass
class Scored:
    """A scored baseline of one task: its test metrics, values per user, and the setting that validation chose."""

    metrics: dict[str, Value]
    units: dict[str, Tensor] = field(default_factory=dict)
    chosen: float | None = None


def score_baselines(task: Task, stream: StreamData, target: bool = True) -> dict[str, Scored]:
    """Baselines of a task by name: rankers for a ranking; else ``mean`` or ``majority``, ``bias``, ``gbdt``, the
    stream's own.

    Beside a task that is no ``target`` stands only popularity or a constant: the others take longer than some training.
    """
    if isinstance(task, RankingTask) and isinstance(stream, (BasketRows, SequenceRows)):
        asked = [b for b in (RANKERS if target else RANKERS[:1]) if stream.lines.seen or b is not OwnFrequency]
        return {each.name: score_ranker(each(), stream, task.k, task.relevant, task.at) for each in asked}
    if len(task.columns) != 1:
        return {}  # no single number to predict
    found = _rows(task, stream)
    if target and found and isinstance(stream, TableRows):
        if task.label.kind == "number" and {"user", "item"} <= set(stream.sample):
            found["bias"] = _bias(task, stream)
        found["gbdt"] = Scored(gbdt(stream, task.label, task.labels))
    return found


def score_ranker(
    baseline: Baseline,
    stream: BasketRows | SequenceRows,
    k: int,
    relevant: str = "relevant",
    at: Sequence[int] = (),
    beside: Sequence[BasketRows | SequenceRows] = (),
) -> Scored:
    """One ranker on the test users of a stream, fitted on all that came before, its setting chosen on validation.

    It is judged by the column ``relevant`` of the stream's answers, at the lengths ``k`` and ``at``. With streams
    ``beside`` it, whose users are the same, it sees what users chose there as well; only its own catalogue is ranked.
    """
    lines = stream.lines
    items = len(lines.items)
    pasts: dict[Stage, Past] = {stage: past_of(stream, stage, beside) for stage in ("val", "test")}
    width = max(past.n_items for past in pasts.values())
    if width > baseline.most:
        why = f"a catalogue of {width:,} items; up to {baseline.most:,} are scored"
        return Scored({f"ndcg@{k}": Value(None, why)})

    def blocks(stage: Stage) -> Iterator[tuple[slice, Tensor]]:
        size, users = max(1, 20_000_000 // items), stream.users(stage)
        for low in range(0, len(users), size):
            yield slice(low, low + size), users[low : low + size]

    def on_validation(scores: Scores) -> float:
        parts = []
        for rows, users in blocks("val"):
            answers = stream.answers(users, "val")
            own = ranking_metrics(torch.from_numpy(scores[rows, :items]), answers[relevant], answers.get("listed"), k)
            parts.append(own[f"ndcg@{k}"])
        return float(torch.cat(parts).nanmean()) if parts else float("nan")

    judged = stream.users("val").numpy()
    value = choose(baseline, pasts["val"], lines.times("val").numpy(), judged, on_validation)
    judged = stream.users("test").numpy()
    scores = baseline.scores(pasts["test"], lines.times("test").numpy(), value, judged)
    parts, lists = [], Lists((k, *at))
    for rows, users in blocks("test"):
        answers, block = stream.answers(users, "test"), torch.from_numpy(scores[rows, :items])
        parts.append(per_user(block, answers | {"relevant": answers[relevant]}, k, at))
        lists.update(block, answers)
    units = {name: torch.cat([part[name] for part in parts]) for name in (parts[0] if parts else ())}
    return Scored(of_users(units, lists.compute()), units, value)


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
    cohorts = _cohorts(batches)
    found = {"mean": Scored(_measured(task, mean.expand(len(label)), label, cohorts))}
    for name in stream.baselines:
        values = torch.cat([batch[name].flatten() for batch in batches])
        found[name] = Scored(_measured(task, values, label, cohorts))
    return found


def _bias(task: Task, stream: TableRows) -> Scored:
    """The bias of user and item; its penalty is chosen by the task's main metric."""

    def error(prediction: Tensor, label: Tensor) -> float:
        value = numbers(prediction, label)[task.main if task.main in ("rmse", "mae") else "rmse"].value
        return float("inf") if value is None else value

    prediction, penalty = bias(stream, task.labels, error)
    batches = list(stream.evaluation("test"))
    label = torch.cat([task.labels(batch) for batch in batches])
    return Scored(_measured(task, prediction, label, _cohorts(batches)), chosen=penalty)


def _measured(task: Task, prediction: Tensor, label: Tensor, cohorts: Tensor | None) -> dict[str, Value]:
    """Metrics of answers (n,), of all rows and of each cohort."""
    measure = binary if task.label.kind == "binary" else numbers
    columns = {"prediction": prediction, "label": label}
    return by_cohort(lambda rows: measure(rows["prediction"], rows["label"]), columns, cohorts)


def _cohorts(batches: Sequence[Batch]) -> Tensor | None:
    found = [part for part in map(cohort_of, batches) if part is not None]
    return torch.cat(found) if found else None
