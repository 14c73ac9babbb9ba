"""Rows as they were read, each of which knows its file and its line there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from graftrec.utils.errors import DataError

SHOWN = 20  # problems of one kind that are listed


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of one file that follow each other.

    Args:
        name: of the file. rows: how many. first: the line (CSV, the header is 1) or row (Parquet, from 1) of the first.
        gaps: for each empty line between them, how many rows stand before it.
    """

    name: str
    rows: int
    first: int
    gaps: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def line(self, row: int) -> int:
        """Where a row, from 0, stands in its file."""
        return self.first + row + int(np.searchsorted(self.gaps, row, side="right"))

    def cut(self, start: int, rows: int) -> Part:
        """``rows`` of these rows from ``start``."""
        later = self.gaps[self.gaps > start] - start
        return replace(self, rows=rows, first=self.line(start), gaps=later)


@dataclass(frozen=True, eq=False)
class Raw:
    """Columns of one or several files below each other, and which row stands where."""

    frame: pl.DataFrame
    parts: tuple[Part, ...]
    text: bool  # from CSV: everything is text

    def place(self, row: int) -> str:
        """``a.csv:3``, the line in its file (the header is line 1), or ``a.parquet, row 2``, for a row from 0."""
        for part in self.parts:
            if row < part.rows:
                return place(part, row, self.text)
            row -= part.rows
        return self.name

    @property
    def name(self) -> str:
        """The file, or the first of them."""
        return self.parts[0].name


def place(part: Part, row: int, text: bool) -> str:
    """``a.csv:3`` or ``a.parquet, row 2`` for a row of ``part``, from 0."""
    return f"{part.name}:{part.line(row)}" if text else f"{part.name}, row {part.line(row)}"


def refuse(raw: Raw, column: str, wrong: pl.Series, code: str, what: str) -> None:
    """DataError that names the first rows where ``wrong``, if there are any."""
    if not wrong.any():
        return
    values = raw.frame[column]
    raise_rows(
        [
            DataError(code, f"{raw.place(row)}  {column}: {shown(values[row])} {what}")
            for row in wrong.arg_true().head(SHOWN)
        ],
        int(wrong.sum()),
        f"{column}: ",
    )


def raise_rows(problems: Sequence[DataError], count: int, where: str) -> None:
    """Raise the first problems of one kind as one error that says how many there are."""
    more = [DataError(problems[0].code, f"{where}{count:,} such rows in all")] if count > len(problems) else []
    DataError.raise_all([*problems, *more])


def shown(value: object) -> str:
    """A value for a message."""
    plain = value.to_list() if isinstance(value, pl.Series) else value
    return repr(str(plain)[:40]) if plain is not None else "an empty value"
