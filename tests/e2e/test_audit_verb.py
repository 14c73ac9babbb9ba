"""``graftrec audit`` and ``compare`` as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command import graftrec

TINY = [f"++dataset.{key}={value}" for key, value in {
    "users": 30, "items": 20, "rows": 200, "source_rows": 200, "val": 100, "test": 150
}.items()]  # fmt: skip
SETTINGS = ["experiment=planted", *TINY, "transfer.epochs=1"]


@pytest.mark.slow
def test_an_audit_in_two_processes_and_again(tmp_path: Path) -> None:
    words = ["audit", *SETTINGS, "audit.seeds=2", "audit.workers=2", "logger=wandb"]
    first = graftrec(*words, cwd=tmp_path)
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("audit_")
    assert json.loads((folder / "status.json").read_text())["state"] == "finished"
    assert "transfer matrix" in first.stdout
    assert "planted_hurt" in first.stdout
    assert list(folder.glob("wandb/offline-run-*/*.wandb"))
    cells = json.loads((folder / "audit.json").read_text())["cells"]
    again = graftrec(*words, cwd=tmp_path)
    assert "12 of them finished before" in again.stdout
    assert json.loads((folder / "audit.json").read_text())["cells"] == cells


@pytest.mark.slow
def test_runs_are_compared_and_identical_ones_are_not_significant(tmp_path: Path) -> None:
    for name, seeds in (("a", ["seeds=3"]), ("b", ["seeds=3"]), ("c", ["seed=3", "seeds=1"])):
        words = [*SETTINGS, *seeds, "workers=1", "twin=false", f"hydra.run.dir=runs/{name}"]
        graftrec("train", *words, cwd=tmp_path)
    same = graftrec("compare", "runs/a", "runs/b", cwd=tmp_path)
    assert "not significant (identical, seed by seed)" in same.stdout
    seeds = graftrec("compare", "runs/a", "runs/c", cwd=tmp_path)
    assert "one group: nothing to compare it with" in seeds.stdout
    one = graftrec("compare", "runs/a", "runs/c", "--arm", "grafted", "--out", "report.json", cwd=tmp_path)
    (group,) = json.loads((tmp_path / "report.json").read_text())["groups"]
    assert list(group["runs"]) == ["0", "1", "2", "3"], one.stdout
    graftrec("compare", "runs/nowhere", cwd=tmp_path, code=2)


@pytest.mark.slow
def test_what_an_audit_cannot_do_is_said_before_it_trains(tmp_path: Path) -> None:
    for words, said in (
        (["audit.seeds=0"], "audit.seeds: should be a whole number of at least 1"),
        (["audit.sedes=2"], "did you mean 'audit.seeds'"),
        (["task@source=[]"], "no source"),
    ):
        assert said in graftrec("audit", *SETTINGS, *words, cwd=tmp_path, code=2).stderr
