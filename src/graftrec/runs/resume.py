"""Where a run goes on. ``resume`` is null (a new run), ``auto``, or the folder of a run or one of its checkpoints.

``auto`` goes on in the folder that the run would have anyway (``hydra.run.dir``), else in the one beside it where a run
of the same settings was stopped last, and begins a new run where there is none: the same command again does for a
scheduler and at a terminal.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from graftrec.config.instantiate import BESIDE, fingerprint
from graftrec.runs.sweep import job_log
from graftrec.utils import record_files
from graftrec.utils.errors import DataError, UserError
from graftrec.utils.redaction import redact

AUTO, ENDED = "auto", ("finished", "pruned")
DAMAGED = "take another folder (hydra.run.dir), or delete it, and the same command begins anew"


def status_of(folder: Path) -> dict[str, Any]:
    """What ``status.json`` in ``folder`` says; empty if there is none that can be read, see `read_status`.

    One that says ``running`` may be ``killed``.
    """
    try:
        found = read_status(folder)
    except DataError:
        return {}
    if found.get("state") == "running" and not is_held(folder):
        return {**found, "state": "killed", "reason": f"process {found.get('pid')} is gone and did not say why"}
    return found


def read_status(folder: Path) -> dict[str, Any]:
    """What ``status.json`` says.

    Raises:
        DataError: it is missing or damaged.
    """
    path = folder / "status.json"
    found = record_files.mapping(path, DAMAGED, sealed=False)
    with record_files.reading(path, DAMAGED):
        state, score = found["state"], found.get("score")
        if state in ENDED:
            record_files.check_seal(found)
        if state not in job_log.STATES:
            raise ValueError(f"no state is called {state!r}")
        if isinstance(score, bool) or not isinstance(score, (float, int, type(None))):
            raise TypeError(f"score is {score!r}")
    return found


@contextmanager
def held(folder: Path, wait: float = 0.2) -> Iterator[None]:
    """Keep a folder for this process; the system lets go of it when the process ends, however it ends.

    Args:
        wait: seconds for somebody who is about to end.

    Raises:
        UserError: another process has it.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        for left in range(round(wait / 0.01), -1, -1):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:  # perhaps somebody only asks (`is_held`)
                if not left:
                    raise UserError(f"{folder}: another process is running there; wait for it, or stop it") from None
                time.sleep(0.01)
        yield
    finally:
        os.close(handle)


def is_held(folder: Path) -> bool:
    """Whether a process has a folder (`held`), perhaps this one."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def folder_of(tree: Mapping[str, Any], own: Path) -> Path:
    """The folder where ``tree`` trains, if its own would be ``own``.

    Raises:
        UserError: ``resume`` names nothing to go on from, or a run of other settings.
    """
    wanted = tree.get("resume")
    if wanted is None:
        return own
    if wanted == AUTO:
        if (own / "status.json").exists():
            read_status(own)
            _must_be_same(tree, own)
            return own
        return _stopped_last(tree, own) or own
    path = Path(str(wanted))
    folder = (
        path if path.is_dir() else next((above for above in path.parents if (above / "status.json").is_file()), None)
    )
    if not path.exists() or folder is None or not (folder / "status.json").exists():
        raise UserError(f"resume={wanted}: should be auto, the folder of a run or a checkpoint in it; there is no run")
    read_status(folder)
    _must_be_same(tree, folder)
    return folder


def _stopped_last(tree: Mapping[str, Any], own: Path) -> Path | None:
    """The folder beside ``own`` where a run of the same settings has not ended; the latest of several."""
    name = fingerprint(tree)
    found = []
    for path in own.parent.glob("*/status.json"):
        said = status_of(path.parent)
        if said.get("fingerprint") == name and said["state"] not in (*ENDED, "running"):
            with suppress(FileNotFoundError):  # gone since it was read
                found.append((path.stat().st_mtime, path.parent))
    return max(found)[1] if found else None


def _must_be_same(tree: Mapping[str, Any], folder: Path) -> None:
    if status_of(folder).get("fingerprint") == fingerprint(tree):
        return
    before = _flat(_saved(folder))
    now = _flat(redact({key: value for key, value in tree.items() if key != "hydra"}))
    changed = [
        f"{key} was {before.get(key, 'not there')}, is {now.get(key, 'not there')}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and key.split(".")[0] not in BESIDE
    ]
    more = f", and {len(changed) - 6} more" if len(changed) > 6 else ""
    raise UserError(
        f"resume: {folder} holds a run of other settings: {'; '.join(changed[:6])}{more}. Take those that it was begun "
        "with, or another folder (hydra.run.dir)"
    )


def _saved(folder: Path) -> Mapping[str, Any]:
    path = folder / "config.yaml"
    return record_files.configuration(path, DAMAGED) if path.is_file() else {}


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(tree, Mapping) and (tree or not prefix):
        return {key: value for name, part in tree.items() for key, value in _flat(part, f"{prefix}{name}.").items()}
    return {prefix.rstrip("."): tree}
