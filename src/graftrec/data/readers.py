"""Files as they come: CSV of any delimiter, plain or compressed, and Parquet, with every fault named by file and row.

Every CSV value is read as text and given a type afterwards: ids stay what they are (``007`` is not ``7``, a long number
is not rounded, ``NA`` is a name), and a value that does not fit its column is named with its row.
"""

from __future__ import annotations

import glob
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.csv as arrow_csv

from graftrec.errors import DataError, UserError

CSV = (".csv", ".tsv", ".txt")
PACKED = (".gz", ".zst")
DELIMITERS = ",;\t|"
SHOWN = 20  # problems of one kind that are listed


@dataclass(frozen=True, eq=False)
class Raw:
    """Columns of one or several files below each other, and which row stands where."""

    frame: pl.DataFrame
    files: tuple[tuple[str, int], ...]  # name, rows
    text: bool  # from CSV: everything is text

    def place(self, row: int) -> str:
        """``a.csv:3``, the line in its file (the header is line 1), for a row from 0."""
        for name, rows in self.files:
            if row < rows:
                return f"{name}:{row + 2}" if self.text else f"{name}, row {row + 1}"
            row -= rows
        return self.files[-1][0]


def read(path: str, columns: Sequence[str]) -> Raw:
    """Read ``columns`` (all of them where none is named) of a file, a folder of Parquet or a pattern.

    Raises:
        UserError: columns that are not there, all at once. DataError: files that are missing, empty, damaged, of
        another encoding, or rows with too many or too few fields.
    """
    names = _find(path)
    text = all(_is_csv(name) for name in names)
    if not text and any(_is_csv(name) for name in names):
        raise DataError("DATA-012", f"{path}: CSV and Parquet files together; name one kind")
    frames = [_csv(name, columns) if text else _parquet(name, columns) for name in names]
    first = frames[0].schema
    problems = []
    for name, frame in zip(names, frames, strict=True):
        for column in first:
            if column not in frame.columns:
                problems.append(DataError("DATA-031", f"{name} lacks the column '{column}' that {names[0]} has"))
            elif frame.schema[column] != first[column]:
                kinds = f"{frame.schema[column]} in {name}, {first[column]} in {names[0]}"
                problems.append(DataError("DATA-031", f"column '{column}' is {kinds}"))
    DataError.raise_all(problems)
    frame = pl.concat([frame.select(first.names()) for frame in frames])
    files = tuple((name, len(frame)) for name, frame in zip(names, frames, strict=True))
    if frame.is_empty():
        raise DataError("DATA-010", f"{path}: 0 rows")
    return Raw(frame, files, text)


def number(raw: Raw, column: str) -> pl.Series:
    """A column as float32, null where empty.

    Raises:
        DataError: values that are no finite numbers, with their rows.
    """
    values: pl.Series = raw.frame[column]
    if values.dtype == pl.String:
        values = values.replace({"": None})
    found: pl.Series = values.cast(pl.Float32, strict=False)
    wrong = (found.is_null() & values.is_not_null()) | found.is_infinite().fill_null(False)
    _refuse(raw, column, wrong, "DATA-002", "is no finite number")
    return found


def binary(raw: Raw, column: str) -> pl.Series:
    """A label as float32, null where empty: 0 and 1, true and false, yes and no.

    Raises:
        DataError: anything else, with its rows.
    """
    values: pl.Series = raw.frame[column]
    if values.dtype == pl.Boolean:
        plain: pl.Series = values.cast(pl.Float32)
        return plain
    if values.dtype == pl.String:
        words = {"true": "1", "yes": "1", "false": "0", "no": "0", "": None}
        values = values.str.strip_chars().str.to_lowercase().replace(words)
    found: pl.Series = values.cast(pl.Float32, strict=False)
    wrong = (found.is_null() & values.is_not_null()) | ~found.is_in([0.0, 1.0]).fill_null(True)
    _refuse(raw, column, wrong, "TASK-003", "is neither 0 nor 1")
    return found


def seconds(raw: Raw, column: str, unit: float) -> pl.Series:
    """A time as float64 seconds since 1970, null where empty: a date, or a number of ``unit`` seconds.

    Raises:
        DataError: values that are no time, with their rows; numbers of two units in one column.
    """
    values: pl.Series = raw.frame[column]
    if values.dtype == pl.String:
        values = values.replace({"": None})
        numeric = values.cast(pl.Float64, strict=False)
        if numeric.null_count() > values.null_count():
            dates = values.str.to_datetime(strict=False, time_unit="ms", time_zone="UTC", ambiguous="earliest")
            _refuse(raw, column, dates.is_null() & values.is_not_null(), "DATA-042", "is no date")
            values = dates.dt.replace_time_zone(None)
        else:
            values = numeric
    if values.dtype.is_temporal():
        stamps: pl.Series = values.cast(pl.Datetime("ms")).dt.epoch("ms") / 1000.0
        return stamps
    if not values.dtype.is_numeric():
        raise DataError("DATA-042", f"{raw.files[0][0]}: column '{column}' is {values.dtype}, no time")
    found = values.cast(pl.Float64)
    size = found.filter(found.is_finite() & (found > 0))
    if len(size) and float(size.max() or 0) > 100 * float(size.quantile(0.01) or 1) and float(size.max() or 0) > 1e11:
        small, large = (f"{float(value or 0):.0f}" for value in (size.min(), size.max()))
        raise DataError(
            "DATA-041", f"two units in '{column}' ({len(small)} and {len(large)} digits: {small} and {large})"
        )
    scaled: pl.Series = found.fill_nan(None) * unit
    return scaled


def _refuse(raw: Raw, column: str, wrong: pl.Series, code: str, what: str) -> None:
    """DataError that names the first rows where ``wrong``."""
    at = wrong.arg_true()[:SHOWN].to_list()
    problems = [
        DataError(code, f"{raw.place(row)}  {column}: {str(raw.frame[column][row])[:40]!r} {what}") for row in at
    ]
    if int(wrong.sum()) > SHOWN:
        problems.append(DataError(code, f"{column}: {int(wrong.sum()):,} such rows in all"))
    DataError.raise_all(problems)


def _find(path: str) -> list[str]:
    if Path(path).is_dir():
        found = sorted(str(name) for name in Path(path).rglob("*.parquet"))
    else:
        found = sorted(glob.glob(path)) or ([path] if Path(path).is_file() else [])
    if not found:
        raise DataError("DATA-011", f"{path}: there is no such file" + (", or no .parquet in it" * Path(path).is_dir()))
    odd = [name for name in found if not (_is_csv(name) or name.endswith((".parquet", ".pq")))]
    if odd:
        raise DataError("DATA-012", f"{odd[0]}: {', '.join(CSV)} (also {', '.join(PACKED)}) and .parquet are read")
    return found


def _is_csv(name: str) -> bool:
    for ending in PACKED:
        name = name.removesuffix(ending)
    return name.endswith(CSV)


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


def _parquet(name: str, columns: Sequence[str]) -> pl.DataFrame:
    try:
        schema = pl.read_parquet_schema(name)
        wanted = _need(name, list(schema), columns)
        nested = [column for column in wanted if schema[column].is_nested()]
        if nested:
            raise DataError("DATA-032", f"{name}: column '{nested[0]}' is {schema[nested[0]]}: one value a row is read")
        return pl.read_parquet(name, columns=wanted, hive_partitioning=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        size = Path(name).stat().st_size
        why = str(error).splitlines()[0][:160]
        raise DataError("DATA-030", f"{name}: damaged, or a download that stopped? {size:,} bytes ({why})") from None


def _csv(name: str, columns: Sequence[str]) -> pl.DataFrame:
    delimiter, header = _header(name)
    wanted = _need(name, header, columns)
    ragged: list[tuple[int | None, int, str]] = []

    def note(row: arrow_csv.InvalidRow) -> str:
        ragged.append((row.number, row.actual_columns, row.text))
        return "skip"

    def parse(threads: bool) -> pa.Table:
        ragged.clear()
        with pa.input_stream(name, compression="detect") as stream:
            return arrow_csv.read_csv(
                stream,
                arrow_csv.ReadOptions(use_threads=threads),
                arrow_csv.ParseOptions(delimiter=delimiter, invalid_row_handler=note),
                arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(wanted, pa.string()), include_columns=wanted, strings_can_be_null=False
                ),
            )

    try:
        table = parse(threads=True)
        if ragged:
            parse(threads=False)  # once more in order, to learn the rows' numbers
    except pa.ArrowInvalid as error:
        raise _encoding(name) or DataError("DATA-001", f"{name}: {str(error)[:200]}") from None
    DataError.raise_all(
        [
            DataError("DATA-001", f"{name}:{row}  {found} fields, the header has {len(header)}: {text[:60]!r}")
            for row, found, text in ragged[:SHOWN]
        ]
    )
    frame = pl.from_arrow(table)
    if not isinstance(frame, pl.DataFrame):
        raise TypeError("a table was expected")
    for column in frame.columns:
        for sign, what in (("\n", "a line break: is a quote not closed?"), ("\0", "a NUL byte")):
            at = frame[column].str.contains(sign, literal=True).arg_true()
            if len(at):
                raise DataError("DATA-006", f"{name}:{at[0] + 2}  {column}: the value has {what}")
    return frame


def _start(name: str, size: int = 65_536) -> bytes:
    try:
        with pa.input_stream(name, compression="detect") as stream:
            return bytes(stream.read(size))
    except (OSError, pa.ArrowInvalid) as error:
        with open(name, "rb") as file:
            first = file.read(8)
        raise DataError("DATA-013", f"{name}: not a CSV (first bytes {first!r}; {str(error)[:80]})") from None


def _header(name: str) -> tuple[str, list[str]]:
    """The delimiter and the names of the columns."""
    start = _start(name)
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError("DATA-004", f"{name}: UTF-16; save it as UTF-8")
    if not start.strip():
        raise DataError("DATA-010", f"{name}: 0 rows, the file is empty")
    line = start.removeprefix(b"\xef\xbb\xbf").splitlines()[0]
    try:
        head = line.decode("utf-8")
    except UnicodeDecodeError:
        raise DataError("DATA-013", f"{name}: not a CSV (first bytes {start[:8]!r})") from None
    if any(ord(letter) < 32 and letter != "\t" for letter in head):
        raise DataError("DATA-013", f"{name}: not a CSV (first bytes {start[:8]!r})")
    delimiter = max(DELIMITERS, key=head.count)
    parsed = arrow_csv.read_csv(pa.py_buffer(line + b"\n"), parse_options=arrow_csv.ParseOptions(delimiter=delimiter))
    names: list[str] = parsed.column_names
    twice = [column for column in dict.fromkeys(names) if names.count(column) > 1]
    if twice:
        raise DataError("DATA-005", f"{name}: column '{twice[0]}' appears {names.count(twice[0])} times")
    return delimiter, names


def _encoding(name: str) -> DataError | None:
    """The first byte that is not UTF-8, if there is one; looked for only after a fault."""
    opened = gzip.open(name, "rb") if name.endswith(".gz") else open(name, "rb")  # noqa: SIM115
    with opened as lines:
        for row, line in enumerate(lines, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                byte = line[error.start]
                return DataError("DATA-004", f"{name}:{row}  byte 0x{byte:02X} is not UTF-8; save the file as UTF-8")
    return None
