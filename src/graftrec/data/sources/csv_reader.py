"""A CSV as whole lines, some megabytes at a time: every value is text, and every fault has its line."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.csv as arrow_csv

from graftrec.data.sources.provenance import SHOWN, Part, place, raise_rows
from graftrec.utils.errors import DataError

DELIMITERS = ",;\t|"
CHUNK = 8 << 20  # bytes that are parsed at a time; one line may be as long
BLOCK = 1 << 20  # bytes that one thread parses
MARK = b"\xef\xbb\xbf"
PACKED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")  # how gzip and zstd begin


@dataclass(frozen=True)
class Header:
    """The first line of a file: its number, the delimiter and the names of the columns."""

    name: str
    line: int
    delimiter: str
    columns: tuple[str, ...]


def header(name: str) -> Header:
    """Read the first line that is not empty.

    Raises:
        DataError: the file is empty, no CSV, UTF-16, or names a column twice.
    """
    start, whole = _start(name)
    if start[:2] in (b"\xff\xfe", b"\xfe\xff") or _is_half_nul(start[:200]):
        raise DataError("DATA-004", f"{name}: UTF-16; save it as UTF-8")
    if not start.strip():
        raise DataError("DATA-010", f"{name}: 0 rows, the file is empty")
    lines = _plain_ends(start.removeprefix(MARK)).split(b"\n")
    at = next(at for at, line in enumerate(lines) if line)
    line = lines[at]
    if at == len(lines) - 1 and not whole:
        raise DataError("DATA-013", f"{name}: not a CSV (its first line is longer than {len(start):,} bytes)")
    try:
        head = line.decode("utf-8")
    except UnicodeDecodeError:
        raise DataError("DATA-013", f"{name}: not a CSV (first bytes {start[:8]!r})") from None
    if any(ord(letter) < 32 and letter != "\t" for letter in head):
        raise DataError("DATA-013", f"{name}: not a CSV (first bytes {start[:8]!r})")
    delimiter = max(DELIMITERS, key=head.count)
    if _is_open(line, delimiter):
        raise DataError("DATA-006", f"{name}:{at + 1}  the header has a quote that is not closed")
    parsed = arrow_csv.read_csv(pa.py_buffer(line + b"\n"), parse_options=arrow_csv.ParseOptions(delimiter=delimiter))
    names: list[str] = parsed.column_names
    twice = [column for column in dict.fromkeys(names) if names.count(column) > 1]
    if twice:
        raise DataError("DATA-005", f"{name}: column '{twice[0]}' appears {names.count(twice[0])} times")
    return Header(name, at + 1, delimiter, tuple(names))


def delimiter_of(head: Header, columns: Sequence[str]) -> DataError | None:
    """What to say where the header is one column that holds the wanted ones and a delimiter that is not known."""
    only = head.columns[0]
    signs = Counter(re.findall(r"[^\w\s\"'.-]+|\s+", only)).most_common(1)
    if len(head.columns) > 1 or not columns or only in columns or not signs:
        return None
    return DataError(
        "DATA-003",
        f"{head.name}:{head.line}  the header is one column {only[:60]!r}; the delimiter looks like {signs[0][0]!r}: "
        "save the file with a comma, semicolon, tab or | instead",
    )


def pieces(head: Header, columns: Sequence[str]) -> Iterator[tuple[pl.DataFrame, Part, int]]:
    """Frames of ``columns``, where their rows stand, and their bytes.

    Raises:
        DataError: rows with too many or too few fields, open quotes, NUL bytes, another encoding, a damaged archive.
    """
    line = head.line + 1
    for chunk in _body(head):
        table, gaps = _table(head, columns, chunk, line)
        part = Part(head.name, table.num_rows, line, gaps)
        frame = pl.from_arrow(table)
        if not isinstance(frame, pl.DataFrame):
            raise TypeError("a table was expected")
        if b"\0" in chunk:
            _refuse_nul(frame, part)
        yield frame, part, table.nbytes
        line += chunk.count(b"\n")


def _table(
    head: Header, columns: Sequence[str], chunk: bytes, line: int
) -> tuple[pa.Table, npt.NDArray[np.int64]]:  # fmt: skip
    """Lines as columns of text, and their gaps; ``line`` is the number of the first."""
    ragged: list[arrow_csv.InvalidRow] = []
    try:
        table = _parse(head, columns, chunk, None)
    except pa.ArrowInvalid:  # once more in order: to learn the rows' numbers, or for a line longer than a block
        wrong = _encoding(head, chunk, line)
        if wrong:
            raise wrong from None
        try:
            table = _parse(head, columns, chunk, ragged)
        except pa.ArrowInvalid as error:
            raise DataError("DATA-001", f"{head.name}: {str(error)[:200]}") from None
    lines, gaps = chunk.count(b"\n"), np.zeros(0, np.int64)
    if table.num_rows + len(ragged) != lines:
        gaps = _gaps(chunk)
    if table.num_rows + len(ragged) + len(gaps) != lines:
        raise _open_quote(head, chunk, line)
    if ragged:
        part = Part(head.name, lines, line, gaps)
        raise_rows(
            [
                DataError(
                    "DATA-001",
                    f"{place(part, row.number - 1, True)}  {row.actual_columns} fields, the header has "
                    f"{row.expected_columns}: {row.text[:60]!r}",
                )
                for row in ragged[:SHOWN]
            ],
            len(ragged),
            f"{head.name}: ",
        )
    return table, gaps


def _parse(head: Header, columns: Sequence[str], chunk: bytes, ragged: list[arrow_csv.InvalidRow] | None) -> pa.Table:
    """Fast, or in order as one block, where rows with too many or too few fields go to ``ragged``."""

    def note(row: arrow_csv.InvalidRow) -> str:
        if ragged is not None:
            ragged.append(row)
        return "skip"

    fast = ragged is None
    return arrow_csv.read_csv(
        pa.py_buffer(chunk),
        arrow_csv.ReadOptions(
            column_names=head.columns, use_threads=fast, block_size=BLOCK if fast else len(chunk) + 1
        ),
        arrow_csv.ParseOptions(delimiter=head.delimiter, invalid_row_handler=None if fast else note),
        arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(columns, pa.string()), include_columns=columns, strings_can_be_null=False
        ),
    )


def _start(name: str, size: int = 1 << 16) -> tuple[bytes, bool]:
    """The first bytes of a file, at least its first line, and whether these are all."""
    try:
        with pa.input_stream(name, compression="detect") as stream:
            start = bytes(stream.read(size))
            if len(start) == size and not re.search(rb"[^\r\n][\r\n]", start):
                start += bytes(stream.read(CHUNK))
            return start, not stream.read(1)
    except (OSError, pa.ArrowInvalid) as error:
        with open(name, "rb") as file:
            first = file.read(8)
        if first.startswith(PACKED):
            raise DataError("DATA-030", f"{name}: damaged, or a download that stopped? ({error})") from None
        raise DataError("DATA-013", f"{name}: not a CSV (first bytes {first!r}; {str(error)[:80]})") from None


def _is_half_nul(start: bytes) -> bool:
    """UTF-16 without a mark: every other byte of plain letters is NUL."""
    return start[:2].count(b"\0") == 1 and 2 * start.count(b"\0") >= len(start) - 1


def _body(head: Header) -> Iterator[bytes]:
    """The lines below the header."""
    left = head.line
    for chunk in _chunks(head.name):
        at = 0
        while left and at < len(chunk):
            at, left = chunk.index(b"\n", at) + 1, left - 1
        if at < len(chunk):
            yield chunk[at:] if at else chunk


def _chunks(name: str) -> Iterator[bytes]:
    """Whole lines, about `CHUNK` bytes at a time; each line ends in one line feed, also the last."""
    rest, first = b"", True
    with pa.input_stream(name, compression="detect") as stream:
        while True:
            try:
                block = bytes(stream.read(CHUNK))
            except (OSError, pa.ArrowInvalid) as error:
                raise DataError("DATA-030", f"{name}: damaged, or a download that stopped? ({error})") from None
            text = rest + (block.removeprefix(MARK) if first else block)
            first = False
            if not block:
                break
            cut = max(text.rfind(b"\n"), text.rfind(b"\r", 0, -1)) + 1  # a last \r may be half of \r\n
            rest = text[cut:]
            if cut:
                yield _plain_ends(text[:cut])
            elif len(rest) > CHUNK:
                raise DataError("DATA-006", f"{name}: a line is longer than {CHUNK:,} bytes; is this a CSV?")
    if rest:
        yield _plain_ends(rest if rest.endswith((b"\n", b"\r")) else rest + b"\n")


def _plain_ends(text: bytes) -> bytes:
    return text.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in text else text


def _gaps(chunk: bytes) -> npt.NDArray[np.int64]:
    """For each empty line, the number of lines before it that are not."""
    ends = np.flatnonzero(np.frombuffer(chunk, np.uint8) == 10)
    empty = np.flatnonzero(np.diff(ends, prepend=-1) == 1)
    return empty - np.arange(len(empty))


def _is_open(line: bytes, delimiter: str) -> bool:
    """Whether a quoted value goes on in the next line."""
    if line.count(b'"') % 2 == 0:
        return False
    try:
        next(csv.reader([line.decode("utf-8", "replace")], delimiter=delimiter, strict=True))
    except csv.Error as error:
        return "unexpected end" in str(error)
    return False


def _open_quote(head: Header, chunk: bytes, line: int) -> DataError:
    """Fewer rows than lines: a value has a line break in it."""
    for number, text in enumerate(chunk.split(b"\n"), line):
        if _is_open(text, head.delimiter):
            said = text.decode("utf-8", "replace")[:60]
            return DataError(
                "DATA-006",
                f"{head.name}:{number}  a quote is not closed in its line: {said!r}; close it, "
                "or take the line breaks out of the values",
            )
    return DataError("DATA-006", f"{head.name}: from line {line} on, a value has a line break: is a quote not closed?")


def _refuse_nul(frame: pl.DataFrame, part: Part) -> None:
    for column in frame.columns:
        at = frame[column].str.contains("\0", literal=True).arg_true()
        if len(at):
            raise DataError("DATA-006", f"{place(part, at[0], True)}  {column}: the value has a NUL byte")


def _encoding(head: Header, chunk: bytes, line: int) -> DataError | None:
    """The first byte that is not UTF-8, if there is one."""
    try:
        chunk.decode("utf-8")
    except UnicodeDecodeError as error:
        row = line + chunk.count(b"\n", 0, error.start)
        what = f"byte 0x{chunk[error.start]:02X} is not UTF-8 (Latin-1?); save the file as UTF-8"
        return DataError("DATA-004", f"{head.name}:{row}  {what}")
    return None
