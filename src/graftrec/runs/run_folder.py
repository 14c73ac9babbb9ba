"""A run's folder: what a run writes there, how it is known to be ours, and when it takes an earlier run's place.

A run begins at once in a folder that holds none. Where an earlier one has left its files, nothing of them is touched
until settings and data are known to be good (`begin`): until then the new run's marker, status and configuration lie in
`NEXT`, a folder of their own.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from graftrec import __version__
from graftrec.utils import atomic_files
from graftrec.utils.atomic_files import MARKER, is_ours, own, remove, write_text
from graftrec.utils.errors import UserError

STATUS, CONFIG, NEXT = "status.json", "config.yaml", ".next"
CHECKPOINTS, SEEDS, TRIALS = FOLDERS = (
    "checkpoints",
    "seeds",
    "trials",
)  # that go as a whole, with markers of their own
RESULTS = (  # what the next run in the folder replaces
    "metrics.csv", "metrics.json", "data_card.json", "users.parquet", "learning_curves.png", "comparison.png",
    "report.html", "audit.json", "transfer_matrix.png", *FOLDERS,
)  # fmt: skip
KEPT = ("arms", "wandb")  # what it does not: trainings known by their settings, and logs that may not be sent yet
OF_RUN = (STATUS, CONFIG, *RESULTS, *KEPT)
OF_SWEEP = (
    "jobs.jsonl", "multirun.yaml", "sweep.json", "report.html", "parallel.png", "importance.png", "study.db", ".lock",
    ".stop",
)  # fmt: skip


def check(folder: Path, names: Sequence[str] = OF_RUN, setting: str = "hydra.run.dir") -> None:
    """UserError where ``folder`` holds something by the name of what we write that no run of ours has left there."""
    ours = is_ours(folder)
    odd = [name for name in names if os.path.lexists(folder / name) and not (ours and _is_known(folder / name))]
    if odd:
        raise UserError(
            f"{folder} holds {', '.join(odd)}, which graftrec did not make there (no {MARKER} says so) and would "
            f"overwrite; nothing was touched: choose another folder with {setting}=FOLDER, or move "
            f"{'them' if len(odd) > 1 else 'it'} away"
        )


def _is_known(path: Path) -> bool:
    return path.name not in FOLDERS or (atomic_files.is_free(path) and not path.is_symlink())


def identity(verb: str) -> str:
    """The marker of a new run."""
    said = {**json.loads(atomic_files.OURS), "verb": verb, "run": uuid.uuid4().hex, "version": __version__}
    return json.dumps(said) + "\n"


def mark(folder: Path, verb: str) -> None:
    """Make a folder ours, whatever else is in it: of that nothing has a name that we write (`check`)."""
    folder.mkdir(parents=True, exist_ok=True)
    if not is_ours(folder):
        write_text(folder / MARKER, identity(verb))


def sweep(folder: Path) -> None:
    """Remove drafts that a killed run left under the names that we write; nobody else may be at work there."""
    for name in (*OF_RUN, NEXT, MARKER):
        for path in folder.glob(f".{name}.*{atomic_files.DRAFT}"):
            if atomic_files.is_draft(path):
                remove(path)
        if not (folder / name).is_symlink():
            atomic_files.sweep(folder / name)


def enter(folder: Path, verb: str, status: str, config: str) -> None:
    """Put a new run's marker, status and configuration into ``folder``, or into `NEXT` where a run is already."""
    texts = {STATUS: status, CONFIG: config}
    if not is_ours(folder) and not (folder / STATUS).exists():
        mark(folder, verb)
    else:
        leave(folder)
        folder = own(folder / NEXT)
        write_text(folder / MARKER, identity(verb))
    for name, text in texts.items():
        write_text(folder / name, text)


def is_waiting(folder: Path) -> bool:
    """Whether a run has entered and not begun, so that all in the folder is an earlier one's."""
    return is_ours(folder / NEXT)


def leave(folder: Path) -> None:
    """Forget a run that entered and did not begin."""
    if is_waiting(folder):
        remove(folder / NEXT, everything=True)


def begin(folder: Path, verb: str, going_on: bool = False, folders: Sequence[str] = ()) -> None:
    """Take the folder, once settings and data are good: what an earlier run left there goes.

    Args:
        going_on: keep it, where it is of the same settings.
        folders: of `FOLDERS`, those that this run fills.

    Raises:
        UserError: a folder where a file of the run has to be; nothing has been touched.
    """
    new = folder / NEXT
    for name in (CONFIG, STATUS, MARKER):
        if (folder / name).is_dir():
            raise UserError(
                f"{folder / name} is a folder where a run has a file; move it, or choose another hydra.run.dir"
            )
    if not (going_on and (not is_waiting(folder) or _settings(new) == _settings(folder))):
        clear(folder)
    mark(folder, verb)
    if is_waiting(folder):
        for name in (CONFIG, STATUS, MARKER):
            os.replace(new / name, folder / name)
        remove(new)
    for name in folders:
        if not (going_on and (folder / name).is_dir()):
            own(folder / name)


def clear(folder: Path) -> None:
    """Remove what a run leaves, the status first: from then on nothing says that one has finished."""
    there = [name for name in RESULTS if os.path.lexists(folder / name)]
    if not there:
        return
    remove(folder / STATUS)
    for name in there:
        if name not in FOLDERS:
            remove(folder / name)
        elif is_ours(folder / name):
            remove(folder / name, everything=True)


def withdraw(folder: Path, log: Path | None = None) -> None:
    """Remove a run that has left no result, its empty ``log``, and the folder, where nothing else is in it."""
    if any(os.path.lexists(folder / name) for name in (*RESULTS, *KEPT) if name not in FOLDERS):
        return
    owned = [folder / name for name in FOLDERS if is_ours(folder / name)]
    if not is_ours(folder) or any(len(os.listdir(each)) > 1 for each in owned):
        return
    for each in owned:
        remove(each, everything=True)
    for name in (CONFIG, STATUS, MARKER):
        remove(folder / name)
    with suppress(OSError):  # it is not there, or the folder is not empty
        if log is not None and log.parent.resolve() == folder.resolve() and not log.lstat().st_size:
            remove(log)
    with suppress(OSError):
        if not Path.cwd().is_relative_to(folder.resolve()):
            remove(folder)


def _settings(folder: Path) -> Any:
    """The fingerprint of the settings that a folder's status has."""
    try:
        found: Mapping[str, Any] = json.loads((folder / STATUS).read_text(encoding="utf-8"))
        return found["fingerprint"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
