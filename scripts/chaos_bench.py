"""What attempts of `scripts/chaos.py` stand on: a small shop, a good run of it, and commands in forked processes."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import runpy
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

TRACEBACK = "Traceback (most recent call last)"
SECONDS = 120.0  # after which a command hangs
MEMORY = 16 * 2**30  # addresses that a command may have: a setting of terabytes ends it, not the machine
USERS, ITEMS, DAYS = 8, 20, 40
SMALL = (
    "transfer.epochs=2", "++trainer.limit_train_batches=4", "encoder.width=8", "trainer.accelerator=cpu",
    "trunk=shared_bottom", "seeds=1", "baselines=false", "twin=false",
)  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (None: it had to be killed), what it said, who is left of its processes."""

    code: int | None
    said: str
    left: tuple[int, ...]

    def wrong(self, *codes: int, names: str = "") -> str:
        """What is wrong with it: a traceback, another exit code, or an error that does not say ``names``."""
        end = f"\n    {self.said[-1500:]}"
        if self.code is None:
            return f"hangs for {SECONDS:g} s{end}"
        if TRACEBACK in self.said:
            return f"a traceback, exit code {self.code}{end}"
        if self.left:
            return f"processes are left: {self.left}"
        if self.code not in codes:
            return f"exit code {self.code}, not {' or '.join(map(str, codes))}{end}"
        if self.code in (2, 65, 74) and names not in self.said:
            return f"exit code {self.code} and no word of {names}{end}"
        return ""


class Bench:
    """A scratch folder with data and a finished run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines, self.products = folder / "lines.csv", folder / "products.csv"
        self.good = folder / "good"
        self.metrics: dict[str, Any] = {}
        self.seconds = 0.0

    def prepare(self) -> None:
        """Write the data, train the good run, see how long that takes."""
        os.environ |= {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", "COLUMNS": "160"}
        _import()
        self.lines.write_text(lines())
        products = (f"{item},d{item % 3},c{item % 5}" for item in range(1, ITEMS + 1))
        self.products.write_text("\n".join(["item,department,product_category", *products]) + "\n")
        began = time.monotonic()
        ended = self.run(self.train(self.good), self.folder)
        self.seconds = time.monotonic() - began
        if ended.code:
            raise SystemExit(f"the good run ended with {ended.code}\n{ended.said}")
        self.metrics = self.measured(self.good)
        self.run(["predict", f"run={self.good}", f"out={self.folder}/good.csv"], self.folder)

    def train(self, run: Path, *more: str) -> list[str]:
        """The command of the good run, in another folder."""
        return ["train", *self.data(), *SMALL, f"hydra.run.dir={run}", *more]

    def data(self, path: Path | None = None) -> list[str]:
        """Settings of the shop, or of another file with its columns."""
        columns = (f"++dataset.{name}={name}" for name in ("user", "item", "time", "basket"))
        found = ["dataset=files", f"dataset.path='{path or self.lines}'", *columns, "++candidates.min_users=1"]
        return [*found, f"++dataset.items={self.products}"]

    def measured(self, run: Path) -> dict[str, Any]:
        """Validation and test of a run."""
        found = json.loads((run / "metrics.json").read_text())
        return {part: found[part] for part in ("val", "test")}

    def run(
        self, words: Sequence[str], cwd: Path, environment: Mapping[str, str] | None = None, output: str = "",
        kill: tuple[signal.Signals, float] | None = None,
    ) -> Ended:  # fmt: skip
        """Type a command in ``cwd``; ``output``: where it writes: a file, ``closed``, or ``pipe``, which nobody reads.

        ``kill`` is a signal and after how many seconds it comes, to all of its processes as Ctrl-C does.
        """
        said = cwd / "said.txt"
        said.unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            _command(words, cwd, environment or {}, said, output)
        began, status, done, at = time.monotonic(), 0, 0, kill
        while not done and time.monotonic() - began < SECONDS:
            if at is not None and time.monotonic() - began >= at[1]:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child, at[0])
                at = None
            done, status = os.waitpid(child, os.WNOHANG)
            time.sleep(0.02)
        left = _left(child)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)
        if not done:
            os.waitpid(child, 0)
        text = said.read_text(errors="replace") if said.exists() else ""
        return Ended(os.waitstatus_to_exitcode(status) if done else None, text, left)


def lines(random: Random | None = None) -> str:
    """A CSV: users buy what they like every day."""
    random = random or Random(0)  # no secret
    found = ["user,item,time,basket"]
    for user in range(1, USERS + 1):
        for day in range(DAYS):
            liked = {random.randrange(1, 4), *(1 + (user * 3 + random.randrange(6)) % ITEMS for _ in range(3))}
            moment = f"2026-{1 + day // 28:02d}-{1 + day % 28:02d}T09:{random.randrange(60):02d}:00"
            found += [f"{user},{item},{moment},{user * DAYS + day}" for item in sorted(liked)]
    return "\n".join(found) + "\n"


def _import() -> None:
    """What forks have at once: no thread of anybody runs yet."""
    import hydra
    import matplotlib.figure
    import polars
    import pytorch_lightning
    import torch

    from graftrec.cli import main as cli
    from graftrec.cli import predict
    from graftrec.runs import compare, train
    from graftrec.runs import job as jobs
    from graftrec.runs.audit import audit

    torch.set_num_threads(1)
    del hydra, matplotlib, polars, pytorch_lightning, cli, jobs, predict, train, audit, compare


def _command(words: Sequence[str], cwd: Path, environment: Mapping[str, str], said: Path, output: str) -> None:
    """In a fork: run a command as `python -m graftrec` does, and leave."""
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    errors = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(errors, 2)
    if output == "pipe":
        read, write = os.pipe()
        os.close(read)
        os.dup2(write, 1)
    else:
        os.dup2(os.open(output, os.O_WRONLY) if output and output != "closed" else errors, 1)
    encoding = environment.get("PYTHONIOENCODING", "utf-8")
    sys.stdout = sys.__stdout__ = open(1, "w", encoding=encoding, closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", encoding=encoding, errors="backslashreplace", closefd=False)  # noqa: SIM115
    if output == "closed":
        os.close(1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.chdir(cwd)
    os.environ |= environment
    sys.argv = ["graftrec", *words]
    code = 70
    try:
        runpy.run_module("graftrec", run_name="__main__", alter_sys=False)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):  # as Python does at its end
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 120
    os._exit(code)


def _left(session: int) -> tuple[int, ...]:
    """Processes of a session that are there two seconds after its first one has gone."""
    for _ in range(20):
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError, IndexError):
                state, _, _, of = stat.read_text().rpartition(") ")[2].split()[:4]
                if int(of) == session and state != "Z":
                    found.append(int(stat.parent.name))
        if not found:
            return ()
        time.sleep(0.1)
    return tuple(found)
