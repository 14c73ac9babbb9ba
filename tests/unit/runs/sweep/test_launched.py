"""A sweep's processes: they end with it, hear of its signals, and a killed one costs its job and not the sweep."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus

from graftrec.runs.sweep import job_log, launched_jobs
from graftrec.runs.sweep.job_log import Entry
from graftrec.utils.signals import stop

CHILD = """
import os, sys, time
from pathlib import Path
from graftrec.runs.sweep import launched_jobs as launched
from graftrec.utils.errors import Stopped
from graftrec.utils.signals import stop
sweep = Path(sys.argv[1])
launched.attend(sweep, os.getppid())
print(os.getpid(), flush=True)
if sys.argv[2] == "idle":
    while not launched.is_stopping(sweep): time.sleep(0.05)
    time.sleep(1.0)
    sys.exit(7)
try:
    with stop.signals(): time.sleep(600)
except Stopped as error:
    sys.exit(error.code)
"""
PARENT = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2], "busy"])
time.sleep(600)
"""


def gone(pid: int, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def test_a_process_ends_with_the_sweeps(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert gone(child, 15)


@pytest.mark.parametrize(("doing", "code"), [("busy", 143), ("idle", 7)])
def test_a_process_hears_of_the_sweeps_signal(doing: str, code: int, tmp_path: Path) -> None:
    """What trains is stopped as by a signal of its own; between two jobs there is nothing to stop."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path), doing], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    ended = 0
    try:
        with stop.signals(), launched_jobs.passed_on(tmp_path):
            os.kill(os.getpid(), signal.SIGTERM)  # which is no exception here
            assert child.wait(60) == code
    except SystemExit as error:
        ended = int(error.code or 0)
    assert ended == 143
    child.stdout.close()
    assert not (tmp_path / launched_jobs.STOP).exists()


class Pool:
    """What joblib does, by a list: the jobs that finish in each try, before a process is killed or not."""

    def __init__(self, sweep: Path, finishes: Sequence[Sequence[str]]) -> None:
        self.sweep, self.finishes, self.tries = sweep, list(finishes), 0

    def launch(self, launcher: Any, jobs: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
        from joblib.externals.loky.process_executor import TerminatedWorkerError

        well, found = self.finishes[self.tries], []
        self.tries += 1
        for job in jobs:
            entry = Entry(tuple(each for each in job if not each.startswith("hydra")), job[0], job_log.RUNNING)
            job_log.append(self.sweep, entry)
            if job[0] in well:
                ended = Entry(entry.settings, job[0], job_log.FINISHED, 0, 1.0)
                job_log.append(self.sweep, ended)
                done: Any = JobReturn()
                done.status, done.return_value = JobStatus.COMPLETED, 1.0
                found.append(done)
        if len(found) < len(jobs):
            raise TerminatedWorkerError("a process is gone")
        return found


def launch(sweep: Path, finishes: Sequence[Sequence[str]], monkeypatch: pytest.MonkeyPatch) -> list[float]:
    joblib = pytest.importorskip("hydra_plugins.hydra_joblib_launcher.joblib_launcher")
    from hydra_plugins.graftrec_joblib.launcher import SteadyJoblibLauncher

    pool = Pool(sweep, finishes)
    monkeypatch.setattr(joblib.JoblibLauncher, "launch", lambda self, jobs, first: pool.launch(self, jobs, first))
    launcher = SteadyJoblibLauncher()
    launcher.config = SimpleNamespace(hydra=SimpleNamespace(sweep=SimpleNamespace(dir=str(sweep))))
    jobs = [[name, "hydra.job.env_set.A=1"] for name in ("seed=0", "seed=1", "seed=2")]
    return [job.return_value for job in launcher.launch(jobs, 0)]


def test_what_ran_beside_a_killed_process_runs_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert launch(tmp_path, [["seed=0"], ["seed=0", "seed=1", "seed=2"]], monkeypatch) == [1, 1, 1]
    assert [entry.state for entry in job_log.latest(job_log.read(tmp_path))] == [job_log.FINISHED] * 3


def test_a_job_that_is_killed_twice_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    well = ["seed=0", "seed=2"]
    found = launch(tmp_path, [well, well, well], monkeypatch)
    assert [found[0], found[2]] == [1, 1]
    assert math.isnan(found[1])
    (job,) = [entry for entry in job_log.latest(job_log.read(tmp_path)) if entry.settings == ("seed=1",)]
    assert (job.state, job.exit_code) == (job_log.FAILED, 1)
    assert "killed" in job.reason
    assert "it runs again" in capsys.readouterr().err


def test_a_sweep_that_is_told_to_end_begins_nothing_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop, "number", signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        launch(tmp_path, [[]], monkeypatch)
    assert ended.value.code == 143
