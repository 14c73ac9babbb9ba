"""The default experiment as `make demo` runs it, with the first of its seeds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_default_experiment_beats_what_a_user_would_pick_instead(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "graftrec", "train", "experiment=complete_journey", "seeds=1", "hydra.run.dir=run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    ranking, baselines = metrics["test"]["recommend"], metrics["baselines"]["recommend"]
    assert ranking["ndcg@10/first_time"] > baselines["popularity"]["ndcg@10/first_time"]
    of_main, of_first = metrics["beside"]["recommend"], metrics["beside_declared"]["recommend"]["ndcg@10/first_time"]
    assert of_main["best"] == "own_frequency"
    for beside in (of_main, of_first):  # not clearly below the best of what one would use instead
        assert beside["grafted"][beside["best"]]["high"] > 0
    for metric in ("ndcg@10", "ndcg@10/first_time"):  # the main one and what the experiment declares
        assert metrics["differences"]["recommend"][metric]["high"] > 0
    assert ranking["gauc"] > 0.8
    majority = metrics["baselines"]["interest"]["majority"]["accuracy"]
    assert metrics["test"]["interest"]["accuracy"] > majority
    similarity = metrics["baselines"]["relevance"]["mean"]["rmse"]
    assert metrics["test"]["relevance"]["rmse"] < similarity
    assert set(metrics["differences"]["recommend"]["ndcg@10"]) == {
        "delta", "low", "high", "p", "n", "seeds", "error", "p_holm", "verdict", "minimum_detectable",
    }  # fmt: skip
    for word in ("grafted - twin", "own frequency", "report.html"):
        assert word in done.stdout
