"""Which runs may be compared user by user: those that were judged on the same rows by the same task."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graftrec import yaml_limits
from graftrec.config import ROLES
from graftrec.errors import UserError

JUDGED_BY = ("stream", "column", "columns", "space", "across")  # of a task: what its rows and labels are
RANKED = ("lists", "seen", "min_users")  # of the candidates: what a ranking is of


def check_belonging(runs: Sequence[Path], task: str) -> None:
    """UserError that names what differs where two runs were not judged on the same rows by the same task.

    The test of a domain is known by the hash of its rows (``split_hashes`` of data_card.json), so that runs with other
    training rows or other links between domains may be compared, and runs of another split or other data may not.
    """
    first = _judged(runs[0], task)
    problems = []
    for path in runs[1:]:
        other = _judged(path, task)
        odd = [what for what in first if first[what] != other[what]]
        problems += [f"{path} and {runs[0]} {what}: {_shown(other[what])} and {_shown(first[what])}" for what in odd]
    if problems:
        raise UserError([f"{problem}; what is compared user by user has to agree in this" for problem in problems])


def _judged(run: Path, task: str) -> dict[str, Any]:
    tree: Mapping[str, Any] = yaml_limits.load(run / "config.yaml")
    own = next((tree[role][task] for role in ROLES if task in (tree.get(role) or {})), None)
    if own is None:
        known = ", ".join(name for role in ROLES for name in tree.get(role) or {})
        raise UserError(f"{run}: there is no task '{task}'; known: {known}")
    candidates = tree.get("candidates") or {}
    return {
        f"were judged by different tasks '{task}'": {key: own[key] for key in JUDGED_BY if key in own},
        "rank different candidates": {key: candidates[key] for key in RANKED if candidates.get(key) is not None},
        "have different test rows (data or split)": _tests(run, str(own.get("stream") or "")),
    }


def _tests(run: Path, stream: str) -> dict[str, Any]:
    """Domain -> the hash of its test rows: of the task's own domain, where it has one."""
    path = run / "data_card.json"
    card = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    found = {name: of.get("split_hashes", {}).get("test") for name, of in (card.get("domains") or {}).items()}
    domain = stream.rpartition("/")[0]
    return {domain: found[domain]} if domain in found else found


def _shown(what: Any) -> str:
    return ", ".join(f"{key}={value}" for key, value in what.items()) or "none" if isinstance(what, dict) else str(what)
