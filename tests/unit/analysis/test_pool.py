"""Processes that stay, started from any process: joblib's have a way to start others that those others do not know."""

from __future__ import annotations

import multiprocessing
from multiprocessing import context

import pytest

from graftrec.analysis.pool import Workers


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
