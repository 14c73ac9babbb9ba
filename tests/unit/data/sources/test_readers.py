"""Batches: the same rows as all at once, each of which knows its line; and the types that the values get."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from datetime import date, datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graftrec.data.sources import csv_reader, parquet_reader, table_reader
from graftrec.utils.errors import DataError, UserError


def raw_of(**columns: Any) -> table_reader.Raw:
    """Rows of ``a.csv`` from its second line."""
    frame = pl.DataFrame(columns, strict=False)
    return table_reader.Raw(frame, (table_reader.Part("a.csv", len(frame), 2),), True)


@given(
    counts=st.lists(st.lists(st.integers(0, 3), max_size=12), min_size=1, max_size=3),  # empty lines before each row
    rows=st.integers(1, 20),
    chunk=st.integers(24, 200),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    last=st.booleans(),
    ending=st.sampled_from(["csv", "csv.gz"]),
)
@settings(deadline=None, max_examples=150)
def test_every_row_of_a_csv_knows_its_line(
    counts: list[list[int]], rows: int, chunk: int, end: str, last: bool, ending: str
) -> None:
    with TemporaryDirectory() as folder, mock.patch.object(csv_reader, "CHUNK", chunk):
        want = []
        for number, gaps in enumerate(counts):
            lines = ["user,place,more"]
            for empty in gaps:
                lines += [""] * empty
                want.append(f"{folder}/{number}.{ending}:{len(lines) + 1}")
                lines.append(f"u{len(lines)},{number} {len(lines) + 1},é")
            text = (end.join(lines) + end * last).encode()
            Path(folder, f"{number}.{ending}").write_bytes(gzip.compress(text) if "gz" in ending else text)
        path = f"{folder}/*.{ending}"
        if not want:
            with pytest.raises(DataError, match="DATA-010"):
                list(table_reader.batches(path, []))
            return
        found = list(table_reader.batches(path, ["place", "user"], rows=rows))
        places = [raw.place(row) for raw in found for row in range(len(raw.frame))]
        told = [value for raw in found for value in raw.frame["place"]]
        whole = table_reader.read(path, ["place", "user"])
        assert places == want == [whole.place(row) for row in range(len(want))]
        assert [f"{folder}/{word.replace(' ', f'.{ending}:')}" for word in told] == want
        assert all(len(raw.frame) == rows for raw in found[:-1])
        assert pl.concat([raw.frame for raw in found]).equals(whole.frame)


@given(counts=st.lists(st.integers(0, 30), min_size=1, max_size=3), rows=st.integers(1, 40), group=st.integers(1, 12))
@settings(deadline=None, max_examples=60)
def test_every_row_of_parquet_knows_its_number(counts: list[int], rows: int, group: int) -> None:
    with TemporaryDirectory() as folder, mock.patch.multiple(parquet_reader, FEWEST=5, BYTES=1):
        for number, count in enumerate(counts):
            own = pl.DataFrame(
                {"file": [number] * count, "row": range(count)}, schema={"file": pl.Int8, "row": pl.Int64}
            )
            pq.write_table(own.to_arrow(), f"{folder}/{number}.parquet", row_group_size=group)
        if not sum(counts):
            with pytest.raises(DataError, match="DATA-010"):
                list(table_reader.batches(folder, []))
            return
        found = list(table_reader.batches(folder, [], rows=rows))
        places = [raw.place(row) for raw in found for row in range(len(raw.frame))]
        told = [(file, row) for raw in found for file, row in raw.frame.rows()]
        assert places == [f"{folder}/{file}.parquet, row {row + 1}" for file, row in told]
        assert all(len(raw.frame) == rows for raw in found[:-1])
        assert pl.concat([raw.frame for raw in found]).equals(table_reader.read(folder, []).frame)


def test_a_batch_is_not_many_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_reader, "BYTES", 1000)
    monkeypatch.setattr(csv_reader, "CHUNK", 400)
    (tmp_path / "t.csv").write_text("x\n" + "0123456789\n" * 1000)
    found = list(table_reader.batches(str(tmp_path / "t.csv"), []))
    assert len(found) > 10
    assert max(len(raw.frame) for raw in found) < 150
    assert sum(len(raw.frame) for raw in found) == 1000


def test_a_line_without_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_reader, "CHUNK", 100)
    (tmp_path / "t.csv").write_text("x\n1\n" + "2" * 1000)
    with pytest.raises(DataError, match=r"DATA-006 .*t\.csv: a line is longer than 100 bytes"):
        list(table_reader.batches(str(tmp_path / "t.csv"), []))


def test_files_are_checked_before_rows_and_rows_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_reader, "CHUNK", 100)
    (tmp_path / "a.csv").write_text("x,y\n" + "1,2\n" * 100 + "1\n" + "1,2\n" * 100)
    seen = []
    with pytest.raises(DataError, match=r"DATA-001 .*a\.csv:102  1 fields, the header has 2: '1'"):
        seen += list(table_reader.batches(str(tmp_path / "a.csv"), ["x"], rows=10))
    batches = table_reader.batches(str(tmp_path / "a.csv"), ["x"], rows=10)
    assert len(next(batches).frame) == 10
    (tmp_path / "b.csv").write_text("x,z\n1,2\n")
    with pytest.raises(DataError, match=r"DATA-031 .*b\.csv lacks the column 'y'"):
        table_reader.batches(str(tmp_path / "*.csv"), ["y"])
    with pytest.raises(UserError, match=r"a\.csv has no column 'yy'; did you mean 'y'"):
        table_reader.batches(str(tmp_path / "*.csv"), ["yy"])


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_delimiters_line_ends_and_marks_are_found(delimiter: str, end: str, mark: str, tmp_path: Path) -> None:
    lines = ["user,item", 'a,"1,2;3\t4|5 ""6"""', "b,", "é,x"]
    text = mark + end.join(line.replace(",", delimiter, 1) for line in lines)
    (tmp_path / "t.csv").write_bytes(text.encode())
    found = table_reader.read(str(tmp_path / "t.csv"), [])
    assert found.frame.rows() == [("a", '1,2;3\t4|5 "6"'), ("b", ""), ("é", "x")]
    assert found.frame.columns == ["user", "item"]


def test_zstandard_is_read(tmp_path: Path) -> None:
    with pa.output_stream(str(tmp_path / "t.csv.zst"), compression="zstd") as stream:
        stream.write(b"x,y\n1,2\n")
    assert table_reader.read(str(tmp_path / "t.csv.zst"), ["y"]).frame.rows() == [("2",)]


def test_parquet_gives_plain_values(tmp_path: Path) -> None:
    words = pl.Series(["b", None, "a"])
    frame = pl.DataFrame(
        {
            "category": words.cast(pl.Categorical),
            "enum": words.cast(pl.Enum(["b", "a"])),
            "bytes": words.cast(pl.Binary),
            "lists": pl.Series([["b"], None, []], dtype=pl.List(pl.Categorical)),
            "a.b": [1, 2, 3],
            "a": [4, 5, 6],
        }
    )
    frame.write_parquet(tmp_path / "t.parquet")
    found = table_reader.read(str(tmp_path / "t.parquet"), frame.columns, lists=["lists"]).frame
    assert found.columns == frame.columns
    assert found.dtypes == [pl.String] * 3 + [pl.List(pl.String)] + [pl.Int64] * 2
    assert found["category"].to_list() == found["enum"].to_list() == found["bytes"].to_list() == words.to_list()
    assert table_reader.read(str(tmp_path / "t.parquet"), ["a"]).frame.rows() == [(4,), (5,), (6,)]
    table = pa.table(
        {"x": pa.array(["b", None, "b"]).dictionary_encode(), "n": pa.array([7, None, 7]).dictionary_encode()}
    )
    pq.write_table(table, tmp_path / "d.parquet")
    assert table_reader.read(str(tmp_path / "d.parquet"), []).frame.rows() == [("b", 7), (None, None), ("b", 7)]


def test_whole_floats_are_known_before_the_first_batch(tmp_path: Path) -> None:
    frame = pl.DataFrame({"ids": [1.0, None, 3.0], "part": [1.0, 2.0, 0.5], "text": ["a", "b", "c"], "n": [1, 2, 3]})
    frame.with_columns(list=pl.Series([[1.0], [], [2.0, float("nan")]])).write_parquet(tmp_path / "t.parquet")
    path = str(tmp_path / "t.parquet")
    known = table_reader.whole(path, [*frame.columns, "list"], lists=["list"])
    assert known == {"ids", "list"}
    found = [
        {name: table_reader.words(raw, name, name in known).to_list() for name in frame.columns}
        for raw in table_reader.batches(path, frame.columns, rows=2)
    ]
    assert found == [
        {"ids": [1, None], "part": ["1.0", "2.0"], "text": ["a", "b"], "n": [1, 2]},
        {"ids": [3], "part": ["0.5"], "text": ["c"], "n": [3]},
    ]


@given(st.lists(st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=20)), min_size=1))
def test_text_ids_are_kept(values: list[str | None]) -> None:
    found = table_reader.words(raw_of(x=pl.Series(values, dtype=pl.String)), "x").to_list()
    assert found == [value or None for value in values]


@given(st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), min_size=1))
def test_integer_ids_are_kept(values: list[int | None]) -> None:
    assert table_reader.words(raw_of(x=pl.Series(values, dtype=pl.Int64)), "x").to_list() == values


def test_other_ids_are_text() -> None:
    assert table_reader.words(raw_of(x=[True, None]), "x").to_list() == ["true", None]
    assert table_reader.words(raw_of(x=[date(2020, 1, 2)]), "x").to_list() == ["2020-01-02"]
    assert table_reader.words(raw_of(x=pl.Series([7], dtype=pl.Decimal(12, 0))), "x").to_list() == [7]
    assert table_reader.words(raw_of(x=[1e19, 1.0]), "x").dtype == pl.String  # no integer holds it
    assert table_reader.words(raw_of(x=[float("inf")]), "x").dtype == pl.String
    with pytest.raises(DataError, match="DATA-032"):
        table_reader.words(raw_of(x=[[1]]), "x")


def test_ids_that_are_too_long_are_counted() -> None:
    raw = raw_of(x=["a" * table_reader.LONGEST, "a" * (table_reader.LONGEST + 1), None, ""], n=[1, 2, 3, 4])
    assert (table_reader.too_long(raw, "x"), table_reader.too_long(raw, "n")) == (1, 0)
    assert table_reader.words(raw, "x").null_count() == 3


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (["1|2", "", None, "3", "|4||5"], [["1", "2"], [], [], ["3"], ["4", "5"]]),
        (["a" * 2000 + "|b", " c |d"], [["b"], [" c ", "d"]]),
        ([[1, 2], [], None, [None, 2**62]], [[1, 2], [], [], [2**62]]),
        ([[1.0, None], [float("nan"), 3.0], None], [[1], [3], []]),
        ([[1.5], [2.0]], [["1.5"], ["2.0"]]),
        ([["a", ""], ["b" * 2000], [None, "c"]], [["a"], [], ["c"]]),
        ([7, None], [[7], []]),
    ],
    ids=["text", "long", "integers", "whole floats", "floats", "words", "single"],
)
def test_lists_of_ids(values: list[Any], found: list[Any]) -> None:
    read = table_reader.listed(raw_of(x=values), "x", "|")
    assert read.to_list() == found
    assert isinstance(read.dtype, pl.List)
    assert read.dtype.inner in (pl.String, pl.Int64)


@pytest.mark.parametrize(
    "values", [["1 2.5", "-3  1e2 "], ["[1 2.5]", "[-3 1e2]"], [[1.0, 2.5], [-3.0, 100.0]]], ids=["text", "[]", "list"]
)
def test_vectors(values: list[Any]) -> None:
    found = table_reader.vector(raw_of(x=values), "x")
    assert found.dtype == np.float32
    assert found.flags.writeable
    assert found.tolist() == [[1.0, 2.5], [-3.0, 100.0]]
    assert table_reader.vector(raw_of(x=["1, 2", "3,4"]), "x", ",").tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("values", "size", "said"),
    [
        (["1 2", "1", "3 4"], 0, r"a\.csv:3  x: '1' is no vector of 2 numbers"),
        ([[1.0, 2.0], [1.0, 2.0], None, []], 0, r"a\.csv:4  x: an empty value is no vector of 2 numbers\n.*a\.csv:5"),
        (["1 2", "3 4"], 3, r"a\.csv:2  x: '1 2' is no vector of 3 numbers\n.*a\.csv:3"),
        (["1 2", "1 x"], 0, r"a\.csv:3  x: '1 x' has a value that is no finite number"),
        ([[1.0, 2.0], [1.0, float("inf")], [None, 1.0]], 0, r"a\.csv:3  x: .* no finite number\n.*a\.csv:4"),
        (["", ""], 0, r"a\.csv:2  x: '' is no vector"),
        ([1.5], 0, r"a\.csv: column 'x' is Float64, no vector"),
    ],
    ids=["length", "missing", "size", "text", "inf and null", "empty", "number"],
)
def test_what_is_no_vector_is_named(values: list[Any], size: int, said: str) -> None:
    with pytest.raises(DataError, match=f"DATA-033 {said}"):
        table_reader.vector(raw_of(x=values), "x", size=size)


def test_weights() -> None:
    assert table_reader.weight(raw_of(x=["1", "0.5"]), "x").to_list() == [1.0, 0.5]
    with pytest.raises(DataError, match=r"DATA-034 a\.csv:3  x: '-1\.0' is no weight"):
        table_reader.weight(raw_of(x=[1.0, -1.0]), "x")


def test_times_are_the_same_however_they_are_written() -> None:
    moment = datetime(2020, 1, 1, 12, tzinfo=timezone.utc)
    for values in (
        ["2020-01-01 12:00:00"], ["2020-01-01T12:00:00Z"], ["2020-01-01T14:00:00+02:00"], ["1577880000"],
        [1577880000], [1577880000.0], [moment], pl.Series([moment]).dt.convert_time_zone("Asia/Tokyo"),
    ):  # fmt: skip
        assert table_reader.seconds(raw_of(x=values), "x", "s").to_list() == [moment.timestamp()]
    assert table_reader.seconds(raw_of(x=[date(1969, 12, 31)]), "x", "s").to_list() == [-86400.0]
    assert table_reader.seconds(raw_of(x=[18262, None]), "x", "days").to_list() == [18262 * 86400.0, None]
    assert table_reader.seconds(raw_of(x=["", "2020-01-01"]), "x", "s").to_list() == [None, 1577836800.0]
    assert table_reader.seconds(raw_of(x=[None, None]), "x", "s").to_list() == [None, None]


def test_units_are_checked_over_batches() -> None:
    table_reader.check_units(1e9, 1.7e9, "ts")
    table_reader.check_units(float("inf"), 0.0, "ts")  # no time at all
    with pytest.raises(DataError, match=r"DATA-041 ts: two units in one column \(10 and 16 digits"):
        table_reader.check_units(1.6e9, 1.6e15, "ts")
    clock = table_reader.Clock()
    for values, wrong in (([1.6e12], ""), ([0.0, None], ""), ([1.7e12, 1.6e9], r"a\.csv:3  x: two units")):
        if wrong:
            with pytest.raises(DataError, match=wrong):
                table_reader.seconds(raw_of(x=values), "x", "ms", clock)
        else:
            table_reader.seconds(raw_of(x=values), "x", "ms", clock)
    assert (clock.low, clock.high, clock.kind) == (1.6e12, 1.6e12, "number")


def test_many_small_batches_hold_little_at_a_time(tmp_path: Path) -> None:
    pl.DataFrame({"x": range(100_000)}).write_parquet(tmp_path / "t.parquet", row_group_size=1000)
    made: Callable[..., Any] = pl.concat
    with mock.patch.object(pl, "concat", side_effect=lambda frames: made([*frames])) as joined:
        sizes = [len(raw.frame) for raw in table_reader.batches(str(tmp_path / "t.parquet"), [], rows=20_000)]
    assert sizes == [20_000] * 5
    assert all(sum(map(len, call.args[0])) <= 20_000 for call in joined.call_args_list)
