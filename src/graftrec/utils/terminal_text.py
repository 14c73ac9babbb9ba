"""Text from data, files and strangers as it is shown on a screen: nothing in it is obeyed by a terminal."""

from __future__ import annotations

import sys

from graftrec.utils.redaction import shown

# Control characters (a terminal obeys ESC, BEL, CR and those of C1) and marks that turn the direction of a line.
OBEYED = dict.fromkeys((*range(10), *range(11, 32), *range(127, 160), *range(8234, 8239), *range(8294, 8298)))


def plain(value: object) -> str:
    """The text on one line; control characters, escape codes and marks that turn the direction become spaces."""
    return "".join(letter if letter.isprintable() else " " for letter in str(value))


def say(text: str) -> None:
    """Say on stdout what a command found or did: all that is printed there and is no table of `report.console`."""
    print(shown(text).translate(OBEYED), flush=True)


def tell(text: str) -> None:
    """Say what is wrong on stderr: its lines, without what a terminal obeys and without secrets."""
    print("\n".join(map(plain, shown(text).splitlines())), file=sys.stderr, flush=True)
