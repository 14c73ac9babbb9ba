"""``jobs.jsonl`` in a sweep's folder: what became of every job, one line when it begins and one when it ends.

It is what processes of any launcher share, and it stays when a job leaves no folder.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

FINISHED, PRUNED, FAILED, STOPPED, RUNNING = "finished", "pruned", "failed", "stopped", "running"
KILLED, NOT_RUN = "killed", "not run"  # of a job that began and never ended; of one that never began


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
        file.write(json.dumps(asdict(entry)) + "\n")


def read(sweep: Path) -> list[Entry]:
    """All lines, oldest first; a line that was cut off is left out."""
    path = sweep / "jobs.jsonl"
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            said = json.loads(line)
        except ValueError:
            continue
        found.append(Entry(**{**said, "settings": tuple(said["settings"])}))
    return found


def latest(entries: Sequence[Entry], planned: Sequence[tuple[str, ...]] | None = None) -> list[Entry]:
    """The last word on each job, in the order of ``planned``, or of their first lines where no plan is known.

    A job is known by its settings, in whatever order they are.
    """
    last = {frozenset(entry.settings): entry for entry in entries}
    order = {frozenset(each): each for each in ([entry.settings for entry in entries] if planned is None else planned)}
    return [last.get(key, Entry(settings)) for key, settings in order.items()]
