"""Bad inputs by their row in the table of bad inputs: each is named with its code, file, row and column, or read right.

The numbers are those of section 3 of the notes on reliability; what is missing here is decided above the readers.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

from graftrec.data.sources import table_reader
from graftrec.utils.errors import DataError, UserError

COLUMNS = ["user", "item", "ts", "label", "price"]
HEAD = "user,item,ts,label,price\n"
GOOD = "a,1,0,1,2.5\n"
WIDE = 200_001  # a row past any sample that a reader infers types from
FRAME = pl.DataFrame({"user": ["a", "b"], "label": [0, 1], "price": [1.0, 2.0]})
Read = Callable[[str], Any]


def table(path: str) -> list[tuple[object, ...]]:
    """A file of `COLUMNS`, typed."""
    raw = table_reader.read(path, COLUMNS)
    typed = [
        *(table_reader.words(raw, column) for column in ("user", "item")),
        table_reader.seconds(raw, "ts", "s"),
        table_reader.binary(raw, "label"),
        table_reader.number(raw, "price"),
    ]
    return pl.DataFrame(typed).rows()


def columns(
    *names: str, read: Callable[[table_reader.Raw, str], pl.Series] | None = None, lists: Sequence[str] = ()
) -> Read:
    """The last of ``names``, read as it stands or by ``read``."""

    def fetch(path: str) -> list[Any]:
        raw = table_reader.read(path, names, lists)
        return (raw.frame[names[-1]] if read is None else read(raw, names[-1])).to_list()

    return fetch


def seconds(raw: table_reader.Raw, column: str) -> pl.Series:
    return table_reader.seconds(raw, column, "s")


def in_batches(path: str) -> None:
    clock = table_reader.Clock()
    for raw in table_reader.batches(path, ["ts"], rows=2):
        table_reader.seconds(raw, "ts", "s", clock)


@dataclass(frozen=True)
class Case:
    """Files, what is done with the first, or with all if there are more, and what comes of it."""

    row: int
    what: str
    content: bytes | str | pl.DataFrame | dict[str, bytes | str | pl.DataFrame]
    code: str = ""  # none: it is read
    said: tuple[str, ...] = ()  # parts of the message
    gives: Any = None
    read: Read = table
    name: str = ""

    def files(self) -> dict[str, bytes]:
        """Their names and bytes."""
        single = "t.parquet" if isinstance(self.content, pl.DataFrame) else "t.csv"
        named = self.content if isinstance(self.content, dict) else {self.name or single: self.content}
        return {name: as_bytes(content) for name, content in named.items()}


def lines(*rows: str) -> str:
    return HEAD + "".join(row + "\n" for row in rows)


def ids(*found: str) -> str:
    return lines(*(f"{value},1,0,1,1" for value in found))


def flipped(column: str, group: int) -> bytes:
    """Parquet with a wrong bit in the page of one column of one row group."""
    out = BytesIO()
    frame = pl.concat([FRAME] * 300)
    pq.write_table(frame.to_arrow(), out, row_group_size=200, write_page_checksum=True, use_dictionary=False)
    place = pq.ParquetFile(out).metadata.row_group(group).column(frame.columns.index(column))
    content = bytearray(out.getvalue())
    content[place.data_page_offset + place.total_compressed_size - 3] ^= 4
    return bytes(content)


def one(*values: Any) -> pl.DataFrame:
    """A column ``x``, to be written as Parquet."""
    return pl.DataFrame({"x": values}, strict=False)


def parquet(frame: pl.DataFrame) -> bytes:
    out = BytesIO()
    frame.write_parquet(out)
    return out.getvalue()


def as_bytes(content: bytes | str | pl.DataFrame) -> bytes:
    if isinstance(content, pl.DataFrame):
        return parquet(content)
    return content if isinstance(content, bytes) else content.encode()


def column(read: Callable[[table_reader.Raw, str], pl.Series], name: str = "x") -> Read:
    return columns(name, read=read)


USER = column(table_reader.words, "user")
ZONED = datetime(2020, 1, 1, tzinfo=timezone.utc)
CASES = [
    Case(1, "extra field", lines("a,1,0,1,1", "1,2,0,1,9,7"), "DATA-001", ("t.csv:3 ", "6 fields", "'1,2,0,1,9,7'")),
    Case(1, "extra field first", lines("1,2,0,1,9,7"), "DATA-001", ("t.csv:2 ", "6 fields, the header has 5")),
    Case(1, "after empty lines", lines("", GOOD, "", "1,2,0,1,9,7"), "DATA-001", ("t.csv:6 ", "6 fields")),
    Case(1, "far down", HEAD + GOOD * WIDE + "1,2,0,1,9,7\n", "DATA-001", (f"t.csv:{WIDE + 2} ", "6 fields")),
    Case(2, "missing field", HEAD + GOOD + "1,2,0\n" + GOOD, "DATA-001", ("t.csv:3 ", "3 fields, the header has 5")),
    Case(2, "several", HEAD + GOOD + "1\n" + GOOD + "1,2\n", "DATA-001", ("t.csv:3 ", "t.csv:5 ")),
    Case(2, "very many", HEAD + "1\n" * 30, "DATA-001", ("t.csv:2 ", "t.csv:21 ", "30 such rows in all")),
    Case(3, "text early", lines("a,1,0,1,1", "a,1,0,1,free"), "DATA-002", ("t.csv:3 ", "price: 'free' is no finite")),
    Case(4, "text late", HEAD + GOOD * WIDE + "a,1,0,1,x\n", "DATA-002", (f"t.csv:{WIDE + 2} ", "price: 'x'")),
    Case(5, "semicolons", (HEAD + GOOD).replace(",", ";"), gives=[("a", "1", 0.0, 1.0, 2.5)]),
    Case(5, "colons", (HEAD + GOOD).replace(",", ":"), "DATA-003", ("t.csv:1 ", "'user:item:ts", "looks like ':'")),
    Case(5, "hats", (HEAD + GOOD).replace(",", "^"), "DATA-003", ("t.csv:1 ", "looks like '^'")),
    Case(5, "double colons", (HEAD + GOOD).replace(",", "::"), "DATA-003", ("t.csv:1 ", "looks like '::'")),
    Case(5, "spaces", (HEAD + GOOD).replace(",", " "), "DATA-003", ("t.csv:1 ", "looks like ' '")),
    Case(6, "mark", "\ufeff" + HEAD + GOOD, gives=[("a", "1", 0.0, 1.0, 2.5)]),
    Case(7, "latin-1", lines("a,1,0,1,1", "é,1,0,1,1").encode("latin-1"), "DATA-004", ("t.csv:3 ", "byte 0xE9")),
    Case(7, "ragged too", lines("a,1,0,1,1", "é,1").encode("latin-1"), "DATA-004", ("t.csv:3 ", "byte 0xE9")),
    Case(
        7, "compressed", gzip.compress(lines("é,1,0,1,1").encode("latin-1")), "DATA-004",
        ("t.csv.gz:2 ", "byte 0xE9 is not UTF-8"), name="t.csv.gz",
    ),
    Case(8, "UTF-16", (HEAD + GOOD).encode("utf-16"), "DATA-004", ("t.csv: UTF-16",)),
    Case(8, "UTF-16 without a mark", (HEAD + GOOD).encode("utf-16-le"), "DATA-004", ("t.csv: UTF-16",)),
    Case(9, "NUL", lines("a,1,0,1,1", "a\0,1,0,1,1"), "DATA-006", ("t.csv:3 ", "user: the value has a NUL byte")),
    Case(10, "open quote", HEAD + GOOD + 'a,"1,0,1,1\n' + GOOD, "DATA-006", ("t.csv:3 ", """'a,"1,0,1,1'""")),
    Case(10, "closed later", HEAD + GOOD + 'a,"1\n",0,1,1\n' + GOOD, "DATA-006", ("t.csv:3 ", "a quote is not closed")),
    Case(10, "far down", HEAD + GOOD * WIDE + 'a,"1,0,1,1\n' + GOOD * WIDE, "DATA-006", (f"t.csv:{WIDE + 2} ",)),
    Case(10, "in an unread column", 'user,x\na,"1\nb,2\nc,3"\n', "DATA-006", ("t.csv:2 ",), read=columns("user")),
    Case(10, "in the header", '"user,item\n', "DATA-006", ("t.csv:1 ", "header has a quote that is not closed")),
    Case(11, "same name twice", "user,item,user\n1,2,3\n", "DATA-005", ("t.csv: column 'user' appears 2 times",)),
    Case(12, "spaces", "user, item ,ts,label,price\n" + GOOD, "user", ("t.csv has no column 'item'", "mean ' item '?")),
    Case(13, "header only", HEAD, "DATA-010", ("t.csv: 0 rows",)),
    Case(13, "header without an end", HEAD.strip(), "DATA-010", ("t.csv: 0 rows",)),
    Case(13, "header and empty lines", HEAD + "\n\n", "DATA-010", ("t.csv: 0 rows",)),
    Case(14, "empty", b"", "DATA-010", ("t.csv: 0 rows, the file is empty",)),
    Case(15, "garbage", bytes(range(1, 256)) * 3, "DATA-013", ("t.csv: not a CSV (first bytes",)),
    Case(15, "no line at all", b"x" * (9 << 20), "DATA-013", ("t.csv: not a CSV", "first line is longer")),
    Case(15, "false gzip", HEAD + GOOD, "DATA-013", ("t.csv.gz: not a CSV (first bytes b'user,ite'",), name="t.csv.gz"),
    Case(
        15, "half a gzip", gzip.compress(ids(*map(str, range(99)))[:900].encode())[:99], "DATA-030", ("t.csv.gz: dam",),
        name="t.csv.gz",
    ),
    Case(15, "Parquet as CSV", parquet(FRAME), "DATA-013", ("t.csv: not a CSV (first bytes b'PAR1",)),
    Case(16, "zeros in front", ids("007", "7", "7.0"), gives=["007", "7", "7.0"], read=USER),
    Case(17, "2^53+1", ids("9007199254740993", ""), gives=["9007199254740993", None], read=USER),
    Case(17, "2^53+1 in Parquet", one(2**53 + 1, None), gives=[2**53 + 1, None], read=column(table_reader.words)),
    Case(18, "2^63", ids("9223372036854775808"), gives=["9223372036854775808"], read=USER),
    Case(
        18, "2^63 in Parquet", pl.DataFrame({"x": pl.Series([2**63, None, 1], dtype=pl.UInt64)}),
        gives=[2**63, None, 1], read=column(table_reader.words),
    ),
    Case(
        18, "2^63 as a decimal", pl.DataFrame({"x": pl.Series([2**63, 1]).cast(pl.Decimal(38, 0))}),
        gives=[str(2**63), "1"], read=column(table_reader.words),
    ),
    Case(19, "words for nothing", ids("NA", "null", "None", '""'), gives=["NA", "null", "None", None], read=USER),
    Case(20, "1e5", ids("1e5", "100000", "true"), gives=["1e5", "100000", "true"], read=USER),
    Case(
        20, "whole floats", one(3.0, None, float("nan"), 2.0**60), gives=[3, None, None, 2**60],
        read=column(table_reader.words),
    ),
    Case(20, "floats", one(3.0, 0.1), gives=["3.0", "0.1"], read=column(table_reader.words)),
    Case(
        21, "words", "label\nTrue\nno\n1.0\n0\nYES\n FALSE \n", gives=[1.0, 0.0, 1.0, 0.0, 1.0, 0.0],
        read=column(table_reader.binary, "label"),
    ),
    Case(21, "bool", one(True, None, False), gives=[1.0, None, 0.0], read=column(table_reader.binary)),
    Case(21, "maybe", lines("a,1,0,maybe,1"), "TASK-003", ("t.csv:2 ", "label: 'maybe' is neither 0 nor 1")),
    Case(
        22, "2, -1, 0.5", lines("a,1,0,2,1", "a,1,0,-1,1", "a,1,0,0.5,1"), "TASK-003",
        ("t.csv:2 ", "label: '2'", "t.csv:3 ", "t.csv:4 "),
    ),
    Case(22, "2 in Parquet", one(1, 2), "TASK-003", ("t.parquet, row 2 ", "x: '2'"), read=column(table_reader.binary)),
    Case(23, "none", "x,label\n1,1\n1,\n1,NaN\n", gives=[1.0, None, None], read=column(table_reader.binary, "label")),
    Case(24, "inf", lines("a,1,0,1,1", "a,1,0,1,inf"), "DATA-002", ("t.csv:3 ", "price: 'inf' is no finite number")),
    Case(24, "1e308", lines("a,1,0,1,1", "a,1,0,1,-1e308"), "DATA-002", ("t.csv:3 ", "price: '-1e308'")),
    Case(
        24, "inf in Parquet", one(1.0, float("inf")), "DATA-002", ("t.parquet, row 2 ", "x: 'inf'"),
        read=column(table_reader.number),
    ),
    Case(
        27, "weights", "w\n1\n0\n-2\nx\n''\ninf\n", "DATA-034",
        ("t.csv:3 ", "w: '0'", "t.csv:4 ", "t.csv:5 ", "t.csv:6 ", "t.csv:7 "), read=column(table_reader.weight, "w"),
    ),
    Case(
        27, "no weight", one(0.5, None), "DATA-034", ("t.parquet, row 2 ", "x: an empty value"),
        read=column(table_reader.weight),
    ),
    Case(
        28, "cut", parquet(FRAME)[:300], "DATA-030", ("t.parquet: damaged, or a download that stopped? 300 bytes",),
        read=columns("user"), name="t.parquet",
    ),
    Case(28, "empty", b"", "DATA-030", ("t.parquet: damaged", " 0 bytes"), read=columns("user"), name="t.parquet"),
    Case(
        29, "flipped page", flipped("price", 2), "DATA-030", ("t.parquet, row group 3 of 3, column 'price'",),
        read=columns("user", "label", "price"), name="t.parquet",
    ),
    Case(29, "flipped and unread", flipped("price", 2), gives=["a", "b"] * 300, read=columns("user"), name="t.parquet"),
    Case(
        29, "text that is none", one(b"ok", b"\xe9"), "DATA-004", ("t.parquet, row 2 ", "x: b'\\xe9'"),
        read=columns("x"),
    ),
    Case(
        30, "a part lacks a column", {"a.parquet": FRAME, "b.parquet": FRAME.drop("label")}, "DATA-031",
        ("b.parquet lacks the column 'label'", "a.parquet has"), read=columns("user", "label"),
    ),
    Case(
        30, "a CSV lacks one", {"a.csv": "x,y\n1,2\n", "b.csv": "x,z\n1,2\n"}, "DATA-031",
        ("b.csv lacks the column 'y'", "a.csv has"), read=columns("x", "y"),
    ),
    Case(
        31, "another type", {"a.parquet": FRAME, "b.parquet": FRAME.with_columns(user=pl.lit(1))}, "DATA-031",
        ("column 'user' is Int32 in", "b.parquet, String in", "a.parquet"), read=columns("user"),
    ),
    Case(32, "list", one([1.0], [2.0]), "DATA-032", ("t.parquet: column 'x' is List(Float64)",), read=columns("x")),
    Case(32, "struct", one({"a": 1}), "DATA-032", ("t.parquet: column 'x' is Struct",), read=columns("x", lists="x")),
    Case(
        32, "list of lists", one([[1]]), "DATA-032", ("t.parquet: column 'x' is List(List(Int64))",),
        read=columns("x", lists="x"),
    ),
    Case(
        33, "zones", "ts\n2020-01-01 00:00:00\n2020-01-01 00:00:00+02:00\n2020-01-02 00:00:00\n", "DATA-043",
        ("t.csv:3 ", "ts: '2020-01-01 00:00:00+02:00' has a time zone", "in UTC"), read=column(seconds, "ts"),
    ),
    Case(
        33, "no zone", "ts\n2020-01-01T00:00:00Z\n2020-01-01T00:00:00\n2020-01-02T00:00:00Z\n", "DATA-043",
        ("t.csv:3 ", "ts: '2020-01-01T00:00:00' has no time zone"), read=column(seconds, "ts"),
    ),
    Case(
        33, "over batches", "ts\n2020-01-01\n2020-01-02\n2020-01-03T00:00Z\n", "DATA-043", ("t.csv:4 ", "ts: "),
        read=in_batches,
    ),
    Case(
        33, "over files", {"a.parquet": one(ZONED), "b.parquet": one(ZONED.replace(tzinfo=None))}, "DATA-043",
        ("column 'x' has no time zone in", "b.parquet and has one in", "a.parquet"), read=columns("x"),
    ),
    Case(
        33, "all zoned", "ts\n1970-01-01T00:00:00Z\n1970-01-01 02:00:00+02:00\n", gives=[0.0, 0.0],
        read=column(seconds, "ts"),
    ),
    Case(
        34, "two units", lines("a,1,1600000000,1,1", "a,1,1600000000000,1,1"), "DATA-041",
        ("t.csv:3 ", "ts: two units", "10 and 13 digits"),
    ),
    Case(
        34, "over batches", "ts\n1600000000000\n1600000000000\n\n1600000000\n", "DATA-041",
        ("t.csv:5 ", "ts: two units"), read=in_batches,
    ),
    Case(
        34, "numbers and dates", "ts\n1600000000\n1600000000\n2020-01-01\n", "DATA-042",
        ("t.csv:4 ", "ts: '2020-01-01' is no time"), read=in_batches,
    ),
    Case(
        34, "dates and numbers", "ts\n2020-01-01\n2020-01-01\n2020\n", "DATA-042", ("t.csv:4 ", "ts: '2020' is"),
        read=in_batches,
    ),
    Case(
        36, "month 13", lines("a,1,2020-01-01,1,1", "a,1,2020-13-01,1,1"), "DATA-042",
        ("t.csv:3 ", "ts: '2020-13-01' is no date"),
    ),
    Case(36, "not a time", one(True), "DATA-042", ("t.parquet: column 'x' is Boolean, no time",), read=column(seconds)),
    Case(37, "lists", "x,y\n1 2,\n,\n 3 3 ,\n", gives=[["1", "2"], [], ["3", "3"]], read=column(table_reader.listed)),
    Case(
        38, "odd ids", ids("", "🙂", "ß ", "x" * 1000, "x" * 1001), gives=[None, "🙂", "ß ", "x" * 1000, None],
        read=USER,
    ),
    Case(38, "long and not of one byte", ids("ä" * 1000, "ä" * 1001), gives=["ä" * 1000, None], read=USER),
    Case(38, "a line longer than a block", ids("x" * (3 << 20), "a"), gives=[None, "a"], read=USER),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[f"row{case.row:02}-{case.what}" for case in CASES])
def test_a_bad_file_is_named_or_read_right(case: Case, tmp_path: Path) -> None:
    files = case.files()
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    first = next(iter(files))
    path = str(tmp_path / (first if len(files) == 1 else f"*{Path(first).suffix}"))
    if case.code:
        with pytest.raises(UserError if case.code == "user" else DataError) as told:
            case.read(path)
        assert getattr(told.value, "code", "user") == case.code
        for part in case.said:
            assert part in str(told.value)
    else:
        assert case.read(path) == case.gives
    assert sorted(found.name for found in tmp_path.iterdir()) == sorted(files)
