"""CSV files as strangers have them."""

from __future__ import annotations

import codecs
import gzip
from collections.abc import Callable
from pathlib import Path
from random import Random

from chaos_bench import lines

Change = Callable[[str, Random], bytes]


def odd_lines(random: Random, folder: Path) -> tuple[str, Path, bool]:
    """The kind of oddity, a file with it in ``folder``, and whether its rows are the same as those of the shop."""
    kind = random.choice(list(KINDS))
    name, change, same = KINDS[kind]
    path = folder / name
    path.write_bytes(change(lines(), random))
    return kind, path, same


def _each(change: Callable[[list[str], Random], list[str]], share: float = 1.0) -> Change:
    """Changes the cells of the rows below the header, of this share of them."""

    def changed(text: str, random: Random) -> bytes:
        header, *rows = text.splitlines()
        found = [",".join(change(row.split(","), random)) if random.random() < share else row for row in rows]
        return ("\n".join([header, *found]) + "\n").encode()

    return changed


def _cell(value: str, share: float = 0.05) -> Change:
    """This value in any column of some rows."""

    def put(cells: list[str], random: Random) -> list[str]:
        cells[random.randrange(len(cells))] = value
        return cells

    return _each(put, share)


def _delimited(mark: str) -> Change:
    return lambda text, _: text.replace(",", mark).encode()


def _shuffled(text: str, random: Random) -> bytes:
    header, *rows = text.splitlines()
    random.shuffle(rows)
    return "\n".join([header, *rows]).encode()


def _header(change: Callable[[str], str]) -> Change:
    def changed(text: str, random: Random) -> bytes:
        header, rest = text.split("\n", 1)
        return f"{change(header)}\n{rest}".encode()

    return changed


KINDS: dict[str, tuple[str, Change, bool]] = {
    "as it is": ("l.csv", lambda text, _: text.encode(), True),
    "semicolons": ("l.csv", _delimited(";"), True),
    "tabs": ("l.tsv", _delimited("\t"), True),
    "CRLF": ("l.csv", lambda text, _: text.replace("\n", "\r\n").encode(), True),
    "BOM": ("l.csv", lambda text, _: codecs.BOM_UTF8 + text.encode(), True),
    "UTF-16": ("l.csv", lambda text, _: text.encode("utf-16"), False),
    "gz": ("l.csv.gz", lambda text, _: gzip.compress(text.encode()), True),
    "brackets in the name": ("l[1].csv", lambda text, _: text.encode(), True),
    "a space in the name": ("my lines.csv", lambda text, _: text.encode(), True),
    "quotes": ("l.csv", _each(lambda cells, _: [f'"{cell}"' for cell in cells]), True),
    "no last newline": ("l.csv", lambda text, _: text.rstrip("\n").encode(), True),
    "blank lines": ("l.csv", lambda text, _: text.replace("\n", "\n\n").encode(), True),
    "another order": ("l.csv", _shuffled, True),
    "seconds": ("l.csv", _each(lambda cells, _: [*cells[:2], cells[2].replace("T", " "), *cells[3:]]), True),
    "a zone": ("l.csv", _each(lambda cells, _: [*cells[:2], cells[2] + "+02:00", *cells[3:]]), True),
    "empty": ("l.csv", lambda text, _: b"", False),
    "a header alone": ("l.csv", lambda text, _: text.split("\n")[0].encode(), False),
    "one row": ("l.csv", lambda text, _: "\n".join(text.split("\n")[:2]).encode(), False),
    "one user": ("l.csv", _each(lambda cells, _: ["1", *cells[1:]]), False),
    "one item": ("l.csv", _each(lambda cells, _: [cells[0], "1", *cells[2:]]), False),
    "one time": ("l.csv", _each(lambda cells, _: [*cells[:2], "2026-01-01T00:00:00", *cells[3:]]), False),
    "NUL": ("l.csv", _cell("\0"), False),
    "not UTF-8": ("l.csv", lambda text, _: text.encode() + b"\xff\xfe,1,2026-01-01,1\n", False),
    "binary": ("l.csv", lambda text, random: random.randbytes(5_000), False),
    "ragged": ("l.csv", _each(lambda cells, random: cells[: random.randrange(1, 6)], 0.02), False),
    "more cells": ("l.csv", _each(lambda cells, _: [*cells, "x"], 0.02), False),
    "empty cells": ("l.csv", _cell(""), False),
    "words for times": ("l.csv", _each(lambda cells, _: [*cells[:2], "soon", *cells[3:]], 0.02), False),
    "huge numbers": ("l.csv", _cell("1e400"), False),
    "long ids": ("l.csv", _cell("9" * 5_000, 0.01), False),
    "an open quote": ("l.csv", _cell('"', 0.01), False),
    "escape codes": ("l.csv", _cell("\x1b[2J"), False),
    "no column of users": ("l.csv", _header(lambda header: header.replace("user", "customer")), False),
    "a column twice": ("l.csv", _header(lambda header: header.replace("basket", "user")), False),
    "a year 9999": ("l.csv", _each(lambda cells, _: [*cells[:2], "9999-12-31", *cells[3:]], 0.05), False),
    "a year 1": ("l.csv", _each(lambda cells, _: [*cells[:2], "0001-01-01", *cells[3:]], 0.05), False),
}
