"""Class baselines by hand: what a user chose before by class, and what everybody chose of late."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from graftrec.data.datasets.base import Dataset
from graftrec.data.protocols.cross_domain import CrossDomain
from graftrec.data.splits.base import Split
from graftrec.data.splits.leave_last_out import LeaveLastOut
from graftrec.data.splits.predefined import Official
from graftrec.data.splits.temporal import ByTime
from graftrec.data.streams.base import StreamData
from graftrec.data.streams.sampling_config import Candidates, History
from graftrec.data.tables.builder import interactions
from graftrec.data.tables.interactions import Interactions
from graftrec.evaluation.baselines import class_counts as counted
from graftrec.evaluation.baselines.class_counts import Told, Weighing, class_baselines
from graftrec.evaluation.baselines.scoring import score_baselines
from graftrec.models.heads.linear import Linear
from graftrec.tasks.classification import Classification
from graftrec.tasks.losses.cross_entropy import CrossEntropy
from graftrec.tasks.losses.ordinal import Ordinal as OrdinalLoss
from graftrec.tasks.ordinal import Ordinal
from graftrec.tasks.rows import RowTask

torch.set_num_threads(1)
SHARE = torch.tensor([0.5, 0.25, 0.25])
UNWEIGHTED = Weighing(None, 1.0)


@dataclass
class Frames(Dataset):
    """Rows and items as they are given; times are days."""

    rows: pl.DataFrame
    items: pl.DataFrame | None = None
    labels: dict[str, str] = field(default_factory=dict)
    clock: bool = True

    def read(self) -> Interactions:
        return interactions("frames", self.rows, {}, self.labels, items=self.items, clock=self.clock)


def stream_of(dataset: Dataset, name: str, split: Split) -> StreamData:
    protocol = CrossDomain(dataset, split, History(), Candidates(min_users=0))
    protocol.prepare([name])
    return protocol.streams[name]


def task_of(stream: StreamData, column: str, kind: type[RowTask] = Classification) -> RowTask:
    loss: Any = OrdinalLoss() if kind is Ordinal else CrossEntropy()
    label = stream.schema.label(column)
    return kind(Linear(2, classes=kind.outputs(label)), loss, "s", column=column, label=label)


# items 1 to 3 are of kind a, 4 and 5 of b, 6 of c, of 7 nobody knows
ITEMS = pl.DataFrame({"item": [1, 2, 3, 4, 5, 6, 7], "kind": ["a", "a", "a", "b", "b", "c", None]})
BASKETS = {  # user, day: items; training ends on day 80, validation on day 90
    (1, 0.0): (1, 2, 4, 4),  # a line of item 4 is there twice: 2/3 a, 1/3 b
    (1, 40.0): (6,),
    (1, 85.0): (5, 7),  # 1/2 b, the rest is unknown
    (1, 95.0): (6,),
    (2, 70.0): (1, 5),
    (2, 82.0): (3,),
    (2, 92.0): (1,),
    (3, 91.0): (4,),
    (3, 100.0): (4,),
}


def frame(baskets: dict[tuple[int, float], tuple[int, ...]]) -> pl.DataFrame:
    lines = [(user, item, day, number) for number, ((user, day), own) in enumerate(baskets.items()) for item in own]
    return pl.DataFrame(lines, schema=["user", "item", "time", "basket"], orient="row").cast({"time": pl.Float64})


def baskets_of(baskets: dict[tuple[int, float], tuple[int, ...]] = BASKETS, split: Split | None = None) -> StreamData:
    return stream_of(Frames(frame(baskets), ITEMS), "baskets", split or ByTime(0.8, 0.9, "span"))


def told(stream: StreamData, stage: Any) -> Told:
    return counted._told(task_of(stream, "next_kind"), stream, stage)  # type: ignore[arg-type]


def smoothed(counts: list[float], prior: float = 1.0) -> list[float]:
    found = torch.tensor(counts) + prior * SHARE
    return (found / found.sum()).tolist()


def close(found: Tensor, expected: list[list[float]]) -> None:
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-6)


def test_own_frequency_spreads_a_basket_over_its_distinct_items() -> None:
    stream = baskets_of()
    users = torch.tensor([1, 2, 3, 1])
    before_val = told(stream, "val").own(users, SHARE, UNWEIGHTED)
    one = smoothed([2 / 3, 1 / 3, 1])
    close(before_val, [one, smoothed([1 / 2, 1 / 2, 0]), SHARE.tolist(), one])  # nothing is known of user 3
    before_test = told(stream, "test").own(users, SHARE, Weighing(None, 4.0))
    one = smoothed([2 / 3, 1 / 3 + 1 / 2, 1], 4.0)
    close(before_test, [one, smoothed([3 / 2, 1 / 2, 0], 4.0), SHARE.tolist(), one])


@pytest.mark.parametrize("half_life", [10.0, 40.0])
def test_own_frequency_with_a_half_life(half_life: float) -> None:
    first, second, third = (2 ** (-age / half_life) for age in (90, 50, 5))
    found = told(baskets_of(), "test").own(torch.tensor([1]), SHARE, Weighing(half_life, 1.0))
    close(found, [smoothed([2 / 3 * first, 1 / 3 * first + 1 / 2 * third, second])])


@pytest.mark.parametrize("half_life", [10.0, 40.0])
def test_recent_popularity_of_classes(half_life: float) -> None:
    worth = {day: 2 ** ((day - 90) / half_life) for _, day in BASKETS}
    a = 2 / 3 * worth[0] + 1 / 2 * worth[70] + worth[82]
    b = 1 / 3 * worth[0] + 1 / 2 * worth[70] + 1 / 2 * worth[85]
    found = told(baskets_of(), "test").recent(torch.tensor([3, 1]), SHARE, half_life)
    close(found, [smoothed([a, b, worth[40]])] * 2)


def test_each_user_is_asked_about_as_of_the_own_last_basket() -> None:
    """Leave-last-out: what another user chose on or after the own day does not count."""
    lines = {(1, 1.0): (1,), (1, 2.0): (4,), (1, 5.0): (6,), (2, 2.0): (1,), (2, 3.0): (1,), (2, 4.0): (1,)}
    lines |= {(2, 6.0): (4,), (3, 7.0): (4, 6)}  # user 3 trains alone, after all other users were asked about
    before_test = told(baskets_of(lines, LeaveLastOut()), "test")
    users = torch.tensor([1, 2])
    close(before_test.own(users, SHARE, UNWEIGHTED), [smoothed([1, 1, 0]), smoothed([3, 0, 0])])
    one = smoothed([1 / 16 + 1 / 8 + 1 / 4 + 1 / 2, 1 / 8, 0])  # days 1, 2, 3 and 4 as of day 5
    other = smoothed([1 / 32 + 1 / 16 + 1 / 8 + 1 / 4, 1 / 16, 0])  # as of day 6; that of day 5 is a test row
    close(before_test.recent(users, SHARE, 1.0), [one, other])
    before_val = told(baskets_of(lines, LeaveLastOut()), "val")  # asked about day 2 and day 4
    close(before_val.own(users, SHARE, UNWEIGHTED), [smoothed([1, 0, 0]), smoothed([2, 0, 0])])
    close(before_val.recent(users, SHARE, 1.0), [smoothed([1 / 2, 0, 0]), smoothed([1 / 8 + 1 / 4 + 1 / 2, 0, 0])])


def test_nothing_after_the_cut_moves_a_prediction() -> None:
    after = {key: (6, 2, 7) if key[1] >= 90 else own for key, own in BASKETS.items()}
    streams, users = [baskets_of(), baskets_of(after)], torch.tensor([1, 2, 3])
    for stage in ("val", "test"):
        one, other = (told(stream, stage) for stream in streams)
        for setting in (UNWEIGHTED, Weighing(7.0)):
            assert torch.equal(one.own(users, SHARE, setting), other.own(users, SHARE, setting))
        assert torch.equal(one.recent(users, SHARE, 7.0), other.recent(users, SHARE, 7.0))
    later = {key: (6, 2, 7) if key[1] >= 80 else own for key, own in BASKETS.items()}
    one, other = (told(stream, "val") for stream in (streams[0], baskets_of(later)))
    assert torch.equal(one.own(users, SHARE, UNWEIGHTED), other.own(users, SHARE, UNWEIGHTED))


def test_they_stand_beside_a_task_with_the_setting_that_validation_chose() -> None:
    """Everybody keeps to one kind, and who is new has it from the shares of training."""
    random = np.random.default_rng(0)
    lines = {}
    for user in range(1, 31):
        own = (1, 2, 3) if user % 3 == 0 else (4, 5) if user % 3 == 1 else (6,)
        for day in range(0, 100, 5):
            lines[user, float(day) + user / 40] = tuple(random.choice(own, min(2, len(own)), replace=False).tolist())
    stream = baskets_of(lines)
    found = score_baselines(task_of(stream, "next_kind"), stream, target=False)
    assert list(found) == ["majority", "recent_popularity", "own_frequency"]
    assert found["own_frequency"].metrics["accuracy"].value == 1.0
    assert found["recent_popularity"].metrics["accuracy"].value == pytest.approx(1 / 3, abs=0.05)
    assert [each.rows for each in found.values()] == ["train", "train + val", "train + val"]
    assert found["recent_popularity"].chosen in (1.0, 3.0, 7.0, 14.0, 30.0, 90.0, 365.0)
    assert found["own_frequency"].chosen == "no half-life, prior 10"  # all are equal: the first
    for scored in found.values():
        assert set(scored.units) == {"accuracy", "user"}
        assert len(scored.units["accuracy"]) == len(scored.units["user"]) == stream_rows(stream)


def stream_rows(stream: StreamData) -> int:
    return sum(len(batch["next_kind"]) for batch in stream.evaluation("test") if "next_kind" in batch)


def rows_of(clock: bool = True) -> StreamData:
    """User 1 has the classes x, x, y in training and y in validation; of user 3 there are test rows alone."""
    rows = [
        (1, "x", 0.0, 0), (1, "x", 10.0, 0), (1, "y", 50.0, 0), (2, "z", 60.0, 0), (2, None, 61.0, 0),
        (1, "y", 80.0, 1), (2, "z", 81.0, 1),
        (1, "x", 90.0, 2), (2, None, 91.0, 2), (3, "z", 92.0, 2), (1, "y", 99.0, 2),
    ]  # fmt: skip
    data = pl.DataFrame(rows, schema=["user", "what", "time", "split"], orient="row")
    data = data.with_columns(item=pl.lit(1))
    return stream_of(Frames(data if clock else data.drop("time"), labels={"what": "category"}), "rows", Official())


def test_own_frequency_of_rows() -> None:
    stream = rows_of()
    task = task_of(stream, "what")
    users = torch.cat([batch["user"] for batch in stream.evaluation("test")])
    before_val = counted._of_rows(task, stream, "val")  # type: ignore[arg-type]
    one, nobody = smoothed([2, 1, 0]), SHARE.tolist()
    close(before_val.own(users, SHARE, UNWEIGHTED), [one, smoothed([0, 0, 1]), nobody, one])
    before_test = counted._of_rows(task, stream, "test")  # type: ignore[arg-type]
    one = smoothed([2, 2, 0])
    close(before_test.own(users, SHARE, UNWEIGHTED), [one, smoothed([0, 0, 2]), nobody, one])
    weighed = before_test.own(users[:1], SHARE, Weighing(10.0, 1.0))  # as of day 90, the user's first of the test
    close(weighed, [smoothed([2**-9 + 2**-8, 2**-4 + 2**-1, 0])])


def test_rows_without_a_clock_have_no_half_life() -> None:
    stream = rows_of(clock=False)
    task = task_of(stream, "what")
    assert not counted._of_rows(task, stream, "test").clock  # type: ignore[arg-type]
    found = score_baselines(task, stream)
    assert str(found["own_frequency"].chosen).startswith("no half-life")
    assert "recent_popularity" not in found


def test_ordered_classes_are_judged_by_their_own_metric() -> None:
    stream = rows_of()
    found = score_baselines(task_of(stream, "what", Ordinal), stream)
    assert list(found) == ["median", "recent_popularity", "own_frequency", "gbdt"]
    assert found["own_frequency"].metrics["mae"].value == pytest.approx(found["own_frequency"].units["mae"].nanmean())


def test_no_label_in_validation_takes_the_first_setting() -> None:
    stream = baskets_of()
    task = task_of(stream, "next_kind")
    test = {"user": torch.tensor([1, 2]), "label": torch.tensor([2, 0])}
    for nothing in ({}, {"user": torch.tensor([1]), "label": torch.tensor([-1])}):
        found = class_baselines(task, stream, SHARE, lambda nothing=nothing: nothing, test)
        assert {name: chosen for name, (_, chosen) in found.items()} == {
            "recent_popularity": 365.0,
            "own_frequency": "no half-life, prior 10",
        }
        assert {prediction.shape for prediction, _ in found.values()} == {(2, 3)}
