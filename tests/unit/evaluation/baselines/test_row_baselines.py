"""What stands beside a model on single rows: the same metrics, and a value for each of the task's own rows."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from graftrec.data.datasets.base import Dataset
from graftrec.data.protocols.cross_domain import CrossDomain
from graftrec.data.splits.predefined import Official
from graftrec.data.streams.base import StreamData
from graftrec.data.streams.pairs import PairRows
from graftrec.data.streams.sampling_config import History
from graftrec.data.tables.builder import Builder, Shape
from graftrec.data.tables.interactions import Column, Interactions
from graftrec.evaluation.baselines import scoring as place
from graftrec.evaluation.baselines.bias import GRID
from graftrec.evaluation.baselines.scoring import score_baselines
from graftrec.models.heads.linear import Linear
from graftrec.tasks.binary import Binary
from graftrec.tasks.classification import Classification
from graftrec.tasks.esmm import ESMM
from graftrec.tasks.losses.absolute import Absolute
from graftrec.tasks.losses.bce import Bce
from graftrec.tasks.losses.cross_entropy import CrossEntropy
from graftrec.tasks.losses.ordinal import Ordinal as OrdinalLoss
from graftrec.tasks.losses.quantile import Quantile
from graftrec.tasks.losses.squared import Squared
from graftrec.tasks.losses.weighted_logistic import WeightedLogistic
from graftrec.tasks.metrics.pointwise import Value
from graftrec.tasks.ordinal import Ordinal
from graftrec.tasks.quantiles import Quantiles
from graftrec.tasks.regression import Regression
from graftrec.tasks.rows import COHORTS, RowTask
from graftrec.tasks.watch_time import WatchTime

torch.set_num_threads(1)
ROWS, TEST = 1500, 400


class Visits(Dataset):
    """Rows of users and items with labels of all kinds, of which many are missing; the test has new ones of both."""

    people = True

    def read(self) -> Interactions:
        random = np.random.default_rng(0)
        late = np.arange(ROWS) >= ROWS - TEST
        user, item = (random.integers(1, known + new * late) for known, new in ((40, 6), (60, 20)))
        shape = Shape(
            keys=("user", "item") if self.people else ("item",),
            time=True,
            split=True,
            columns={"price": Column("number")},
            labels={"click": "binary", "like": "binary", "watched": "number", "stars": "category"},
        )
        stars = np.clip(user % 3 + item % 3 + random.integers(0, 2, ROWS), 1, 5)
        frame = pl.DataFrame(
            {
                "user": user,
                "item": item,
                "watched": np.where(random.random(ROWS) < 0.2, np.nan, 1.0 + user % 5 + random.random(ROWS)),
                "time": np.arange(ROWS) / 10,
                "split": np.repeat([0, 1, 2], [ROWS - 2 * TEST, TEST, TEST]),
                "price": random.normal(size=ROWS),
                "click": np.where(random.random(ROWS) < 0.1, np.nan, random.random(ROWS) < 0.6),
                "like": np.where(random.random(ROWS) < 0.2, np.nan, random.random(ROWS) < 0.2 + 0.1 * (user % 4)),
                "stars": [None if lost else str(n) for n, lost in zip(stars, random.random(ROWS) < 0.1, strict=True)],
            }
        )
        builder = Builder(shape)
        builder.add(frame)
        return builder.done("visits")


class Things(Visits):
    """The same rows, and nobody knows whose they are."""

    people = False


def prepared(dataset: Dataset) -> dict[str, StreamData]:
    protocol = CrossDomain(dataset, Official(), History(short=4))
    protocol.prepare([])
    return protocol.streams


def pairs() -> PairRows:
    """6 items that are in all of 14 baskets, so that every pair of them is held out."""
    item, basket = torch.arange(1, 7).repeat(14), torch.arange(14).repeat_interleave(6)
    window = torch.tensor([0] * 2 + [1] * 6 + [2] * 6).repeat_interleave(6)
    return PairRows("pairs", basket, item, window, torch.arange(1, 7), 0, reach=6)


@pytest.fixture(scope="module")
def streams() -> dict[str, StreamData]:
    visits = prepared(Visits())
    return {"nobodys": prepared(Things())["rows"], "pairs": pairs(), **{n: visits[n] for n in ("rows", "sequences")}}


NAN = math.nan
CONSTANT, TREES, ALL = ["mean"], ["mean", "gbdt"], ["mean", "bias", "gbdt"]
CASES: list[Any] = [
    pytest.param(stream, cls, loss, column, more, names, id=f"{cls.__name__}-{stream}-{column}-{more.get('space', '')}")
    for stream, cls, loss, column, more, names in [
        ("rows", Binary, Bce(), "like", {}, ALL),
        ("rows", Binary, Bce(), "like", {"space": "click"}, ALL),
        ("rows", Binary, Bce(), "click", {}, ALL),
        ("rows", ESMM, Bce(), "like", {"space": "click", "given": "click"}, ALL),
        ("rows", Regression, Absolute(), "watched", {"chosen_by": "mae"}, ALL),
        ("rows", Regression, Absolute(), "watched", {"space": "click"}, ALL),
        ("rows", Regression, Squared(), "like", {}, ALL),
        ("rows", WatchTime, WeightedLogistic(), "watched", {}, ALL),
        ("rows", Quantiles, Quantile(), "watched", {}, ALL),
        ("rows", Classification, CrossEntropy(), "stars", {}, ["majority", "gbdt"]),
        ("rows", Classification, CrossEntropy(), "stars", {"space": "click"}, ["majority", "gbdt"]),
        ("rows", Ordinal, OrdinalLoss(), "stars", {}, ["median", "gbdt"]),
        ("nobodys", Binary, Bce(), "like", {"space": "click"}, TREES),
        ("nobodys", Regression, Absolute(), "watched", {}, TREES),
        ("sequences", Binary, Bce(), "like", {}, CONSTANT),
        ("sequences", Regression, Absolute(), "watched", {}, CONSTANT),
        ("pairs", Regression, Squared(), "similarity", {}, ["mean", "training_similarity"]),
    ]
]


def made(cls: type[RowTask], loss: Any, stream: StreamData, column: str, more: dict[str, Any]) -> RowTask:
    label = stream.schema.label(column)
    return cls(Linear(2, classes=cls.outputs(label)), loss, "s", column=column, label=label, **more)


def judged(task: RowTask, stream: StreamData) -> tuple[dict[str, Value], dict[str, Tensor]]:
    """Metrics and units of a model that says anything at all, on the rows that an evaluation asks it about."""
    random = torch.Generator().manual_seed(0)
    for batch in stream.evaluation("test"):
        if "relevant" not in batch:
            shape: tuple[int, ...] = batch[task.column].shape
            extra = {Ordinal: 4, Quantiles: 20, Classification: 5}.get(type(task))
            logits = torch.randn((*shape, extra) if extra else shape, generator=random)
            if isinstance(task, Ordinal):
                logits = logits.sort(1, descending=True).values
            task.update(logits, batch, logits if isinstance(task, ESMM) else None)
    return task.compute(), task.units()


@pytest.mark.parametrize(("name", "cls", "loss", "column", "more", "expected"), CASES)
def test_baselines_are_judged_on_the_tasks_own_rows(
    name: str,
    cls: type[RowTask],
    loss: Any,
    column: str,
    more: dict[str, Any],
    expected: list[str],
    streams: dict[str, StreamData],
) -> None:
    stream = streams[name]
    task = made(cls, loss, stream, column, more)
    own, units = judged(task, stream)
    found = score_baselines(task, stream)
    assert set(expected) <= set(found)
    silent = {baseline for baseline in expected if not found[baseline].units}
    assert silent == ({"gbdt"} if task.label.kind == "category" else set())  # which trees are not fitted to
    per_row = "mae" if "mae" in units else "accuracy"
    assert units[per_row].isnan().any() or name == "pairs"  # labels are missing
    for scored in found.values():
        if not scored.units:
            assert [value.reason for value in scored.metrics.values()]
            continue
        assert set(scored.metrics) == {metric for metric in own if not metric.startswith("ctcvr_")}
        assert scored.metrics[task.main].value is not None
        assert set(scored.units) == {metric for metric in units if not metric.startswith("ctcvr_")}
        assert {len(values) for values in scored.units.values()} == {len(units[per_row])}
        assert torch.equal(scored.units[per_row].isnan(), units[per_row].isnan())
        if "user" in units:
            assert torch.equal(scored.units["user"], units["user"])
        for metric, values in scored.units.items():
            value = scored.metrics[metric].value if metric != "user" else None
            assert value is None or float(values.nanmean()) == pytest.approx(value, abs=1e-6)
    assert ("user" in units) == (name not in ("nobodys", "pairs"))


def test_new_items_of_nobody_are_cold_items(streams: dict[str, StreamData]) -> None:
    stream = streams["nobodys"]
    task = made(Regression, Absolute(), stream, "watched", {})
    own, _ = judged(task, stream)
    cohorts = {metric.partition("/")[2] for metric in own if "/" in metric}
    assert cohorts == {"warm", "cold_item"}
    assert {metric.partition("/")[2] for metric in score_baselines(task, stream)["gbdt"].units} == {"", *cohorts}
    both, _ = judged(made(Regression, Absolute(), streams["rows"], "watched", {}), streams["rows"])
    assert {metric.partition("/")[2] for metric in both} == {"", *COHORTS}


def test_the_constant_of_an_absolute_error_is_the_median(streams: dict[str, StreamData]) -> None:
    stream = streams["rows"]
    for loss, more, there in (
        (Absolute(), {}, True), (Squared(), {"chosen_by": "mae"}, True), (Squared(), {}, False),
    ):  # fmt: skip
        found = score_baselines(made(Regression, loss, stream, "watched", more), stream)
        assert ("median" in found) == there
        if there:
            labels = stream.labels("watched")
            median = float(labels[~labels.isnan()].median())
            asked = torch.cat([batch["watched"] for batch in stream.evaluation("test") if "watched" in batch])
            by_hand = float((asked[~asked.isnan()] - median).abs().mean())
            assert found["median"].metrics["mae"].value == pytest.approx(by_hand, abs=1e-6)
            assert any("/" in metric for metric in found["median"].metrics)
            assert any("/" in metric for metric in found["gbdt"].metrics)


def test_a_baseline_of_rows_by_hand(streams: dict[str, StreamData]) -> None:
    """The mean is that of training rows inside of the space, and it is compared with the row's own label."""
    stream = streams["rows"]
    found = score_baselines(made(Regression, Absolute(), stream, "watched", {"space": "click"}), stream)["mean"]
    trained = stream.labels("watched")[stream.labels("click") == 1]
    batches = list(stream.evaluation("test"))
    click, watched = (torch.cat([batch[column] for batch in batches]) for column in ("click", "watched"))
    expected = (watched - trained.nanmean()).abs().masked_fill(click != 1, torch.nan).double()
    torch.testing.assert_close(found.units["mae"], expected, equal_nan=True, rtol=1e-5, atol=1e-6)


def test_the_middle_of_ordered_classes_stands_beside_them(streams: dict[str, StreamData]) -> None:
    stream = streams["rows"]
    found = score_baselines(made(Ordinal, OrdinalLoss(), stream, "stars", {}), stream)["median"]
    trained = stream.labels("stars")
    middle = trained[trained >= 0].float().quantile(0.5).round()
    label = torch.cat([batch["stars"] for batch in stream.evaluation("test")])
    expected = (label[label >= 0] - middle).abs().mean()
    assert found.metrics["mae"].value == pytest.approx(float(expected))


def test_row_weights_count_for_what_is_fitted(streams: dict[str, StreamData]) -> None:
    stream = streams["rows"]
    plain, weighted = (
        score_baselines(made(Regression, Absolute(), stream, "watched", more), stream)
        for more in ({}, {"row_weight": "like"})
    )
    for name in ("bias", "gbdt"):
        assert plain[name].metrics["mae"] != weighted[name].metrics["mae"]
    assert plain["mean"].metrics == weighted["mean"].metrics


def test_the_bias_of_a_binary_label_is_a_share_chosen_by_the_main_metric(streams: dict[str, StreamData]) -> None:
    """Users differ in how often they like something, and that is all there is to know."""
    stream = streams["rows"]
    found = score_baselines(made(Binary, Bce(), stream, "like", {}), stream)
    auc = {name: each.metrics["auc"].value or 0.0 for name, each in found.items()}
    assert auc["bias"] > auc["mean"] + 0.02
    assert found["bias"].metrics["log_loss"].value is not None
    assert found["bias"].chosen in GRID


def test_a_baseline_that_fails_is_undefined_with_the_reason(
    streams: dict[str, StreamData], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training that it stands beside is done."""

    def fails(*given: Any) -> None:
        raise ValueError("one positive in\nall rows")

    for name in ("bias", "gbdt", "_measured"):
        monkeypatch.setattr(place, name, fails)
    found = score_baselines(made(Binary, Bce(), streams["rows"], "like", {}), streams["rows"])
    why = "it could not be fitted or judged (ValueError: one positive in all rows)"
    assert {name: each.metrics for name, each in found.items()} == {name: {"auc": Value(None, why)} for name in ALL}


def test_labels_that_come_later(streams: dict[str, StreamData], monkeypatch: pytest.MonkeyPatch) -> None:
    """No label in the test, the usual state of conversions: values are undefined, and nothing ends."""
    stream = copy.copy(streams["rows"])
    task = made(Binary, Bce(), stream, "like", {})
    evaluation = stream.evaluation

    def later(stage: Any) -> Any:
        lost = {"like": NAN} if stage == "test" else {}
        for batch in evaluation(stage):
            yield batch | {name: torch.full_like(batch[name], value) for name, value in lost.items()}

    monkeypatch.setattr(stream, "evaluation", later)
    found = score_baselines(task, stream)
    assert list(found) == ALL
    assert {each.metrics["auc"].value for each in found.values()} == {None}
    assert all(each.metrics["auc"].reason for each in found.values())
