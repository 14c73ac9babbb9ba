"""Old names of classes that configurations, checkpoints and users' files still hold, and where the classes are now.

A name is looked up by its longest beginning here. Fingerprints are made of the old names, so that what was begun before
a move goes on after it (`former`).
"""

from __future__ import annotations

from functools import cache

from graftrec.utils.terminal_text import tell

MOVED = {  # old name, or the beginning of one -> new
    "graftrec.balancers": "graftrec.training.balancers",
    "graftrec.data.datasets.several": "graftrec.data.datasets.multi",
    "graftrec.data.sampling": "graftrec.data.streams.sampling_config",
    "graftrec.data.splits.at_random": "graftrec.data.splits.random_split",
    "graftrec.data.splits.by_time": "graftrec.data.splits.temporal",
    "graftrec.data.splits.official": "graftrec.data.splits.predefined",
    "graftrec.heads": "graftrec.models.heads",
    "graftrec.interactions": "graftrec.models.interactions",
    "graftrec.losses": "graftrec.tasks.losses",
    "graftrec.nn.encoder": "graftrec.models.encoder",
    "graftrec.optimizers": "graftrec.training.optimizers",
    "graftrec.report.logs": "graftrec.training.loggers.logs",
    "graftrec.trunks": "graftrec.models.trunks",
}
FORMER = {new: old for old, new in MOVED.items()}


def current(name: str) -> str:
    """The name that a class has today; an old one is told once, and works."""
    found = _replaced(name, MOVED)
    if found != name:
        _tell(name, found)
    return found


def former(name: str) -> str:
    """The name that a class had first: what fingerprints are made of."""
    return _replaced(name, FORMER)


def _replaced(name: str, table: dict[str, str]) -> str:
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        begins = ".".join(parts[:cut])
        if begins in table:
            return ".".join([table[begins], *parts[cut:]])
    return name


@cache
def _tell(old: str, new: str) -> None:
    tell(f"graftrec: {old} has moved; write {new} (deprecated: the old name goes with 1.0)")
