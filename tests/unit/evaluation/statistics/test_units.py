"""Values per user: what users.parquet holds of them, and the difference of two models inside a metric's range."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from graftrec.evaluation.statistics import user_values
from graftrec.evaluation.statistics.intervals import paired_difference
from graftrec.evaluation.statistics.user_values import USER, difference_of, mean_of


def test_an_interval_of_few_users_ends_where_the_metric_does() -> None:
    ours, theirs = {"ndcg@10": np.array([1.0, 1.0, 1.0, 0.1])}, {"ndcg@10": np.zeros(4)}
    found, free = difference_of([ours], [theirs], "ndcg@10"), paired_difference(ours["ndcg@10"], np.zeros(4))
    assert free.high > 1 == found.high
    assert (found.low, found.p) == (free.low, free.p)
    assert difference_of([theirs], [ours], "ndcg@10").low == -1
    wide = [{"spearman/cold_user": 4 * values - 1} for values in (ours["ndcg@10"], theirs["ndcg@10"])]
    assert difference_of(wide[:1], wide[1:], "spearman/cold_user").high == 2
    errors = [{"rmse": values} for values in (ours["ndcg@10"], theirs["ndcg@10"])]
    assert difference_of(errors[:1], errors[1:], "rmse") == free


def test_the_mean_itself_has_an_interval_inside_the_range() -> None:
    found = mean_of([{"auc": np.array([0.9, 1.0, 1.0, 0.4])}], "auc")
    assert (found.delta, found.high) == (pytest.approx(0.825), 1.0)
    assert 0 < found.low < found.delta
    assert mean_of([{"rmse": np.array([0.0, 0.1, 0.0, 4.0])}], "rmse").low == 0
    assert mean_of([{"logit": np.array([0.0, 0.1, 0.0, 4.0])}], "logit").low < 0
    alone = mean_of([{"auc": np.array([0.9])}], "auc")
    assert (alone.p, alone.low, alone.high) == (1.0, -math.inf, math.inf)  # none, and not the whole range


def test_a_difference_counts_users_seed_by_seed() -> None:
    random = np.random.default_rng(0)
    a, b, owners = random.random((2, 3, 60)), random.random((2, 3, 60)), np.repeat(np.arange(1, 21), 3)
    one, other = ([{"mae": torch.from_numpy(row), USER: torch.from_numpy(owners)} for row in arm[0]] for arm in (a, b))
    found = difference_of(one, other, "mae")
    assert (found.n, found.seeds) == (20, 3)
    assert found == paired_difference(a[0], b[0], owners)


def test_values_of_other_users_are_refused() -> None:
    mine = {"auc": np.zeros(3), USER: np.array([1, 2, 3])}
    for other in (np.array([1, 3, 2]), None):
        theirs = {"auc": np.zeros(3)} | ({} if other is None else {USER: other})
        for arms in (([mine], [theirs]), ([theirs], [mine]), ([mine, theirs], [mine, mine])):
            with pytest.raises(ValueError, match="auc should be of the same users"):
                difference_of(*arms, "auc")


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    values = {"auc": torch.tensor([0.5, math.nan, 1.0]).double(), USER: torch.tensor([2**40, 0, 7])}
    rows = {"rmse": torch.tensor([1.0, 2.0]), "mae": torch.tensor([3.0, 4.0])}  # of nobody known
    frame = user_values.frame_of({"buy": values, "rate": rows, "empty": {}}, arm="twin", seed=3)
    assert frame.columns == ["arm", "seed", "task", "metric", "user", "value"]
    assert (frame["user"].dtype, frame["value"].dtype) == (pl.Int64, pl.Float64)
    assert (frame["arm"].unique().to_list(), frame["seed"].unique().to_list()) == (["twin"], [3])
    user_values.write(frame, tmp_path / "users.parquet")
    found = user_values.read(pl.read_parquet(tmp_path / "users.parquet"))
    assert {task: set(own) for task, own in found.items()} == {"buy": {"auc", USER}, "rate": {"rmse", "mae"}}
    for task, own in {"buy": values, "rate": rows}.items():
        for name, each in own.items():
            np.testing.assert_array_equal(found[task][name], each.numpy())
    user_values.write(
        user_values.frame_of({"buy": {}}), tmp_path / "empty.parquet"
    )  # a training without any such metric
    assert user_values.read(pl.read_parquet(tmp_path / "empty.parquet")) == {}
