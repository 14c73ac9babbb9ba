"""``transfer=auto`` as a user runs it: it takes what was planted to help and leaves what was planted to hurt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command import graftrec

TINY = [f"++dataset.{key}={value}" for key, value in {
    "users": 30, "items": 20, "rows": 200, "source_rows": 200, "val": 100, "test": 150
}.items()]  # fmt: skip
PLANTED = ["experiment=planted", "transfer=auto", "transfer.epochs=8", "seeds=1", "hydra.run.dir=run"]


@pytest.mark.slow
def test_it_uses_what_helps_and_says_why(tmp_path: Path) -> None:
    sources = [
        "task@source=[planted_help,planted_hurt]",
        "++transfer.strengths=[1.0]",
    ]  # a weaker one is tried elsewhere
    ran = graftrec("train", *PLANTED, *sources, cwd=tmp_path)
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert "planted_help" in found["auto"]["strengths"]
    assert "planted_hurt" not in found["auto"]["strengths"]
    assert found["differences"]["planted_target"]["auc"]["low"] > 0.03
    assert "auto: uses planted_help" in ran.stdout
    assert "Chosen by validation" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.slow
def test_it_uses_nothing_where_a_source_hurts_and_is_then_the_twin(tmp_path: Path) -> None:
    ran = graftrec("train", *PLANTED, "task@source=[planted_hurt]", cwd=tmp_path)
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert found["auto"]["strengths"] == {}
    assert found["differences"]["planted_target"]["auc"]["delta"] == 0
    assert "the target trains alone" in " ".join(ran.stdout.split())


@pytest.mark.slow
def test_an_audit_in_two_processes_has_it_beside_the_fixed_arms(tmp_path: Path) -> None:
    words = ["experiment=planted", *TINY, "transfer=auto", "transfer.epochs=1", "audit.seeds=2", "audit.workers=2"]
    ran = graftrec("audit", *words, "audit.twins=[same]", cwd=tmp_path)
    (folder,) = (tmp_path / "runs").iterdir()
    report = json.loads((folder / "audit.json").read_text())
    cell = next(cell for cell in report["cells"] if cell["sources"] == ["auto"] and cell["metric"] == "auc")
    assert (cell["seeds"], report["seeds"]) == (2, [0, 1])
    searched = report["auto"]["planted_target"]["seeds"]
    assert len(searched) >= 3
    assert not set(searched) & set(report["seeds"])  # what it chose is judged by trainings that did not choose it
    assert "auto -> planted_target:" in " ".join(ran.stdout.split())


@pytest.mark.slow
def test_another_strategy_is_tried_and_epochs_of_two_are_refused(tmp_path: Path) -> None:
    strategy = "+transfer@transfer.strategy=pretrain_finetune"
    few = ["++trainer.limit_train_batches=2", "task@source=[planted_help]", "seeds=1", "hydra.run.dir=run"]
    words = ["train", "experiment=planted", "transfer=auto", strategy, *few]
    assert "set epochs=null" in graftrec(*words, cwd=tmp_path, code=2).stderr
    graftrec(*words, "transfer.epochs=null", cwd=tmp_path)
    assert {path.name for path in (tmp_path / "run" / "trials").rglob("pretrain")}
