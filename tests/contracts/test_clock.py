"""A clock that goes back changes no duration and no lock: who reads the time of day, or that of a file, is known.

Durations, patience and saves are measured by `time.monotonic`, and locks are the system's.
"""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path
from typing import Any

import pytest
from test_one_way_to_write import PROGRAM, dotted, named

from graftrec.config.instantiate import fingerprint
from graftrec.runs.resume import folder_of
from graftrec.utils.atomic_files import own
from graftrec.utils.record_files import sealed

OF_DAY = {
    "time.time", "time.time_ns", "time.localtime", "time.gmtime", "time.ctime", "time.asctime", "time.strftime",
    "datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.clock_gettime",
}  # fmt: skip
OF_FILES = {"st_mtime", "st_mtime_ns", "st_ctime", "st_ctime_ns", "st_atime", "st_atime_ns", "getmtime", "getctime"}
READ_HERE = {  # file: function -> what a wrong clock costs there
    "data/tables/cache.py: fingerprint": "which moment a file has is compared with itself alone",
    "data/tables/cache.py: draft": "what a killed process left stays for longer",
    "data/protocols/data_card.py: _warnings": "a warning of times in the future",
    "training/loggers/wandb_run.py: last_in": "which of several logs of one run goes on",
    "runs/resume.py: _stopped_last": "which of several runs of the same settings goes on first",
}


def reads_a_clock(node: ast.AST) -> bool:
    if not isinstance(node, ast.Attribute):
        return isinstance(node, ast.alias) and node.name in OF_FILES | {"time_ns", "localtime", "gmtime"}
    name = dotted(node)
    return node.attr in OF_FILES or any(name == each or name.endswith(f".{each}") for each in OF_DAY)


def readers(text: str) -> set[str]:
    """Functions that read a clock or the time of a file; empty for what is in none."""
    tree = ast.parse(text)
    found = {""} if any(map(reads_a_clock, ast.walk(tree))) else set()
    of = {f.name for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) and any(map(reads_a_clock, ast.walk(f)))}
    return of or found


def test_who_reads_a_clock_is_known() -> None:
    found = {f"{named(path)}: {name}" for path in PROGRAM for name in readers(path.read_text())}
    assert found == set(READ_HERE)


@pytest.mark.parametrize(
    "text",
    [
        "begun = time.time()", "datetime.now(timezone.utc)", "datetime.datetime.now()", "path.stat().st_mtime",
        "os.path.getmtime(path)", "def f():\n    return time.time() - begun", "from time import time_ns",
    ],
)  # fmt: skip
def test_a_reader_would_be_seen(text: str) -> None:
    assert readers(text)


@pytest.mark.parametrize("moments", [(0, -(10**9), 2**33), (2**33, 0, -(10**9)), (-1, -1, -1)])
def test_of_stopped_runs_one_goes_on_whatever_their_times(moments: tuple[int, ...], tmp_path: Path) -> None:
    """Before 1970 or years ahead: all are of the same settings, so each goes on to the same end."""
    tree: dict[str, Any] = {"resume": "auto", "seed": 0}
    for name, moment in zip("abc", moments, strict=True):
        folder = own(tmp_path / name)
        said = {"state": "stopped", "fingerprint": fingerprint(tree), "score": None}
        (folder / "status.json").write_text(json.dumps(sealed(said)))
        os.utime(folder / "status.json", (moment, moment))
    latest = max(zip(moments, "abc", strict=True))[1]
    assert folder_of(tree, tmp_path / "new") == tmp_path / latest
