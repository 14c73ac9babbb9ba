"""Which runs may be compared user by user: those that were judged on the same rows by the same task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graftrec.config.instantiate import ROLES
from graftrec.utils import record_files
from graftrec.utils.errors import UserError

CARD, MISSING = "data_card.json", "it says which rows the run was judged on; train it again"
JUDGED_BY = ("stream", "column", "columns", "space", "across")  # of a task: what its rows and labels are
LABELS = "have different labels in the test"
RANKED = ("lists", "seen", "min_users")  # of the candidates: what a ranking is of


def check_belonging(runs: Sequence[Path], task: str) -> None:
    """UserError that names what differs where two runs were not judged on the same rows by the same task.

    The test of a domain is known by the hashes of its rows and of the task's labels in them (``split_hashes`` and
    ``label_hashes`` of data_card.json), so that runs with other training rows, features or links between domains may be
    compared, and runs of another split, other data or other labels may not.
    """
    first = _judged(runs[0], task)
    problems = []
    for path in runs[1:]:
        other = _judged(path, task)
        odd = [what for what in first if first[what] != other[what]]
        if first[LABELS].keys() != other[LABELS].keys():  # of other columns, which is another task
            odd = [what for what in odd if what != LABELS]
        problems += [f"{path} and {runs[0]} {what}: {_shown(other[what])} and {_shown(first[what])}" for what in odd]
    if problems:
        raise UserError([f"{problem}; what is compared user by user has to agree in this" for problem in problems])


def _judged(run: Path, task: str) -> dict[str, Any]:
    path = run / "config.yaml"
    tree: Mapping[str, Any] = record_files.configuration(path)
    with record_files.reading(path):
        own = next((dict(tree[role][task]) for role in ROLES if task in (tree.get(role) or {})), None)
    if own is None:
        known = ", ".join(name for role in ROLES for name in tree.get(role) or {})
        raise UserError(f"{run}: there is no task '{task}'; known: {known}")
    candidates = tree.get("candidates") or {}
    with record_files.reading(path):
        columns = [*filter(None, (own.get("column"), own.get("space"))), *(own.get("columns") or ())]
        ranked = {key: candidates[key] for key in RANKED if candidates.get(key) is not None}
    with record_files.reading(run / CARD):
        tests = _domains(run, str(own.get("stream") or ""))
        return {
            f"were judged by different tasks '{task}'": {key: own[key] for key in JUDGED_BY if key in own},
            "rank different candidates": ranked,
            "have different test rows (data or split)": {
                name: of["split_hashes"]["test"] for name, of in tests.items()
            },
            LABELS: {
                f"{name} {label}": of["label_hashes"][label]["test"]
                for name, of in tests.items()
                for label in columns
                if label in of.get("label_hashes", {})  # a label that is made of rows, as next_item, is in their hash
            },
        }


def data_of(run: Path) -> str | None:
    """The fingerprint of a run's data, of all its rows and labels; none where its card says none.

    Raises:
        DataError: a run without a data card that can be read.
    """
    found = record_files.mapping(run / CARD, MISSING).get("fingerprint")
    return None if found is None else str(found)


def _domains(run: Path, stream: str) -> dict[str, Any]:
    """What the data card says of the domains that a task reads: of its own, where it has one.

    Raises:
        DataError: a run without a data card that can be read.
    """
    found: dict[str, Any] = record_files.mapping(run / CARD, MISSING)["domains"]
    domain = stream.rpartition("/")[0]
    return {domain: found[domain]} if domain in found else found


def _shown(what: Any) -> str:
    return ", ".join(f"{key}={value}" for key, value in what.items()) or "none" if isinstance(what, dict) else str(what)
