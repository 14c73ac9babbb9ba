"""Bad inputs: each is named with its code, file, row and column before anything is made of it."""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest

from graftrec.data import readers
from graftrec.data.datasets.files import Files
from graftrec.errors import DataError, UserError

HEAD = "user,item,ts,label,price\n"
GOOD = "a,1,0,1,2.5\n"
KEYS = {"user": "user", "item": "item", "time": "ts"}
WIDE = 200_001  # a row past any sample that a reader infers types from

TEXTS: list[tuple[str, bytes, str]] = [
    (
        "extra field",
        (HEAD + GOOD + "1,2,0,1,9,7\n").encode(),
        r"DATA-001 .*t\.csv:3  6 fields, the header has 5: '1,2,0",
    ),
    ("missing field", (HEAD + GOOD + "1,2,0\n" + GOOD).encode(), r"DATA-001 .*t\.csv:3  3 fields, the header has 5"),
    (
        "text early",
        (HEAD + GOOD + "a,1,0,1,free\n").encode(),
        r"DATA-002 .*t\.csv:3  price: 'free' is no finite number",
    ),
    ("text late", (HEAD + GOOD * WIDE + "a,1,0,1,x\n").encode(), rf"DATA-002 .*t\.csv:{WIDE + 2}  price: 'x'"),
    ("latin-1", (HEAD + GOOD + "é,1,0,1,1\n").encode("latin-1"), r"DATA-004 .*t\.csv:3  byte 0xE9 is not UTF-8"),
    ("utf-16", (HEAD + GOOD).encode("utf-16"), r"DATA-004 .*t\.csv: UTF-16"),
    ("nul", (HEAD + "a\0,1,0,1,1\n").encode(), r"DATA-006 .*t\.csv:2  user: the value has a NUL byte"),
    ("open quote", (HEAD + 'a,"1,0,1,1\n' + GOOD).encode(), r"DATA-00[16] .*t\.csv"),
    (
        "duplicate name",
        b"user,item,ts,label,price,user\n1,2,3,1,5,6\n",
        r"DATA-005 .*t\.csv: column 'user' appears 2 times",
    ),
    ("header only", HEAD.encode(), r"DATA-010 .*t\.csv: 0 rows"),
    ("empty", b"", r"DATA-010 .*t\.csv: 0 rows, the file is empty"),
    ("garbage", bytes(range(1, 256)) * 3, r"DATA-013 .*t\.csv: not a CSV \(first bytes"),
    (
        "label 2",
        (HEAD + GOOD + "a,1,0,2,1\n" + "a,1,0,-1,1\n").encode(),
        r"TASK-003 .*t\.csv:3  label: '2' .*\n.*t\.csv:4",
    ),
    ("price inf", (HEAD + GOOD + "a,1,0,1,inf\n").encode(), r"DATA-002 .*t\.csv:3  price: 'inf' is no finite number"),
    (
        "two units",
        (HEAD + "a,1,1600000000,1,1\na,1,1600000000000,1,1\n").encode(),
        r"DATA-041 two units .*10 and 13 digits",
    ),
    (
        "month 13",
        (HEAD + "a,1,2020-01-01,1,1\na,1,2020-13-01,1,1\n").encode(),
        r"DATA-042 .*t\.csv:3  ts: '2020-13-01'",
    ),
]


def read(path: Path) -> pl.DataFrame:
    return Files(str(path), **KEYS, numbers=["price"], binary=["label"]).read().rows


@pytest.mark.parametrize(("content", "said"), [case[1:] for case in TEXTS], ids=[case[0] for case in TEXTS])
def test_a_bad_csv_is_named(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=said):
        read(tmp_path / "t.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_all_ragged_rows_are_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(HEAD + GOOD + "1\n" + GOOD + "1,2\n")
    with pytest.raises(DataError) as told:
        read(tmp_path / "t.csv")
    assert [word for word in (":3 ", ":5 ") if word in str(told.value)] == [":3 ", ":5 "]


def test_a_header_with_spaces_gets_its_name(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("user, item ,ts,label,price\n" + GOOD)
    with pytest.raises(UserError, match=r"no column 'item'; did you mean ' item '\?"):
        read(tmp_path / "t.csv")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_delimiters_line_ends_and_marks_are_found(delimiter: str, ending: str, mark: str, tmp_path: Path) -> None:
    text = mark + (HEAD + GOOD).replace(",", delimiter).replace("\n", ending)
    (tmp_path / "t.csv").write_bytes(text.encode())
    assert read(tmp_path / "t.csv").rows() == [("a", "1", 0.0, 2.5, 1.0)]


def test_compressed_files_are_read_and_false_ones_told(tmp_path: Path) -> None:
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress((HEAD + GOOD).encode()))
    assert len(read(tmp_path / "t.csv.gz")) == 1
    (tmp_path / "f.csv.gz").write_bytes((HEAD + GOOD).encode())
    with pytest.raises(DataError, match=r"DATA-013 .*f\.csv\.gz: not a CSV"):
        read(tmp_path / "f.csv.gz")


def test_ids_stay_what_they_are(tmp_path: Path) -> None:
    ids = ["007", "7", "9007199254740993", "9223372036854775808", "NA", "null", "1e5", "true"]
    (tmp_path / "t.csv").write_text(
        HEAD + "".join(f"{user},1,{at},1,1\n" for at, user in enumerate(ids)) + ",1,0,1,1\n"
    )
    made = Files(str(tmp_path / "t.csv"), **KEYS).read()
    assert sorted(made.rows["user"]) == sorted(ids)
    assert made.refused == {"no user, item, time": 1}  # an empty field is a missing id


def test_labels_may_be_words_and_missing(tmp_path: Path) -> None:
    words = ["True", "no", "1.0", "0", "YES", ""]
    (tmp_path / "t.csv").write_text(HEAD + "".join(f"a,1,{at},{word},1\n" for at, word in enumerate(words)))
    assert read(tmp_path / "t.csv")["label"].to_list() == [1.0, 0.0, 1.0, 0.0, 1.0, None]


def parts(folder: Path, **changes: pl.Series) -> str:
    frame = pl.DataFrame({"user": ["a", "b"], "label": [0, 1], "price": [1.0, 2.0]})
    frame.write_parquet(folder / "a.parquet")
    frame.with_columns(**changes).write_parquet(folder / "b.parquet")
    return str(folder)


def test_parts_of_parquet_must_agree(tmp_path: Path) -> None:
    path = parts(tmp_path, user=pl.Series([1, 2]))
    with pytest.raises(DataError, match=r"DATA-031 column 'user' is Int64 in .*b\.parquet, String in .*a\.parquet"):
        readers.read(path, ["user", "label"])
    pl.read_parquet(tmp_path / "b.parquet").drop("label").write_parquet(tmp_path / "b.parquet")
    with pytest.raises(UserError, match=r"b\.parquet has no column 'label'"):
        readers.read(path, ["user", "label"])


def test_damaged_and_nested_parquet_is_told(tmp_path: Path) -> None:
    parts(tmp_path, price=pl.Series([[1.0], [2.0]]))
    with pytest.raises(DataError, match=r"DATA-032 .*b\.parquet: column 'price' is List"):
        readers.read(str(tmp_path / "b.parquet"), ["price"])
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=rf"DATA-030 .*a\.parquet: damaged.* {len(whole) // 2:,} bytes"):
        readers.read(str(tmp_path / "a.parquet"), ["price"])


def test_a_row_is_found_in_its_own_part(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEAD + GOOD * 3)
    (tmp_path / "b.csv").write_text(HEAD + GOOD + "a,1,0,1,x\n")
    with pytest.raises(DataError, match=r"DATA-002 .*b\.csv:3  price"):
        read(tmp_path / "?.csv")
