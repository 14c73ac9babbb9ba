"""Processes that stay, started from any process: joblib's have a way to start others that those others do not know."""

from __future__ import annotations

import multiprocessing
import signal
import time
from multiprocessing import context
from typing import Any

import pytest

from graftrec.analysis import pool
from graftrec.analysis.pool import Workers


def never_ends(*_: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def fails(state: int, job: int) -> None:
    if job:
        time.sleep(1)  # until the other one does not end
        raise ValueError("not like this")
    never_ends()


def test_a_process_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "GRACE", 0.5)
    begun = time.monotonic()
    with Workers(2, int, 3) as workers, pytest.raises(RuntimeError, match="not like this"):
        list(workers.run(fails, [0, 1]))
    assert time.monotonic() - begun < 60
    assert not multiprocessing.active_children()


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
