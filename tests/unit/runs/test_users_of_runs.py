"""users.parquet of real runs: whose each value is, and that runs which read other data beside it can be compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from graftrec.data.datasets.planted import Planted
from graftrec.runs.compare import compare
from graftrec.runs.train import train

Compose = Callable[[list[str]], dict[str, Any]]
SIZES = {"users": 30, "items": 20, "rows": 200, "source_rows": 200, "val": 100, "test": 150}
ROWS = ["experiment=planted", *(f"++dataset.{key}={value}" for key, value in SIZES.items()), "transfer.epochs=1"]
ROWS += ["seeds=1"]
RANKED = ["protocol=cross_domain", "++dataset.domain=department", "trunk=shared_bottom", "task@shared=[]",
          "task@source=[grocery_recommend]", "task@target=[produce_recommend]", "++transfer.epochs=1",
          "++encoder.width=8", "++trainer.limit_train_batches=2", "twin=false", "baselines=false"]  # fmt: skip


def run(tree: dict[str, Any], folder: Path) -> pl.DataFrame:
    train(tree, folder)
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    return pl.read_parquet(folder / "users.parquet")


@pytest.fixture(scope="module")
def rows(compose: Compose, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pl.DataFrame]:
    folder = tmp_path_factory.mktemp("rows") / "run"
    return folder, run(compose([*ROWS, "task@source=[planted_help]", "seeds=2", "workers=1"]), folder)


def test_values_of_rows_have_the_user_whose_row_it_is(rows: tuple[Path, pl.DataFrame]) -> None:
    made = Planted(**SIZES).parts()["target"]
    users = made.keys["user"]
    raw = users.keys.gather(users.codes[-SIZES["test"] :]).cast(pl.String)  # the last part is the test
    frame = rows[1].filter(pl.col("task") == "planted_target")
    assert frame.columns == ["arm", "seed", "task", "metric", "user", "id", "value"]
    parts = frame.partition_by(["arm", "seed", "metric"], as_dict=True)
    assert {("grafted", 0, "auc"), ("grafted", 1, "auc"), ("twin", 0, "log_loss"), ("twin", 1, "auc")} <= set(parts)
    for part in parts.values():
        assert part["id"].equals(raw.alias("id"))
        assert 1 < part["id"].n_unique() <= SIZES["users"] < len(part)
        assert part.group_by("id").agg(pl.col("user").n_unique())["user"].unique().to_list() == [1]
        assert part["user"].n_unique() == part["id"].n_unique()
        assert int(part["user"].min()) > 0  # type: ignore[arg-type]


@pytest.mark.parametrize("other", [["++protocol.overlap_users=0"], ["++dataset.source_rows=40"], ["twin=false"]])
def test_runs_of_rows_that_differ_in_what_is_beside_the_target_are_compared(
    other: list[str], rows: tuple[Path, pl.DataFrame], compose: Compose, tmp_path: Path
) -> None:
    users = run(compose([*ROWS, "task@source=[planted_hurt]", *other]), tmp_path / "run")
    mine, theirs = (
        each.filter(task="planted_target", metric="auc", arm="grafted", seed=0) for each in (rows[1], users)
    )
    assert mine["id"].equals(theirs["id"])
    (test,) = [test for test in compare([rows[0], tmp_path / "run"])["tests"] if test["metric"] == "auc"]
    assert (test["n"], test["seeds"]) == (mine["id"].n_unique(), 1)
    assert test["delta"] == pytest.approx(float((theirs["value"] - mine["value"]).mean()))  # type: ignore[arg-type]


def test_users_who_are_ranked_are_paired_by_id_where_links_give_them_other_numbers(
    compose: Compose, shop_settings: list[str], tmp_path: Path
) -> None:
    found = {
        level: run(compose([*RANKED, *shop_settings, f"++protocol.overlap_users={level}"]), tmp_path / level)
        for level in ("1.0", "0.0")
    }
    ours, theirs = (frame.filter(task="produce_recommend", metric="ndcg@10", arm="grafted") for frame in found.values())
    assert ours["id"].to_list() != theirs["id"].to_list()  # sorted by number, and numbers by name
    both = ours.join(theirs, on="id", suffix="_b")
    assert len(both) == len(ours) == len(theirs) > 5
    (test,) = [t for t in compare([tmp_path / level for level in found])["tests"] if t["metric"] == "ndcg@10"]
    expected = both["value_b"] - both["value"]
    assert (test["n"], test["delta"]) == (len(both), pytest.approx(float(expected.mean())))  # type: ignore[arg-type]
    spread = float(np.std(expected.to_numpy(), ddof=1))
    assert test["t"]["statistic"] == pytest.approx(test["delta"] / (spread / len(both) ** 0.5))
