"""Files as they come: CSV of any delimiter, plain or compressed, and Parquet, with every fault named by file and row.

Every CSV value is read as text and given a type afterwards: ids stay what they are (``007`` is not ``7``, a long number
is not rounded, ``NA`` is a name), and a value that does not fit its column is named with its row. Rows come in batches,
so that memory does not grow with the file.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import unquote

import polars as pl

from graftrec.data.sources import csv_reader, parquet_reader
from graftrec.data.sources.provenance import Part, Raw
from graftrec.data.sources.timestamps import Clock, check_units, seconds
from graftrec.data.sources.value_parsers import (
    LONGEST,
    are_whole,
    binary,
    listed,
    number,
    too_long,
    vector,
    weight,
    words,
)
from graftrec.utils.errors import DataError, UserError

__all__ = [
    "LONGEST", "Clock", "Part", "Raw", "batches", "binary", "check_units", "columns", "find", "listed", "number",
    "read", "seconds", "too_long", "vector", "weight", "whole", "words",
]  # fmt: skip

CSV = (".csv", ".tsv", ".txt")
PACKED = (".gz", ".zst")
PARQUET = (".parquet", ".pq")
BYTES = 32 << 20  # of one batch, about
Piece = tuple[pl.DataFrame, Part, int]


@dataclass(frozen=True)
class Plan:
    """What is read of which files; ``types`` of the columns of Parquet, ``headers`` of CSV.

    Args:
        fixed: file -> column -> its value in all rows, which the names of its folders say.
    """

    path: str
    names: tuple[str, ...]
    columns: tuple[str, ...]
    types: dict[str, pl.DataType]
    headers: tuple[csv_reader.Header, ...]
    fixed: dict[str, dict[str, str | None]] = field(default_factory=dict)

    def pieces(self, rows: int) -> Iterator[Piece]:
        """Frames, where their rows stand, and their bytes."""
        for head in self.headers:
            yield from csv_reader.pieces(head, self.columns)
        if not self.headers:
            for name in self.names:
                fixed = self.fixed[name]
                own = {column: dtype for column, dtype in self.types.items() if column not in fixed}
                for frame, part, size in parquet_reader.pieces(name, own, rows):
                    more = {
                        column: pl.Series([fixed[column]], dtype=pl.String).new_from_index(0, part.rows)
                        for column in self.types
                        if column in fixed
                    }
                    whole = pl.DataFrame({**frame.to_dict(), **more}).select(self.columns) if more else frame
                    yield whole, part, size


def batches(path: str, columns: Sequence[str], lists: Sequence[str] = (), rows: int = 500_000) -> Iterator[Raw]:
    """Read ``columns`` (all of them where none is named) of a file, a folder of Parquet or a pattern, batch by batch.

    The headers and types of all files are checked before this returns, the rows as they come.

    Args:
        lists: those of ``columns`` that may hold a list a row. rows: of a batch at most; wide ones are shorter.

    Raises:
        UserError: columns that are not there, all at once. DataError: files that are missing, empty, damaged, of
        another encoding, or rows with too many or too few fields.
    """
    return _batches(_plan(path, columns, lists), rows)


def read(path: str, columns: Sequence[str], lists: Sequence[str] = ()) -> Raw:
    """All `batches` below each other."""
    found = list(batches(path, columns, lists))
    frame = found[0].frame if len(found) == 1 else pl.concat([raw.frame for raw in found], rechunk=True)
    return Raw(frame, tuple(part for raw in found for part in raw.parts), found[0].text)


def columns(path: str) -> list[str]:
    """Names of the columns of the first file of a path."""
    name = find(path)[0]
    if _is_csv(name):
        return list(csv_reader.header(name).columns)
    there = list(parquet_reader.schema(name).names)
    return [*there, *(column for column in _partition(path, name) if column not in there)]


def whole(path: str, columns: Sequence[str], lists: Sequence[str] = ()) -> set[str]:
    """Which of ``columns`` are floats that are all whole numbers: `words` makes integers of these in every batch."""
    plan = _plan(path, columns, lists)
    found = {name for name, dtype in plan.types.items() if getattr(dtype, "inner", dtype).is_float()}
    for raw in batches(path, sorted(found), lists=sorted(found)) if found else ():
        found = {name for name in found if are_whole(raw.frame[name])}
        if not found:
            break
    return found


def _batches(plan: Plan, rows: int) -> Iterator[Raw]:
    """Pieces put together, or cut, to batches of ``rows``, fewer if these are many bytes."""
    text = bool(plan.headers)
    held: list[tuple[pl.DataFrame, Part]] = []
    count = size = total = 0
    for frame, part, weighs in plan.pieces(rows):
        at = 0
        while at < len(frame):
            take = min(len(frame) - at, rows - count)
            held.append((frame[at : at + take], part.cut(at, take)))
            at, count = at + take, count + take
            if count == rows:
                yield _together(held, text)
                held, count, size = [], 0, -weighs  # what is left of the piece is held anyway
        total, size = total + len(frame), size + weighs
        if size >= BYTES and held:
            yield _together(held, text)
            held, count, size = [], 0, 0
    if held:
        yield _together(held, text)
    if not total:
        raise DataError("DATA-010", f"{plan.path}: 0 rows")


def _together(held: list[tuple[pl.DataFrame, Part]], text: bool) -> Raw:
    frame = held[0][0] if len(held) == 1 else pl.concat([frame for frame, _ in held])
    return Raw(frame, tuple(part for _, part in held), text)


def _plan(path: str, columns: Sequence[str], lists: Sequence[str]) -> Plan:
    """Find the files, and check that they have the columns, all of the same types."""
    names = find(path)
    text = all(_is_csv(name) for name in names)
    if not text and any(_is_csv(name) for name in names):
        raise DataError("DATA-012", f"{path}: CSV and Parquet files together; name one kind")
    asked = [*columns, *lists] if columns else []
    if text:
        headers = tuple(csv_reader.header(name) for name in names)
        there = [list(head.columns) for head in headers]
        unread = csv_reader.delimiter_of(headers[0], columns)
        if unread:
            raise unread
        wanted = _need(names[0], there[0], asked)
        DataError.raise_all(_lacks(names, there, wanted))
        return Plan(path, tuple(names), tuple(wanted), {}, headers)
    schemas = [parquet_reader.schema(name) for name in names]
    fixed = {
        name: {column: value for column, value in _partition(path, name).items() if column not in schema.names}
        for name, schema in zip(names, schemas, strict=True)
    }
    there = [[*schema.names, *fixed[name]] for name, schema in zip(names, schemas, strict=True)]
    wanted = _need(names[0], there[0], asked)
    DataError.raise_all(_lacks(names, there, wanted))
    types = []
    for name, schema in zip(names, schemas, strict=True):
        own = parquet_reader.types(name, schema, [column for column in wanted if column not in fixed[name]], lists)
        types.append({column: own.get(column, pl.String()) for column in wanted})
    DataError.raise_all(_differ(names, types))
    return Plan(path, tuple(names), tuple(wanted), types[0], (), fixed)


def _need(name: str, there: Sequence[str], columns: Sequence[str]) -> list[str]:
    """The columns to read; UserError for those that are not there."""
    problems = []
    for column in dict.fromkeys(columns):
        if column not in there:
            near = get_close_matches(column, there, 1) or [word for word in there if word.strip() == column.strip()]
            hint = f"; did you mean '{near[0]}'?" if near else f"; it has {', '.join(there)}"
            problems.append(f"dataset: {name} has no column '{column}'{hint}")
    if problems:
        raise UserError(problems)
    return list(dict.fromkeys(columns)) or list(there)


def _lacks(names: Sequence[str], there: Sequence[Sequence[str]], wanted: Sequence[str]) -> list[DataError]:
    return [
        DataError("DATA-031", f"{name} lacks the column '{column}' that {names[0]} has")
        for name, columns in zip(names, there, strict=True)
        for column in wanted
        if column not in columns
    ]


def _differ(names: Sequence[str], types: Sequence[dict[str, pl.DataType]]) -> list[DataError]:
    """Columns that are of another type than in the first file."""
    problems = []
    for name, found in zip(names, types, strict=True):
        for column, dtype in found.items():
            first = types[0][column]
            zones = [getattr(kind, "time_zone", None) is None for kind in (dtype, first)]
            if isinstance(dtype, pl.Datetime) and isinstance(first, pl.Datetime) and zones[0] != zones[1]:
                which = f"has no time zone in {name if zones[0] else names[0]}"
                other = f"has one in {names[0] if zones[0] else name}"
                problems.append(DataError("DATA-043", f"column '{column}' {which} and {other}; write both in UTC"))
            elif dtype != first:
                kinds = f"{dtype} in {name}, {first} in {names[0]}"
                problems.append(DataError("DATA-031", f"column '{column}' is {kinds}; write both as one type"))
    return problems


def find(path: str) -> list[str]:
    """Names of the files of a path, sorted; what exists is never taken for a pattern.

    In a folder, whatever begins with ``_`` or ``.`` is no data, as Arrow and Spark have it: drafts, logs, checksums.

    Raises:
        DataError: there is none, or one that is neither CSV nor Parquet.
    """
    if Path(path).is_dir():
        found = sorted(str(name) for name in Path(path).rglob("*.parquet"))
    elif Path(path).is_file():
        found = [path]
    else:
        folder, pattern = os.path.split(path)
        found = sorted(glob.glob(os.path.join(glob.escape(folder), pattern) if os.path.isdir(folder) else path))
    if not Path(path).is_file():
        root, meant = _root(path), {part[0] for part in Path(path).parts}
        hidden = {"_", "."} - meant  # unless the pattern says so
        found = [name for name in found if not hidden & {part[0] for part in Path(name).relative_to(root).parts}]
    if not found:
        raise DataError("DATA-011", f"{path}: there is no such file" + (", or no .parquet in it" * Path(path).is_dir()))
    odd = [name for name in found if not (_is_csv(name) or name.endswith(PARQUET))]
    if odd:
        raise DataError("DATA-012", f"{odd[0]}: {', '.join(CSV)} (also {', '.join(PACKED)}) and .parquet are read")
    return found


def _partition(path: str, name: str) -> dict[str, str | None]:
    """Columns that the folders of a file say, ``dt=2020-01-01``, below the folder or the pattern of a dataset."""
    folders = Path(name).relative_to(_root(path)).parts[:-1]
    pairs = [part.split("=", 1) for part in folders if "=" in part]
    return {unquote(key): None if value == "__HIVE_DEFAULT_PARTITION__" else unquote(value) for key, value in pairs}


def _root(path: str) -> Path:
    """The folder that a path is, or that its pattern begins in."""
    root = Path(path)
    while not root.is_dir():
        root = root.parent
    return root


def _is_csv(name: str) -> bool:
    for ending in PACKED:
        name = name.removesuffix(ending)
    return name.endswith(CSV)
