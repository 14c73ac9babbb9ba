"""Processes that stay, started from any process: joblib's have a way to start others that those others do not know."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing import context
from pathlib import Path
from typing import Any

import pytest

from graftrec.runs import worker_pool
from graftrec.runs.worker_pool import Workers


def never_ends(*_: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def fails(state: int, job: int) -> None:
    if job:
        time.sleep(1)  # until the other one does not end
        raise ValueError("not like this")
    never_ends()


def test_a_process_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_pool, "GRACE", 0.5)
    begun = time.monotonic()
    with Workers(2, int, 3) as workers, pytest.raises(RuntimeError, match="not like this"):
        list(workers.run(fails, [0, 1]))
    assert time.monotonic() - begun < 60
    assert not multiprocessing.active_children()


PARENT = """
import sys, time
from graftrec.runs.worker_pool import Workers
sys.path[:0] = sys.argv[1:]
from test_pool import says_where
with Workers(2, int, 3) as workers:
    list(workers.run(says_where, [0, 1]))
"""


def says_where(state: int, job: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.write(1, f"{os.getpid()}\n".encode())
    time.sleep(600)


def test_they_end_with_the_process_that_began_them() -> None:
    """In the middle of a job: the same command again is to be alone in the folder."""
    folder = str(Path(__file__).parent)
    parent = subprocess.Popen([sys.executable, "-c", PARENT, folder], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [int(parent.stdout.readline()) for _ in range(2)]
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 20
    while (left := [pid for pid in workers if is_alive(pid)]) and time.monotonic() < until:
        time.sleep(0.05)
    assert left == []


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Odd(context.SpawnContext):
    _name = "odd"


def test_they_start_where_another_way_to_start_processes_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(context._concrete_contexts, "odd", Odd())  # type: ignore[attr-defined]
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("odd", force=True)
    try:
        with Workers(1, int, 3) as workers:
            assert list(workers.run(pow, [2])) == [(2, 9)]
        assert multiprocessing.get_start_method() == "odd"
    finally:
        multiprocessing.set_start_method(before, force=True)
