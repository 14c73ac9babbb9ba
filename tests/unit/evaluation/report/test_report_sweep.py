"""The end of a sweep: table, best job, shares by hand, pictures and page."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from rich.console import Console

from graftrec.runs.sweep import job_log
from graftrec.runs.sweep.importance import importance, varying
from graftrec.runs.sweep.job_log import Entry
from graftrec.runs.sweep.sweep_summary import best_of, sweep_table, write

PNG = b"\x89PNG"


def metrics(ndcg: float | None, task: str = "recommend") -> dict[str, Any]:
    return {
        "main": {"task": task, "metric": "ndcg@10"},
        "roles": {task: "target"},
        "val": {task: {"ndcg@10": 0.125}},
        "test": {task: {"hr@10": 0.5, "ndcg@10": ndcg}},
    }


def done(score: float | None, *settings: str, folder: str = "x") -> Entry:
    return Entry(settings, folder, job_log.FINISHED, 0, score, 12.34)


def printed(table: Any) -> list[list[str]]:
    console = Console(file=StringIO(), width=110)
    console.print(table)
    return [line.split() for line in console.file.getvalue().splitlines() if line.strip()]  # type: ignore[attr-defined]


def test_the_table_has_every_job_called_by_what_others_have_not() -> None:
    jobs = [
        (done(0.5, "history={long:9,short:0}", "seed=1"), metrics(0.25)),
        (Entry(("history={long:0,short:9}", "seed=1"), "y", job_log.FAILED, 65, None, 1.0, "no rows"), {}),
        (done(0.75, "history={long:1,short:1}", "seed=1"), metrics(0.5, "other")),
    ]
    lines = printed(sweep_table(jobs))
    assert lines[0] == ["recommend", "·", "sweep,", "score:", "ndcg@10", "of", "the", "validation"]
    assert lines[1] == ["job", "state", "seconds", "score", "ndcg@10", "hr@10"]
    assert lines[3] == ["history={long:9,short:0}", "finished", "12.3", "0.500", "0.250", "0.500"]
    assert lines[4] == ["history={long:0,short:9}", "failed", "1.0", "–", "–", "–"]  # noqa: RUF001
    assert lines[5] == ["history={long:1,short:1}", "finished", "12.3", "0.750", "–", "–"]  # noqa: RUF001 another task


def test_the_best_is_a_finished_job() -> None:
    pruned = Entry(("a=3",), "z", job_log.PRUNED, 0, 0.9)
    assert best_of([done(0.1, "a=1"), done(0.3, "a=2"), done(0.3, "a=4"), done(None, "a=5"), pruned]) == done(
        0.3, "a=2"
    )
    assert best_of([pruned]) is None


def test_what_varies() -> None:
    jobs = [done(0.1, "++lr=1", "trunk=a", "seed=0"), done(0.1, "++lr=2", "seed=0")]
    assert varying(jobs) == {"lr": ["1", "2"], "trunk": ["a", ""]}


def test_shares_of_a_grid_by_hand() -> None:
    """Scores 0 1 / 2 7: mean 2.5, total 6.25 + 2.25 + .25 + 20.25 = 29; rows .5, 4.5: 4 * 4 = 16; columns 1, 4: 9."""
    grid = {("0", "0"): 0.0, ("0", "1"): 1.0, ("1", "0"): 2.0, ("1", "1"): 7.0}
    jobs = [done(score, f"a={a}", f"b={b}", "seed=0") for (a, b), score in grid.items()]
    shares, said = importance(jobs)
    assert shares == pytest.approx({"a": 16 / 29, "b": 9 / 29})
    assert list(shares) == ["a", "b"]
    assert "variance" in said
    assert importance(jobs[:3]) == ({}, "")  # too few
    assert importance([done(1.0, *job.settings) for job in jobs]) == ({}, "")  # nothing to explain
    assert importance([done(float(i), f"a={i}") for i in range(9)]) == ({}, "")  # one setting explains all of it


def test_shares_of_a_study_find_what_matters() -> None:
    study = optuna.create_study(direction="maximize")
    jobs = []
    space = {"x": FloatDistribution(0, 1), "idle": CategoricalDistribution(["a", "b"])}
    for number in range(24):
        params = {"x": number / 23, "idle": "ab"[number % 2]}
        study.add_trial(optuna.create_trial(value=params["x"], params=params, distributions=space))
        jobs.append(done(params["x"], *(f"{key}={value}" for key, value in params.items())))
    shares, said = importance(jobs, study)
    assert shares["x"] > 0.8
    assert sum(shares.values()) == pytest.approx(1.0)
    assert said.startswith("PED-ANOVA of the score")
    assert importance(jobs[:6], study) == ({}, "")


def test_all_that_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [done(0.1 * n, f"optimizer.lr={10.0**-n}", f"trunk=<{n % 2}>", folder=f"f{n}") for n in range(4)]
    jobs += [Entry(("optimizer.lr=7", "trunk=<0>"), "f9", job_log.PRUNED, 0, None, 0.5, "behind")]
    jobs += [Entry(("optimizer.lr=8", "trunk=<0>"), "", job_log.FAILED, 74, None, 0.5, "disk")]
    jobs += [Entry(("optimizer.lr=9", "trunk=<0>"))]
    (tmp_path / "f3").mkdir()
    (tmp_path / "f3" / "metrics.json").write_text(json.dumps(metrics(0.25)))
    write(tmp_path, jobs, "graftrec train -m all", lambda job: "one " + " ".join(job.settings))
    report = json.loads((tmp_path / "sweep.json").read_text())
    assert report["best"] == {
        "folder": "f3",
        "score": pytest.approx(0.3),
        "command": "one optimizer.lr=0.001 trunk=<1>",
    }
    for name in ("parallel.png", "importance.png"):
        assert (tmp_path / name).read_bytes().startswith(PNG)
    said = capsys.readouterr().out
    assert "1 of 7 jobs did not run to their end" in said
    assert "failed (74)  optimizer.lr=8 trunk=<0>: disk" in said
    assert "best    0.300  one optimizer.lr=0.001 trunk=<1>" in said
    page = (tmp_path / "report.html").read_text()
    assert "trunk=&lt;1&gt;" in page
    assert "trunk=<1>" not in page
    assert "4 finished, 1 pruned, 1 failed, 1 not run" in page
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("data:image/png;base64,") == 2


def test_a_sweep_without_any_score_still_says_what_happened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [Entry((f"seed={n}",), "", job_log.FAILED, 65, None, 0.1, "no rows") for n in range(2)]
    write(tmp_path, jobs, "graftrec train -m seed=0,1", lambda job: "")
    assert not list(tmp_path.glob("*.png"))
    assert json.loads((tmp_path / "sweep.json").read_text())["best"] is None
    assert "no job has a score" in (tmp_path / "report.html").read_text()
    assert capsys.readouterr().out.count("failed (65)") == 2
