"""Of what a text may consist that a configuration gives to a launcher, a shell, a folder, a database or a terminal.

What is allowed is written down here, and everything else is refused: each function says what is wrong with a text,
nothing if it is right.
"""

from __future__ import annotations

import re
from pathlib import PurePath

SIGNS = " ._-+=,:/@%&|*()[]~!^"  # beside letters and digits: nothing that ends a line, a comment or a quotation
STORAGE = re.compile(r"[a-z][a-z0-9]*(\+[a-z0-9_]+)?://\S*")


def wrong_line(text: str) -> str:
    """Of one line that is shown or is a path: letters, digits, signs and spaces that a terminal does not obey."""
    return "" if text.isprintable() else f"should be one line without control characters, found {text!r}"


def wrong_lines(text: str) -> str:
    """Of several lines, each as `wrong_line` takes it."""
    return next(filter(None, map(wrong_line, text.split("\n"))), "")


def wrong_word(text: str) -> str:
    """Of what a launcher writes into a script: a name, a list of names or an expression over them."""
    if all(letter.isalnum() or letter in SIGNS for letter in text):
        return ""
    return f"should be of letters, digits and any of '{SIGNS}', found {text!r}"


def wrong_part(text: str) -> str:
    """Of a folder that lies inside of another one."""
    path = PurePath(text)
    if not path.parts or path.is_absolute() or ".." in path.parts:
        return f"should be a folder inside of the sweep's, found {text!r}"
    return wrong_line(text)


def wrong_storage(text: str) -> str:
    """Of the address of a database: ``sqlite:///study.db``, ``postgresql+psycopg2://host/name``. It is not shown."""
    if STORAGE.fullmatch(text) and text.isprintable():
        return ""
    return "should be the address of a database without spaces, such as sqlite:///study.db"
