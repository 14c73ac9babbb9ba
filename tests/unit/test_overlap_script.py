"""`scripts/overlap.py`: gain against overlap of the run folders of one multirun."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib.image import imread

SCRIPT = Path(__file__).parents[2] / "scripts" / "overlap.py"


def run_of(sweep: Path, level: float | None, seed: int, gain: float, users: int = 200) -> None:
    """A run whose grafted arm is ``gain`` better than its twin, user by user with some noise."""
    folder = sweep / f"{level}_{seed}"
    folder.mkdir(parents=True)
    protocol = {} if level is None else {"overlap_users": level}
    (folder / "config.yaml").write_text(json.dumps({"protocol": protocol}))
    (folder / "metrics.json").write_text(json.dumps({"main": {"task": "buy", "metric": "ndcg@10"}}))
    rng = np.random.default_rng(seed)
    twin = rng.uniform(0, 1 - gain, users)
    noise = rng.normal(0, 0.01, users)
    arms = {"twin": twin, "grafted": twin + gain + noise - noise.mean()}
    tables = [
        pl.DataFrame({"task": "buy", "metric": "ndcg@10", "arm": arm, "user": np.arange(users), "value": value})
        for arm, value in arms.items()
    ]
    pl.concat(tables).sample(fraction=1.0, shuffle=True, seed=seed).write_parquet(folder / "users.parquet")


def overlap(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, words)], capture_output=True, text=True, timeout=100)


def test_gain_of_each_level_with_its_interval(tmp_path: Path) -> None:
    for level, gain in ((0.0, 0.0), (0.5, 0.1), (None, 0.3)):  # no level: all users are linked
        for seed in (0, 1):
            run_of(tmp_path, level, seed, gain)
    done = overlap(tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert list(found) == ["0.0", "0.5", "1.0"]
    for (delta, low, high), gain in zip(found.values(), (0.0, 0.1, 0.3), strict=True):
        assert delta == pytest.approx(gain, abs=1e-9)
        assert low < delta < high
    assert "| 50% | 2 | +0.1000 [" in done.stdout
    assert imread(tmp_path / "overlap.png").shape[0] > 300


def test_what_cannot_be_drawn_says_why(tmp_path: Path) -> None:
    assert "has no finished runs" in overlap(tmp_path).stderr
    run_of(tmp_path, 0.0, 0, 0.1)
    done = overlap(tmp_path, "--metric", "auc")
    assert done.returncode == 1
    assert "'auc' of 'buy' has no values" in done.stderr
