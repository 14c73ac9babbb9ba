"""Start the processes that train one job together, watch them, and end them all when one fails.

Every rank, the first included, is a fresh Python that runs ``graftrec.runs.worker``. It gets the job's settings,
secrets and all, by a pipe, and never sees the command line that made them, so a sweep is swept once. What became of it
comes back by another pipe. The job's own process only watches: a rank
that is killed or hangs costs the job, not the sweep.
"""

from __future__ import annotations

import faulthandler
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from graftrec.training.distributed.liveness import Beats, Patience, behind
from graftrec.utils.errors import RankError, Stopped, raised
from graftrec.utils.machine import cores
from graftrec.utils.signals import stop

PATIENCE = 300.0  # seconds, unless the settings say otherwise
GRACE = 5.0  # seconds for the others to close their logs, once one has failed
LOOKS = 0.05  # seconds between two looks


@dataclass
class Child:
    """A rank's process; ``told`` is what it said at its end, None until then or if it could not."""

    number: int
    process: subprocess.Popen[bytes]
    report: IO[bytes]
    stack: IO[str]  # where it writes where it is, when it is asked by SIGUSR1
    code: int | None = None
    told: dict[str, Any] | None = None

    said: bytes = b""

    def look(self) -> bool:
        """Whether it has ended, and what it said."""
        if self.code is None:
            code = self.process.poll()
            self.said += self.report.read() or b""
            if code is not None:
                self.code = code
                with suppress(ValueError):
                    self.told = json.loads(self.said)
        return self.code is not None

    @property
    def kind(self) -> str:
        """What became of it, as it says itself; empty if it does not."""
        return str((self.told or {}).get("kind", ""))

    @property
    def at(self) -> float:
        """When it said so."""
        return float((self.told or {}).get("at", 0.0))

    @property
    def well(self) -> bool:
        """Whether it has ended as it should."""
        return self.code == 0 and bool(self.told)

    def place(self) -> str:
        """The line of code where it was when it was asked; empty where nobody knows."""
        self.stack.seek(0)
        lines = re.findall(r'File "([^"\n]*+)", line (\d+) in (\S+)', self.stack.read())
        ours = [line for line in lines if f"{os.sep}graftrec{os.sep}" in line[0]] or lines
        return f", at {Path(ours[0][0]).name}:{ours[0][1]} in {ours[0][2]}" if ours else ""


@dataclass
class Launched:
    """All processes of a job."""

    beats: Beats
    children: list[Child] = field(default_factory=list)

    def end(self) -> None:
        """Nobody is left, whatever happened."""
        for child in self.children:
            if child.code is None:
                child.process.kill()
        for child in self.children:
            child.process.wait()
            for handle in (child.report, child.stack, child.process.stdin):
                if handle is not None:
                    with suppress(BrokenPipeError):
                        handle.close()

    def alive(self) -> list[Child]:
        """Those that have not ended."""
        return [child for child in self.children if not child.look()]

    def signal(self, number: int) -> None:
        """Send a signal to those that are there."""
        for child in self.alive():
            child.process.send_signal(number)


def launch(
    tree: Mapping[str, Any], folder: Path, count: int, worker: Sequence[str], words: Sequence[str] = ()
) -> float:
    """Train ``tree`` in ``folder`` with ``count`` processes of this machine; the score.

    Args:
        worker: what Python runs as each of them.
        words: what the report says that was typed after ``graftrec train``.

    Raises:
        UserError, DataError, Pruned, OSError: as in the processes. Stopped: they were told to end, as this one was.
        RankError: one failed, was killed, or stood still for ``patience`` seconds; it is named.
    """
    patience = Patience(float(tree.get("patience", PATIENCE)))
    with ExitStack() as closing:
        launched = Launched(closing.enter_context(Beats.made(count)))
        closing.callback(launched.end)
        with socket.create_server(("127.0.0.1", 0)) as meeting:  # stays open, so that nobody else takes the port
            for number in range(count):
                child = _start(tree, folder, number, launched.beats, meeting, worker, words)
                launched.children.append(child)
        _watch(launched, patience)
        return _outcome(launched.children)


def _start(
    tree: Mapping[str, Any],
    folder: Path,
    number: int,
    beats: Beats,
    meeting: socket.socket,
    worker: Sequence[str],
    words: Sequence[str],
) -> Child:
    from omegaconf import OmegaConf

    read, write = os.pipe()
    stack = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 closed with the child
    handles = [write, beats.handle, stack.fileno(), *([meeting.fileno()] if number == 0 else [])]
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, *worker, str(folder)],
        env=environment(number, beats.count, meeting.getsockname()[1]),
        stdin=subprocess.PIPE,
        stdout=None if number == 0 else subprocess.DEVNULL,
        pass_fds=handles,
        start_new_session=True,  # a terminal's Ctrl-C comes here, and is passed on once
    )
    os.close(write)
    given = {
        "tree": OmegaConf.to_yaml(OmegaConf.create(dict(tree))),
        "words": list(words),
        "handles": handles,
    }
    if process.stdin is None:
        raise RuntimeError("a process that was given a pipe should have it")
    with suppress(BrokenPipeError):  # it is gone already, which is seen soon
        process.stdin.write(json.dumps(given).encode() + b"\n")
        process.stdin.flush()  # and stays open: its end tells the rank that nobody is there any more
    os.set_blocking(read, False)
    return Child(number, process, os.fdopen(read, "rb", buffering=0), stack)


def environment(number: int, count: int, port: int, given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What a rank finds in its environment: its place among the others, and all that this process has."""
    path = os.pathsep.join(os.path.abspath(part) for part in sys.path)  # imports what this process would
    found = {"OMP_NUM_THREADS": str(max(1, cores() // count)), **given}
    found |= {"RANK": str(number), "LOCAL_RANK": str(number), "GROUP_RANK": "0", "NODE_RANK": "0"}
    found |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    found |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    if sys.platform == "linux":
        found.setdefault("GLOO_SOCKET_IFNAME", "lo")  # else the name of this machine has to be known to itself
    for name in ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_USE_AGENT_STORE"):
        found.pop(name, None)
    return found


def _watch(launched: Launched, patience: Patience) -> None:
    """Until all have ended, or one of them badly.

    Raises:
        RankError: none goes on.
    """
    passed_on, end = False, float("inf")
    listening, stop.listening = stop.listening, True  # a signal is passed on, and what comes of it is waited for
    try:
        while launched.alive():
            now = time.monotonic()
            if stop.number is not None and not passed_on:
                launched.signal(stop.number)
                passed_on = True
            if any(child.code is not None and not child.well for child in launched.children):
                end = min(end, now + GRACE)
            if now >= end:
                return
            if patience.lost(launched.beats, now):
                raise RankError(_standing(launched, patience.seconds))
            time.sleep(LOOKS)
    finally:
        stop.listening = listening


def _standing(launched: Launched, seconds: float) -> str:
    """Who stands still, and where."""
    count = len(launched.children)
    launched.signal(signal.SIGUSR1)
    time.sleep(4 * LOOKS)  # they write where they are
    late = behind(launched.beats.counts())
    if not late:
        places = "; ".join(f"rank {child.number}{child.place()}" for child in launched.children)
        return f"no rank of {count} went on for {seconds:g} seconds (patience): {places}"
    names = " and ".join(f"rank {number} of {count}{launched.children[number].place()}" for number in late)
    return f"{names} stood still for {seconds:g} seconds (patience), and the others waited for it"


def _outcome(children: Sequence[Child]) -> float:
    """The score, or the error of the rank that is to blame: of those that say more than that another is gone."""
    if all(child.well and child.kind == "done" for child in children):
        return float((children[0].told or {})["score"])
    told = sorted((child for child in children if child.kind not in ("", "done")), key=lambda child: child.at)
    own = [child for child in told if not (child.told or {}).get("echo")]
    if stop.number is not None and all(child.kind == "stopped" for child in own):
        raise raised(own[0].told) if own and own[0].told else Stopped(stop.number)
    gone = [child for child in children if child.code not in (0, None) and not child.told]
    for child in [*own, *gone, *told]:
        name = f"rank {child.number} of {len(children)}"
        if not child.told:
            raise RankError(f"{name} {_gone(child.code or 0)}")
        error = raised(child.told)
        raise RankError(f"{name}: {error}") if isinstance(error, RankError) else error
    raise RankError(f"not all of {len(children)} ranks came to an end")


def _gone(code: int) -> str:
    if code >= 0:
        return f"ended with the exit code {code} and did not say why"
    name = signal.Signals(-code).name
    return f"was killed by {name}" + (", perhaps for memory" if name == "SIGKILL" else "")


def attend(handles: Sequence[int], count: int) -> tuple[Beats, IO[str]]:
    """In a rank: the other ends of what `launch` opened; the counters, and where its outcome is to be written."""
    report, beats, stack = handles[:3]
    faulthandler.register(signal.SIGUSR1, stack, all_threads=False)
    return Beats(beats, count), os.fdopen(report, "w", encoding="utf-8")
