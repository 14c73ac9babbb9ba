"""Type a command: in this process, where torch is imported already, or in one of its own, where the process counts."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from graftrec.cli import main

SETTINGS = {"OMP_NUM_THREADS": "1", "COLUMNS": "160", "WANDB_MODE": "offline"}


class Done(NamedTuple):
    """What a command printed."""

    stdout: str
    stderr: str


def graftrec(*words: str, cwd: Path, code: int = 0) -> Done:
    """Run a command in this process and in the folder ``cwd``; it must end with ``code``."""
    out, err, before = io.StringIO(), io.StringIO(), Path.cwd()
    cwd.mkdir(exist_ok=True)
    os.chdir(cwd)
    try:
        with patch.dict(os.environ, SETTINGS), redirect_stdout(out), redirect_stderr(err):
            found = main.main(list(words))
    finally:
        os.chdir(before)
    assert found == code, f"{found}\n{out.getvalue()[-2000:]}\n{err.getvalue()[-4000:]}"
    return Done(out.getvalue(), err.getvalue())


def started(*words: str, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    """The same in a process of its own, which goes on meanwhile; stdout has its errors as well."""
    cwd.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "graftrec", *words],
        cwd=cwd, env={**os.environ, **SETTINGS, **environment}, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip


def in_a_process(*words: str, cwd: Path, code: int = 0, **environment: str) -> str:
    """The same, waited for; what it printed."""
    running = started(*words, cwd=cwd, **environment)
    said, _ = running.communicate(timeout=900)
    assert running.returncode == code, f"{running.returncode}\n{said[-4000:]}"
    return said
