"""`scripts/overlap.py`: gain against overlap of the run folders of one multirun."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib.image import imread

from graftrec.evaluation.statistics import user_values
from graftrec.evaluation.statistics.user_values import difference_of

SCRIPT = Path(__file__).parents[3] / "scripts" / "overlap.py"


def run_of(sweep: Path, level: float | None, seeds: Sequence[int], gain: float, users: int = 200) -> None:
    """A run whose grafted arm is ``gain`` better than its twin with each seed, user by user with some noise."""
    folder = sweep / f"{level}_{seeds[0]}"
    folder.mkdir(parents=True)
    protocol = {} if level is None else {"overlap_users": level}
    (folder / "config.yaml").write_text(json.dumps({"protocol": protocol}))
    (folder / "metrics.json").write_text(json.dumps({"main": {"task": "buy", "metric": "ndcg@10"}}))
    tables = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        twin = rng.uniform(0, 1 - gain, users)
        noise = rng.normal(0, 0.01, users)
        arms = {"twin": twin, "grafted": twin + gain + noise - noise.mean(), "popularity": twin * 0}
        for arm, value in arms.items():
            own = {"buy": {"ndcg@10": value, "hr@10": value, "user": np.arange(1, users + 1)}}
            frame = user_values.frame_of(own, arm=arm, seed=None if arm == "popularity" else seed)
            tables.append(frame.with_columns(pl.col("seed").cast(pl.Int64), id=pl.col("user").cast(pl.String)))
    pl.concat(tables).sample(fraction=1.0, shuffle=True, seed=seeds[0]).write_parquet(folder / "users.parquet")


def overlap(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, words)], capture_output=True, text=True, timeout=100)


def test_gain_of_each_level_with_its_interval(tmp_path: Path) -> None:
    for level, gain in ((0.0, 0.0), (None, 0.3)):  # no level: all users are linked
        for seed in (0, 1):
            run_of(tmp_path, level, [seed], gain)
    run_of(tmp_path, 0.5, [0, 1], 0.1)  # both seeds in one run
    done = overlap(tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert list(found) == ["0.0", "0.5", "1.0"]
    for (delta, low, high), gain in zip(found.values(), (0.0, 0.1, 0.3), strict=True):
        assert delta == pytest.approx(gain, abs=1e-9)
        assert low < delta < high
    frame = pl.read_parquet(tmp_path / "0.5_0" / "users.parquet").filter(metric="ndcg@10").sort("user")
    arms = [
        [user_values.read(frame.filter(arm=arm, seed=seed))["buy"] for seed in (0, 1)] for arm in ("grafted", "twin")
    ]
    expected = difference_of(*arms, "ndcg@10")
    assert found["0.5"] == [expected.delta, expected.low, expected.high]
    assert "| 50% | 2 | +0.1000 [" in done.stdout
    assert "| 100% | 2 | +0.3000 [" in done.stdout
    assert imread(tmp_path / "overlap.png").shape[0] > 300


def test_what_cannot_be_drawn_says_why(tmp_path: Path) -> None:
    assert "has no finished runs" in overlap(tmp_path).stderr
    run_of(tmp_path, 0.0, [0], 0.1)
    done = overlap(tmp_path, "--metric", "auc")
    assert done.returncode == 1
    assert "'auc' of 'buy' has no values" in done.stderr
