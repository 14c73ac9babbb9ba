"""Output never ends a run: whatever takes it, the exit code is that of the work."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import graftrec
from graftrec.cli.main import VERBS

QUICK = [
    "experiment=planted",
    "++transfer.epochs=1",
    "twin=false",
    "baselines=false",
    "++trainer.limit_train_batches=2",
]
QUICK += [f"++dataset.{key}={value}" for key, value in
          {"users": 30, "items": 20, "rows": 200, "source_rows": 200, "val": 100, "test": 150}.items()]  # fmt: skip
WORDS = {  # verb -> a command of it that prints and ends well
    "train": ["train", "--cfg", "job"],
    "audit": ["audit", "--cfg", "job"],
    "predict": ["predict", "--cfg", "job"],
    "data": ["data", "--cfg", "job"],
    "compare": ["compare", "--help"],
    "doctor": ["doctor"],
}
SHELL = {
    "head": "{command} | head -1",
    "closed": "{command} >&-",
    "all closed": "{command} <&- >&- 2>&-",
    "latin-1": "PYTHONIOENCODING=latin-1 {command}",
    "ascii": "PYTHONIOENCODING=ascii:strict {command}",
    "dumb": "TERM=dumb COLUMNS=20 {command}",
    "one column": "COLUMNS=1 {command}",
}


def shell(words: list[str], how: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = " ".join(f"'{word}'" for word in [sys.executable, "-m", "graftrec", *words])
    line = "set -o pipefail; " + SHELL.get(how, how).format(command=command)
    return subprocess.run(
        ["bash", "-c", line], cwd=cwd, capture_output=True, text=True, check=False, errors="replace",
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_every_verb_has_a_command_here() -> None:
    assert set(WORDS) == set(VERBS)


@pytest.mark.slow
@pytest.mark.parametrize("how", SHELL)
@pytest.mark.parametrize("words", [["--help"], *WORDS.values()], ids=" ".join)
def test_every_verb_ends_well_whatever_takes_its_output(words: list[str], how: str, tmp_path: Path) -> None:
    done = shell(words, how, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("how", [*SHELL, "{command} > /dev/full"])
def test_a_run_is_kept_whatever_takes_its_output(how: str, tmp_path: Path) -> None:
    done = shell(["train", *QUICK, "hydra.run.dir=run"], how, tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "finished"
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]
    said = "standard output: No space left on device; the work goes on, and what it prints is lost"
    assert (said in done.stderr) == ("full" in how)
    assert "Traceback" not in done.stderr


def test_what_only_prints_fails_where_nobody_gets_it(tmp_path: Path) -> None:
    done = shell(["--help"], "{command} > /dev/full", tmp_path)
    assert done.returncode == 74
    assert done.stderr.splitlines() == [
        "graftrec: standard output: No space left on device; the work goes on, and what it prints is lost"
    ]


def test_help_into_a_reader_that_is_gone(tmp_path: Path) -> None:
    done = shell(["train", "--help"], "{command} | true", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_pipe_that_does_not_wait_gets_everything(tmp_path: Path) -> None:
    code = (
        "import os, sys; from graftrec.utils import standard_streams as streams; streams.last(); "
        "os.set_blocking(1, False); "
        "print('x' * 300_000, flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        time.sleep(0.5)  # it fills the pipe meanwhile
        assert len(running.stdout.read()) == 300_001
    assert running.returncode == 0


def test_logs_are_not_obeyed(tmp_path: Path) -> None:
    code = (
        "import logging, sys; from graftrec.utils import standard_streams; standard_streams.last(); "
        "logging.basicConfig(stream=sys.stdout); "
        "logging.warning('a %s b', chr(27) + '[31m')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "\x1b" not in done.stdout
    assert "WARNING:root:a [31m b" in done.stdout


def test_everything_that_prints_goes_one_way() -> None:
    """`graftrec.utils.terminal_text` says lines and `report.console` draws tables; nothing else writes to a stream."""
    found = []
    home = Path(graftrec.__file__).parent
    for path in sorted([*home.rglob("*.py"), *(home.parent / "hydra_plugins").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text())):
            called: Any = node.func if isinstance(node, ast.Call) else None
            printed = isinstance(called, ast.Name) and called.id in ("print", "pprint", "Console")
            wrote = isinstance(called, ast.Attribute) and called.attr == "write" and "sys.std" in ast.unparse(called)
            if printed or wrote:
                found.append(f"{path.relative_to(home.parent)}:{node.lineno}")
    assert found == [found_at for found_at in found if found_at.startswith("graftrec/utils/terminal_text.py")]
