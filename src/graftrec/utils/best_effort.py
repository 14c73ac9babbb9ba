"""What stands beside a result that is there already: plots, pages and loggers, none of which may cost it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from graftrec.utils.errors import FULL, outcome
from graftrec.utils.terminal_text import tell


def tried(steps: Mapping[str, Callable[[], Any]]) -> dict[str, str]:
    """Take each step; name -> reason of those that failed, which is told as well.

    Raises:
        OSError: the disk is full, which no later step mends.
    """
    found = {}
    for name, step in steps.items():
        try:
            step()
        except Exception as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            found[name] = f"could not be made: {outcome(error)[1]}"
            tell(f"graftrec: {name} {found[name]}; the results are there without it")
    return found
