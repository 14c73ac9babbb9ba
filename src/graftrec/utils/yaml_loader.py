"""YAML from elsewhere is small: how many bytes, nodes and levels it has is counted before anything is made of it.

An alias counts as all that it stands for, so that nine lines of aliases of aliases are no longer 9^9 nodes. What YAML
takes for something else than it looks like, such as an id ``012`` that is 10, is told once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from graftrec.utils.errors import UserError
from graftrec.utils.terminal_text import tell

BYTES, NODES, LEVELS = 1_000_000, 100_000, 50
PLAIN = (str, int, float, bool, type(None))
ODD = re.compile(r"[-+]?0[0-7_]+|[-+]?[1-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?|on|off|yes|no", re.IGNORECASE)
_told: set[tuple[str, int, str]] = set()


def read(path: Path) -> str:
    """The text of a YAML file that is within the limits.

    Raises:
        UserError: it is not, or no YAML; with the file, the line and the limit.
    """
    with path.open("rb") as file:
        content = file.read(BYTES + 1)
    if len(content) > BYTES:
        raise UserError(f"{path} has more than {BYTES:,} bytes, which no configuration needs")
    try:
        text = content.decode("utf-8-sig")
        _count(text, str(path))
    except (UnicodeDecodeError, yaml.YAMLError, ValueError) as error:  # ValueError: a date that is none
        raise UserError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    return text


def load(path: Path) -> dict[str, Any]:
    """A YAML file within the limits as a plain dict; interpolations in it stay as they are written.

    Raises:
        UserError: see `read`; or it is no mapping.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    text = read(path)
    try:
        found = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
        raise UserError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} should hold a mapping")
    return {str(key): value for key, value in found.items()}


def check_plain(tree: Any, what: str) -> None:
    """UserError unless ``tree`` is of mappings, lists and plain values, within the limits."""
    count, waiting = 0, [(tree, 0)]
    while waiting:
        value, level = waiting.pop()
        count += 1
        if count > NODES or level > LEVELS:
            raise UserError(f"{what} has more than {NODES:,} values or {LEVELS} levels, which no configuration needs")
        if isinstance(value, Mapping):
            waiting += [(part, level + 1) for pair in value.items() for part in pair]
        elif isinstance(value, (list, tuple)):
            waiting += [(part, level + 1) for part in value]
        elif not isinstance(value, PLAIN):
            raise UserError(f"{what} holds a {type(value).__name__}; should be plain values")


def _count(text: str, what: str) -> None:
    """Walk the events, which takes no recursion and makes nothing."""
    sizes: dict[str, int] = {}  # of what an anchor names
    open_: list[tuple[str | None, int]] = []  # anchor and count before each collection that is not yet closed
    count = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            count += sizes.get(event.anchor, NODES)  # one that holds itself
        elif isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, count))
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_.pop()
            if anchor:
                sizes[anchor] = count - before
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            if event.anchor:
                sizes[event.anchor] = 1
            if event.style is None and event.tag is None and ODD.fullmatch(event.value):
                _lint(event.value, what, event.start_mark.line + 1)
        if count > NODES or len(open_) > LEVELS:
            line = event.start_mark.line + 1
            raise UserError(
                f"{what}:{line} has more than {NODES:,} values or {LEVELS} levels, which no configuration needs"
            )


def _lint(value: str, what: str, line: int) -> None:
    """Say, once, what YAML 1.1 takes an unquoted value for."""
    if (what, line, value) not in _told:
        _told.add((what, line, value))
        tell(f"graftrec: {what}:{line}: {value} is {yaml.safe_load(value)!r} in YAML; write '{value}' if it is a word")
