"""A job ends with a code, a reason and a whole status file, whatever happened in it."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from graftrec.errors import DataError, UserError
from graftrec.jobs import redact, run_job

Run = Callable[[Callable[[], Any]], tuple[int, float]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    def with_work(work: Callable[[], Any]) -> tuple[int, float]:
        module = ModuleType("graftrec.train")
        module.train = lambda tree, out: work()  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "graftrec.train", module)
        return run_job({"seed": 1, "logger": {"api_key": "hidden"}}, str(tmp_path / "run"))

    return with_work


def status(tmp_path: Path) -> dict[str, Any]:
    return json.loads((tmp_path / "run" / "status.json").read_text())


def fails(error: BaseException) -> Callable[[], Any]:
    def work() -> None:
        raise error

    return work


def test_a_finished_job(run: Run, tmp_path: Path) -> None:
    assert run(lambda: 0.75) == (0, 0.75)
    assert status(tmp_path)["state"] == "finished"
    assert set(status(tmp_path)) == {"state", "exit_code", "reason", "seconds", "score", "fingerprint"}
    assert "hidden" not in (tmp_path / "run" / "config.yaml").read_text()
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"config.yaml", "status.json"}


@pytest.mark.parametrize(
    ("error", "code", "state"),
    [
        (OSError(errno.ENOSPC, "full"), 74, "failed"),
        (PermissionError("no"), 1, "failed"),
        (KeyboardInterrupt(), 130, "stopped"),
        (SystemExit(143), 143, "stopped"),
        (SystemExit("why"), 1, "failed"),
        (RuntimeError("bug"), 1, "failed"),
    ],
)
def test_exit_codes(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, state: str
) -> None:
    got, score = run(fails(error))
    assert (got, status(tmp_path)["exit_code"], status(tmp_path)["state"]) == (code, code, state)
    assert math.isnan(score)
    printed = capsys.readouterr().err
    assert ("Traceback" in printed) == (code == 1)
    assert f"(exit code {code})" in printed


@pytest.mark.parametrize(("error", "code"), [(UserError(["a", "b"]), 2), (DataError("DATA-003", "no rows"), 65)])
def test_the_users_errors_leave_nothing_half_written(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    assert run(fails(error))[0] == code
    assert not (tmp_path / "run").exists()
    assert "Traceback" not in capsys.readouterr().err


def test_what_was_trained_stays(run: Run, tmp_path: Path) -> None:
    def work() -> None:
        (tmp_path / "run" / "metrics.csv").write_text("step")
        raise UserError("late")

    assert run(work)[0] == 2
    assert status(tmp_path)["reason"] == "late"


def test_sigterm_stops_the_job_and_handlers_come_back(run: Run, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

    def work() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.kill(os.getpid(), signal.SIGTERM)

    assert run(work)[0] == 143
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_an_interrupt_that_lightning_turned_into_an_exit(run: Run, tmp_path: Path) -> None:
    def work() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)

    assert run(work)[0] == 130
    assert status(tmp_path)["reason"] == "interrupted"


def test_redact() -> None:
    tree = {"api_key": "x", "cls_token": "c", "num_tokens": 3, "deep": [{"Password": 12, "key": None, "secret": True}]}
    kept = {"api_key": "***", "cls_token": "c", "num_tokens": 3}
    assert redact(tree) == {**kept, "deep": [{"Password": "***", "key": None, "secret": True}]}
