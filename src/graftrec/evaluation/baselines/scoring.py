"""What a user would pick instead of a network, measured on the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import takewhile

import torch
from torch import Tensor

from graftrec.data.batch import Batch
from graftrec.data.streams.base import Stage, StreamData
from graftrec.data.streams.baskets import BasketRows
from graftrec.data.streams.rows import TableRows
from graftrec.data.streams.sequences import SequenceRows
from graftrec.evaluation.baselines.bias import bias
from graftrec.evaluation.baselines.class_counts import class_baselines
from graftrec.evaluation.baselines.gbdt import gbdt
from graftrec.evaluation.baselines.merged_history import past_of
from graftrec.evaluation.baselines.rankers import (
    Baseline,
    Ease,
    ItemKnn,
    OwnFrequency,
    Past,
    Popularity,
    RecentPopularity,
    Scores,
    choose,
)
from graftrec.tasks.base import Task, within
from graftrec.tasks.losses.absolute import Absolute
from graftrec.tasks.metrics.beyond_accuracy import Lists
from graftrec.tasks.metrics.direction import sign
from graftrec.tasks.metrics.pointwise import Value, binary, numbers
from graftrec.tasks.metrics.ranking import per_user, ranking_metrics
from graftrec.tasks.ordinal import Ordinal
from graftrec.tasks.ranking import RankingTask, of_users
from graftrec.tasks.regression import Regression
from graftrec.tasks.rows import RowTask, by_cohort, units_of

RANKERS: tuple[type[Baseline], ...] = (Popularity, RecentPopularity, OwnFrequency, ItemKnn, Ease)
CHEAP = RANKERS[:3]
MORE = "train + val"  # rows that a baseline was fitted on


@dataclass
class Scored:
    """A scored baseline of one task: its test metrics, values per user, and the setting that validation chose.

    A setting of several numbers is a text, such as ``50 neighbours, shrink 20``.
    """

    metrics: dict[str, Value]
    units: dict[str, Tensor] = field(default_factory=dict)
    chosen: float | str | None = None
    rows: str = "train"  # what it was fitted on


def score_baselines(task: Task, stream: StreamData, target: bool = True) -> dict[str, Scored]:
    """Baselines of a task by name: rankers for a ranking; else ``mean``, ``majority`` or, of ordered classes and
    absolute errors, ``median``, ``bias``, ``gbdt``, the stream's own.

    Beside a task that is no ``target`` stands only what is counted: the others take longer than some training.
    """
    if isinstance(task, RankingTask) and isinstance(stream, (BasketRows, SequenceRows)):
        of_use = {OwnFrequency: stream.lines.seen, RecentPopularity: stream.lines.clock}
        asked = [each for each in (RANKERS if target else CHEAP) if of_use.get(each, True)]
        return {
            each.name: tried(task, partial(score_ranker, each(), stream, task.k, task.relevant, task.at))
            for each in asked
        }
    if not isinstance(task, RowTask) or len(task.columns) != 1:
        return {}  # no single number to predict
    found = _rows(task, stream)
    if target and found and isinstance(stream, TableRows):
        if task.label.kind in ("number", "binary") and {"user", "item"} <= set(stream.sample):
            found["bias"] = tried(task, partial(_bias, task, stream))
        found["gbdt"] = tried(task, partial(_gbdt, task, stream))
    return found


def tried(task: Task, work: Callable[[], Scored]) -> Scored:
    """What a baseline scores; one that fails is undefined with the reason, since the training that it stands beside is
    done: no label in the test, one positive, nobody who is asked about anything new, no memory."""
    try:
        return work()
    except Exception as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return Scored({task.main: Value(None, f"it could not be fitted or judged ({why})")})


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
    chosen = value if value is None or isinstance(value, float) else str(value)
    return Scored(of_users(units, lists.compute()), units | {"user": stream.users("test")}, chosen, MORE)


def _rows(task: RowTask, stream: StreamData) -> dict[str, Scored]:
    trained = stream.labels(task.column)
    if task.space:
        trained = within(trained, stream.labels(task.space))
    batches = _evaluated(task, stream, "test")
    if not batches:
        return {}
    about = _about(task, batches)
    count = len(about["label"])

    def judged(prediction: Callable[[], Tensor]) -> Scored:
        return tried(task, lambda: _measured(task, prediction(), about))

    if task.label.kind == "category":
        share = torch.bincount(trained[trained >= 0], minlength=task.label.classes).float()
        share = share / share.sum().clamp_min(1)
        found = {"median" if isinstance(task, Ordinal) else "majority": judged(lambda: share.expand(count, -1))}
        try:
            counted = class_baselines(task, stream, share, lambda: _about(task, _evaluated(task, stream, "val")), about)
        except ValueError as error:  # nothing in validation to choose by
            return found | {"own_frequency": Scored({task.main: Value(None, str(error))})}
        for name, (p, way) in counted.items():
            found[name] = tried(task, partial(_counted, task, p, about, way))
        return found
    known = trained[~trained.isnan()]
    found = {"mean": judged(lambda: known.mean().expand(count))}
    if task.label.kind == "number" and (isinstance(task.criterion, Absolute) or task.main == "mae"):
        found["median"] = judged(lambda: known.median().expand(count))  # the best constant of an absolute error
    for name in stream.baselines:
        found[name] = judged(partial(_column, batches, name))
    return found


def _column(batches: Sequence[Batch], name: str) -> Tensor:
    return torch.cat([batch[name].flatten() for batch in batches])


def _counted(task: RowTask, prediction: Tensor, about: Mapping[str, Tensor], way: float | str | None) -> Scored:
    return replace(_measured(task, prediction, about, way), rows=MORE)


def _evaluated(task: RowTask, stream: StreamData, stage: Stage) -> list[Batch]:
    """Batches of a stage that have the task's label; rankings come last."""
    rows = takewhile(lambda batch: "relevant" not in batch, stream.evaluation(stage))
    return [batch for batch in rows if task.column in batch]


def _bias(task: RowTask, stream: TableRows) -> Scored:
    """The bias of user and item; its penalty is chosen by the task's main metric, or the nearest of single rows.

    Of a binary label it is the linear probability model, inside (0, 1).
    """
    shares = task.label.kind == "binary" and not isinstance(task, Regression)

    def error(prediction: Tensor, label: Tensor) -> float:
        measured = binary(_share(prediction), label) if shares else numbers(prediction, label)
        main = task.main if task.main in measured else "auc" if shares else "rmse"
        value = measured[main].value
        return float("inf") if value is None else -sign(main) * value

    prediction, penalty = bias(stream, task.labels, task.row_weights, error)
    prediction = _share(prediction) if shares else prediction
    return _measured(task, prediction, _about(task, stream.evaluation("test")), penalty)


def _share(prediction: Tensor) -> Tensor:
    return prediction.clamp(1e-6, 1 - 1e-6)


def _gbdt(task: RowTask, stream: TableRows) -> Scored:
    """Boosted trees, or why there are none."""
    prediction = gbdt(stream, task.label, task.labels, task.row_weights)
    if isinstance(prediction, str):
        return Scored({task.main: Value(None, prediction)})
    return replace(_measured(task, prediction, _about(task, stream.evaluation("test"))), rows=MORE)


def _about(task: RowTask, batches: Iterable[Batch]) -> dict[str, Tensor]:
    """What `RowTask.about` says of the rows (n,) of all batches."""
    parts = [task.about(batch) for batch in batches]
    return {name: torch.cat([part[name] for part in parts]) for name in (parts[0] if parts else ())}


def _measured(
    task: RowTask, prediction: Tensor, about: Mapping[str, Tensor], chosen: float | str | None = None
) -> Scored:
    """Answers (n, ...) judged as the task's own are: the metrics that it makes of them, per cohort as well, and units.

    Rows without a label are there, as NaN, so that values stand beside those of the task row by row.
    """
    seen = {"prediction": prediction, **about}
    return Scored(by_cohort(task.metrics, seen), units_of(task, seen), chosen=chosen)
