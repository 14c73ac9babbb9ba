"""The table at the end of a sweep."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from graftrec.report.sweep import show, sweep_table


def job(ndcg: float | None, task: str = "recommend") -> dict[str, Any]:
    return {
        "main": {"task": task, "metric": "ndcg@10"},
        "roles": {task: "target"},
        "val": {task: {"ndcg@10": 0.125}},
        "test": {task: {"hr@10": 0.5, "ndcg@10": ndcg}},
    }


def test_a_job_is_called_by_what_others_have_not() -> None:
    jobs = [(["history={long:9,short:0}", "seed=1"], job(0.25)), (["history={long:0,short:9}", "seed=1"], job(None))]
    console = Console(file=StringIO(), width=100)
    console.print(sweep_table(jobs))
    lines = [line.split() for line in console.file.getvalue().splitlines() if line.strip()]  # type: ignore[attr-defined]
    assert lines[0] == ["recommend", "·", "sweep"]
    assert lines[1] == ["job", "val", "ndcg@10", "ndcg@10", "hr@10"]
    assert lines[3] == ["history={long:9,short:0}", "0.125", "0.250", "0.500"]
    assert lines[4] == ["history={long:0,short:9}", "0.125", "–", "0.500"]  # noqa: RUF001


def test_jobs_of_another_target_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = []
    for number, metrics in enumerate([job(0.25), job(0.5, "other"), job(0.75)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "metrics.json").write_text(json.dumps(metrics))
        folders.append(([f"seed={number}"], folder))
    show(folders)
    said = capsys.readouterr().out
    assert "seed=0" in said
    assert "seed=2" in said
    assert "seed=1" not in said
    show(folders[:2])
    assert not capsys.readouterr().out
