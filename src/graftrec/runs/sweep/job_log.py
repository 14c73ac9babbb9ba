"""``jobs.jsonl`` in a sweep's folder: what became of every job, one line when it begins and one when it ends.

It is what processes of any launcher share, and it stays when a job leaves no folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from graftrec.utils import record_files

FINISHED, PRUNED, FAILED, STOPPED, RUNNING = "finished", "pruned", "failed", "stopped", "running"
KILLED, NOT_RUN = "killed", "not run"  # of a job that began and never ended; of one that never began
STATES = (FINISHED, PRUNED, FAILED, STOPPED, RUNNING, KILLED, NOT_RUN)


@dataclass(frozen=True)
class Entry:
    """One job of a sweep: its settings, the name of its folder, and how it ended.

    ``score`` is of the validation, higher is better; None unless the job finished.
    """

    settings: tuple[str, ...]
    folder: str = ""
    state: str = NOT_RUN
    exit_code: int | None = None
    score: float | None = None
    seconds: float | None = None
    reason: str = ""


def append(sweep: Path, entry: Entry) -> None:
    """Add a line, in one write: jobs that run side by side do not mix theirs."""
    sweep.mkdir(parents=True, exist_ok=True)
    with (sweep / "jobs.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(record_files.sealed(json.loads(json.dumps(asdict(entry))))) + "\n")


def read(sweep: Path) -> list[Entry]:
    """All lines, oldest first; one that was cut off or damaged is left out, see `damaged`.

    Raises:
        DataError: the file cannot be read.
    """
    return [entry for entry in map(_entry, record_files.lines(sweep / "jobs.jsonl")[0]) if entry is not None]


def damaged(sweep: Path) -> int:
    """How many lines say nothing that can be read: what became of these jobs their own folders know."""
    said, odd = record_files.lines(sweep / "jobs.jsonl")
    return odd + sum(_entry(each) is None for each in said)


def _entry(said: Mapping[str, Any]) -> Entry | None:
    """A line, without keys of a newer version; none where it is not of this form."""
    settings = said.get("settings")
    kept = {each.name: said[each.name] for each in fields(Entry) if each.name in said}
    right = {
        "folder": str, "state": str, "reason": str, "exit_code": int | None, "score": float | int | None,
        "seconds": float | int | None,
    }  # fmt: skip
    if not isinstance(settings, list) or not all(isinstance(each, str) for each in settings):
        return None
    if any(
        isinstance(kept[name], bool) or not isinstance(kept[name], kind) for name, kind in right.items() if name in kept
    ):
        return None
    if kept.get("state", NOT_RUN) not in STATES or Path(kept.get("folder", "")).name != kept.get("folder", ""):
        return None
    return Entry(**{**kept, "settings": tuple(settings)})


def latest(entries: Sequence[Entry], planned: Sequence[tuple[str, ...]] | None = None) -> list[Entry]:
    """The last word on each job, in the order of ``planned``, or of their first lines where no plan is known.

    A job is known by its settings, in whatever order they are.
    """
    last = {frozenset(entry.settings): entry for entry in entries}
    order = {frozenset(each): each for each in ([entry.settings for entry in entries] if planned is None else planned)}
    return [last.get(key, Entry(settings)) for key, settings in order.items()]
