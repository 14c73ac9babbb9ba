"""A small scripts/calibration.py: false verdicts are rare, and are not where half of the error is left out."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from graftrec.evaluation.statistics import intervals

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "calibration.py"
DRAWS, SEEDS, OF_EACH = 4, 3, 15


@pytest.fixture(scope="module")
def calibration() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("calibration", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["calibration"] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield module
    torch.set_num_threads(threads)
    del sys.modules["calibration"]


@pytest.fixture(scope="module")
def draws(calibration: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, list[Any], list[Any]]]:
    """Draws of data, each with the values of twins of six seeds, and of six others."""
    found = []
    case = calibration.CASES[0]
    for number in range(DRAWS):
        folder = tmp_path_factory.mktemp("draw")
        random = np.random.default_rng(number)
        calibration.planted(random, folder).write_parquet(folder / "rows.parquet")
        trained = calibration.Trained(calibration.tree_of(case, folder / "rows.parquet"), folder / "arms")
        found.append((trained, *(trained.jobs("twin", (), range(low, low + 2 * SEEDS)) for low in (0, 2 * SEEDS))))
    return found


def false_verdicts(calibration: ModuleType, draws: Any, differ: float) -> tuple[int, int]:
    """How many runs of three seeds got a verdict, though both arms are the twin; of how many."""
    case, random, said = calibration.CASES[0], np.random.default_rng(0), []
    for trained, ours, theirs in draws:
        for _ in range(OF_EACH):
            moved = calibration.Moved(trained, differ, random)
            mine, others = ([arm[at] for at in random.choice(2 * SEEDS, SEEDS, False)] for arm in (ours, theirs))
            said.append(calibration.run_says(trained, case, "", moved(mine), trained.values(others)).false)
    return sum(said), len(said)


@pytest.mark.slow
def test_false_verdicts_are_rare_and_are_not_without_the_seeds_or_the_users(
    calibration: ModuleType, draws: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = intervals._variances
    for differ in (0.0, 0.4):
        false, of = false_verdicts(calibration, draws, differ)
        assert false / of <= calibration.limit(of), (differ, false, of)

    def without_seeds(values: Any, delta: float) -> tuple[float, float, float]:
        return whole(values, delta)[0], 0.0, 0.0

    def without_users(values: Any, delta: float) -> tuple[float, float, float]:
        return 0.0, whole(values, delta)[1], 0.0

    monkeypatch.setattr(intervals, "_variances", without_seeds)
    false, of = false_verdicts(calibration, draws, 0.0)
    assert false / of > calibration.limit(of), (false, of)
    monkeypatch.setattr(intervals, "_variances", without_users)
    false, of = false_verdicts(calibration, draws, 0.4)
    assert false / of > calibration.limit(of), (false, of)


@pytest.mark.slow
def test_the_script_ends_with_one_line_of_json() -> None:
    words = [sys.executable, str(SCRIPT), "--cases", "planted", "--draws", "1"]
    said = subprocess.run(words, capture_output=True, text=True, timeout=600, check=True).stdout
    found = json.loads(said.splitlines()[-1])
    assert found["n"] == {"run": 4, "compare": 4, "audit": 4, "auto": 3}
    assert set(found["false"]) == set(found["power"]) == set(found["n"])
    assert all(set(found["power"][path]) == {"1", "2", "3"} for path in found["n"])
