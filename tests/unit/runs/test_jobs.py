"""A job ends with a code, a reason and a whole status file, whatever happened in it."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from graftrec.runs import run_folder
from graftrec.runs.job import redact, run_job
from graftrec.runs.resume import held, status_of
from graftrec.utils import atomic_files
from graftrec.utils.errors import DataError, Stopped, UserError
from graftrec.utils.signals import stop

Run = Callable[[Callable[[], Any]], tuple[int, float]]


def begun(tree: dict[str, Any], out: Path, work: Callable[[], Any]) -> Any:
    """What `graftrec.runs.train.train` does once settings and data are good."""
    run_folder.begin(out, "train", tree.get("resume") is not None)
    return work()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    def with_work(work: Callable[[], Any]) -> tuple[int, float]:
        module = ModuleType("graftrec.runs.train")
        module.train = lambda tree, out: begun(tree, out, work)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "graftrec.runs.train", module)
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
    said = {"state", "exit_code", "reason", "seconds", "score", "fingerprint", "pid", "host", "files", "seal"}
    assert set(status(tmp_path)) == said
    assert list(status(tmp_path)["files"]) == ["config.yaml"]  # by which a damage to it will be known
    assert "hidden" not in (tmp_path / "run" / "config.yaml").read_text()
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"config.yaml", "status.json", atomic_files.MARKER}


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
    (tmp_path / "run").mkdir()  # as Hydra does
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


@pytest.fixture
def resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, float]]:
    """A job in a folder of its own under ``runs``."""

    def with_work(name: str, resume: Any, work: Callable[[], Any], **tree: Any) -> tuple[int, float]:
        module = ModuleType("graftrec.runs.train")
        module.train = lambda tree, out: begun(tree, out, work)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "graftrec.runs.train", module)
        return run_job({"seed": 1, "resume": resume, **tree}, str(tmp_path / "runs" / name))

    return with_work


def test_the_same_command_again_goes_on_where_it_stopped(
    resumed: Callable[..., tuple[int, float]], tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    assert resumed("a", "auto", fails(SystemExit(143)))[0] == 143
    assert resumed("other", "auto", fails(SystemExit(143)), seed=2)[0] == 143
    (runs / "b").mkdir()  # as Hydra does
    assert resumed("b", "auto", lambda: 0.5) == (0, 0.5)  # a terminal: another folder by the time
    assert sorted(path.name for path in runs.iterdir()) == ["a", "other"]
    assert resumed("a", "auto", fails(RuntimeError("run again"))) == (0, 0.5)  # a scheduler: it is done
    assert resumed("c", "auto", lambda: 0.75) == (0, 0.75)  # nothing to go on with
    assert (runs / "c").is_dir()
    assert resumed("d", str(runs / "other"), lambda: 0.25, seed=2) == (0, 0.25)
    assert status_of(runs / "other")["state"] == "finished"


def test_other_settings_do_not_go_on(
    resumed: Callable[..., tuple[int, float]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert resumed("a", None, fails(SystemExit(130)), lambda_shared=0.5)[0] == 130
    for resume, name in (("auto", "a"), (str(tmp_path / "runs" / "a"), "b")):
        assert resumed(name, resume, lambda: 1.0, lambda_shared=0.25, save_every=3)[0] == 2
        said = capsys.readouterr().err
        assert "lambda_shared was 0.5, is 0.25." in said
    assert resumed("b", str(tmp_path / "none"), lambda: 1.0)[0] == 2
    assert "there is no run" in capsys.readouterr().err


def test_two_processes_do_not_share_a_folder(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    with held(tmp_path / "run"):
        assert run(lambda: 1.0)[0] == 2
    assert "another process" in capsys.readouterr().err
    assert run(lambda: 1.0)[0] == 0


def test_a_killed_run_does_not_pass_for_a_running_one(run: Run, tmp_path: Path) -> None:
    seen = []

    def work() -> float:
        seen.append(status_of(tmp_path / "run")["state"])
        (tmp_path / "run" / "checkpoints").mkdir()
        (tmp_path / "run" / "checkpoints" / ".last.ckpt.1.draft").write_text("half")
        shutil.copytree(tmp_path / "run", tmp_path / "killed")  # as a kill would leave it
        return 1.0

    run(work)
    assert seen == ["running"]
    found = status_of(tmp_path / "killed")
    assert found["state"] == "killed"
    assert found["pid"] == os.getpid()
    assert str(os.getpid()) in found["reason"]
    assert run_job({"seed": 1, "logger": {"api_key": "hidden"}, "resume": "auto"}, str(tmp_path / "killed"))[0] == 1
    assert list((tmp_path / "killed").rglob("*.draft")) == []  # what it had half written is gone


def test_a_second_interrupt_leaves_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    monkeypatch.setattr(os, "_exit", left.append)
    before = signal.getsignal(signal.SIGINT)
    with stop.signals():
        stop.listen()
        signal.raise_signal(signal.SIGINT)  # noted, for the end of the batch
        assert (stop.number, left) == (signal.SIGINT, [])
        signal.raise_signal(signal.SIGTERM)
        assert left == []
        signal.raise_signal(signal.SIGINT)
        assert left == [130]
    assert signal.getsignal(signal.SIGINT) is before
    assert stop.number is None  # nobody else is asked to stop
    with pytest.raises(Stopped), stop.signals():
        signal.raise_signal(signal.SIGTERM)
