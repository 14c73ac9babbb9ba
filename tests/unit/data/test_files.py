"""A table of one's own: what is read, what is refused, and what is told."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from graftrec.data.datasets.files import Files
from graftrec.errors import DataError, UserError

KEYS = {"user": "who", "item": "what", "time": "when"}
LINES = pl.DataFrame(
    {
        "who": ["b", "a", "a", "c"],
        "what": [3, 1, 2, 1],
        "when": [86_400, 0, 43_200, 172_800],
        "till": ["x", "y", "x", "z"],
        "price": [1.5, 2.0, None, 4.0],
        "liked": [1, 0, None, 1],
        "stars": [5, 3, 1, None],
        "noise": ["?", "?", "?", "?"],
    }
)
READ = [("a", "1", 0.0), ("a", "2", 0.5), ("b", "3", 1.0), ("c", "1", 2.0)]


def keyed(rows: pl.DataFrame) -> list[tuple[object, ...]]:
    """Rows with their item as text, as CSV gives it: `007` in a CSV is not `7`."""
    return rows.select("user", pl.col("item").cast(pl.String), "time").rows()


def write(frame: pl.DataFrame, path: Path) -> str:
    if path.suffix in (".parquet", ".pq"):
        frame.write_parquet(path)
    else:
        frame.write_csv(path, separator="\t" if path.suffix == ".tsv" else ",")
    return str(path)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "pq"])
def test_every_format_reads_the_same(suffix: str, tmp_path: Path) -> None:
    path = write(LINES, tmp_path / f"lines.{suffix}")
    read = Files(
        path, **KEYS, ids=["till"], numbers=["price"], binary=["liked"], number=["stars"], name="mine"
    ).read()  # fmt: skip
    assert keyed(read.rows) == READ
    assert read.rows["item"].dtype == (pl.String if "sv" in suffix else pl.Int64)
    assert read.rows.columns == ["user", "item", "time", "till", "price", "liked", "stars"]
    assert read.rows["till"].to_list() == ["y", "x", "x", "z"]
    assert read.rows["price"].to_list() == [2.0, None, 1.5, 4.0]
    assert read.rows["liked"].to_list() == [0.0, None, 1.0, 1.0]
    assert (read.ids, read.numbers, read.labels) == (("till",), ("price",), {"liked": "binary", "stars": "number"})
    assert (read.name, read.refused, read.users, read.items) == ("mine", {}, None, None)
    assert read.rows["time"].dtype == pl.Float64


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_pattern_reads_all_that_fit(suffix: str, tmp_path: Path) -> None:
    for number in range(len(LINES)):
        write(LINES[number : number + 1], tmp_path / f"part{number}.{suffix}")
    write(LINES.with_columns(who=pl.lit("other")), tmp_path / f"other.{suffix}")
    assert keyed(Files(str(tmp_path / f"part*.{suffix}"), **KEYS).read().rows) == READ


def test_paths_are_relative_to_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(LINES, tmp_path / "lines.csv")
    monkeypatch.chdir(tmp_path)
    assert keyed(Files("lines.csv", **KEYS).read().rows) == READ


def test_the_order_of_lines_is_no_matter(tmp_path: Path) -> None:
    turned = Files(write(LINES.reverse(), tmp_path / "turned.csv"), **KEYS, basket="till").read().rows
    straight = Files(write(LINES, tmp_path / "straight.csv"), **KEYS, basket="till").read().rows
    assert turned.equals(straight)


def test_all_missing_columns_are_named_at_once(tmp_path: Path) -> None:
    path = write(LINES, tmp_path / "lines.csv")
    wrong = {"user": "whom", "item": "what", "time": "whence"}
    with pytest.raises(UserError) as told:
        Files(path, **wrong, ids=["till", "tll"], numbers=["prize"], binary=["licked"], number=["whom"]).read()
    names = ["whom", "whence", "tll", "prize", "licked"]
    assert len(told.value.problems) == len(names)
    for name, problem in zip(names, told.value.problems, strict=True):
        assert f"'{name}'" in problem
        assert path in problem
        assert "did you mean" in problem or "who, what, when" in problem  # what it does have


@pytest.mark.parametrize("path", ["nowhere.csv", "nowhere/*.parquet"])
def test_a_missing_file_is_told(path: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"DATA-011 .*nowhere"):
        Files(str(tmp_path / path), **KEYS).read()


def test_another_format_is_told(tmp_path: Path) -> None:
    (tmp_path / "lines.xlsx").write_bytes(b"?")
    with pytest.raises(DataError, match="DATA-012"):
        Files(str(tmp_path / "lines.xlsx"), **KEYS).read()


@pytest.mark.parametrize(("unit", "factor"), [("s", 86_400), ("ms", 86_400_000), ("days", 1)])
@pytest.mark.parametrize("dtype", [pl.Int64, pl.Float64], ids=str)
def test_numbers_are_times_in_a_unit(unit: str, factor: int, dtype: type[pl.DataType], tmp_path: Path) -> None:
    days = [18_262.0, 18_263.5, 18_262.0 + 400]
    frame = pl.DataFrame({"when": [int(day * factor) if unit != "days" else day for day in days]})
    if unit == "days" and dtype == pl.Int64:
        frame, days = pl.DataFrame({"when": [18_262, 18_264, 18_662]}), [18_262, 18_264, 18_662]
    read = Files(write(frame.cast(dtype), tmp_path / "t.parquet"), time="when", time_unit=unit).read()
    assert read.rows["time"].to_list() == pytest.approx([day - days[0] for day in days], abs=1e-9)
    assert read.start == "2020-01-01 00:00:00"


MOMENTS = [datetime(2020, 3, 1, 12), datetime(2020, 2, 28), datetime(2020, 3, 2, 0, 0, 0, 500_000)]


@pytest.mark.parametrize(
    ("column", "start", "days"),
    [
        (pl.Series(MOMENTS, dtype=pl.Datetime("us")), "2020-02-28 00:00:00", [0.0, 2.5, 3 + 0.5 / 86_400]),
        (pl.Series(MOMENTS, dtype=pl.Datetime("ns")), "2020-02-28 00:00:00", [0.0, 2.5, 3 + 0.5 / 86_400]),
        (pl.Series([date(2020, 3, 1), date(2020, 2, 28)]), "2020-02-28 00:00:00", [0.0, 2.0]),
        (pl.Series([date(1950, 1, 2), date(1950, 1, 1)]), "1950-01-01 00:00:00", [0.0, 1.0]),
        (
            pl.Series([moment.replace(tzinfo=timezone.utc) for moment in MOMENTS], dtype=pl.Datetime("us", "UTC")),
            "2020-02-28 00:00:00", [0.0, 2.5, 3 + 0.5 / 86_400],
        ),
    ],
    ids=["us", "ns", "date", "before 1970", "zone"],
)  # fmt: skip
def test_dates_are_days_since_the_first(column: pl.Series, start: str, days: list[float], tmp_path: Path) -> None:
    read = Files(write(pl.DataFrame({"when": column}), tmp_path / "t.parquet"), time="when", time_unit="days").read()
    assert read.rows["time"].to_list() == pytest.approx(days, abs=1e-9)  # the unit is of numbers only
    assert read.start == start


def test_dates_of_csv_are_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("who,when\na,2020-02-28 12:00:00\nb,2020-02-28 00:00:00\n")
    read = Files(str(tmp_path / "t.csv"), user="who", time="when").read()
    assert read.rows.rows() == [("a", 0.5), ("b", 0.0)]


def test_time_as_text_is_refused(tmp_path: Path) -> None:
    path = write(pl.DataFrame({"when": ["last week", "today"]}), tmp_path / "t.csv")
    with pytest.raises(
        DataError, match=r"DATA-042 .*t\.csv:2  when: 'last week' is no date\n.*t\.csv:3  when: 'today'"
    ):
        Files(path, time="when").read()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_rows_without_a_key_are_counted_and_dropped(suffix: str, tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "who": [None, "a", "b", "c", None, "d"],
            "what": [1, None, 2, 3, 4, 5],
            "when": [0, 1, None, 43_200, 5, 129_600],
            "till": [1, 1, 1, None, 1, 1],
        }
    )
    read = Files(write(frame, tmp_path / f"lines.{suffix}"), **KEYS, ids=["till"]).read()
    assert read.refused == {"no user, item, time": 4}
    assert keyed(read.rows) == [("c", "3", 0.0), ("d", "5", 1.0)]
    assert read.rows["till"].cast(pl.String).to_list() == [None, "1"]  # a category may be missing


def test_no_row_at_all_is_told(tmp_path: Path) -> None:
    nobody = pl.DataFrame({"who": [None, None], "what": [1, 2], "when": [0, 1]}, schema_overrides={"who": pl.String})
    with pytest.raises(DataError, match="DATA-010"):
        Files(write(nobody, tmp_path / "nobody.parquet"), **KEYS).read()
    with pytest.raises(DataError, match="DATA-010"):
        Files(write(LINES[:0], tmp_path / "empty.parquet"), ids=["till"], binary=["liked"]).read()


def test_rows_without_a_time_stay_in_order(tmp_path: Path) -> None:
    path = write(LINES, tmp_path / "lines.csv")
    read = Files(path, user="who", ids=["till"], binary=["liked"]).read()
    assert read.rows["user"].to_list() == ["b", "a", "a", "c"]
    assert read.start == ""
    assert not read.has("time")


def test_attributes_are_keyed_as_the_lines_are(tmp_path: Path) -> None:
    users = write(pl.DataFrame({"age": [30, 40], "who": ["a", "b"]}), tmp_path / "users.csv")
    items = write(pl.DataFrame({"what": [1, 2], "brand": ["p", "q"]}), tmp_path / "items.parquet")
    read = Files(write(LINES, tmp_path / "lines.csv"), **KEYS, users=users, items=items).read()
    assert read.users is not None
    assert read.items is not None
    assert read.users.to_dicts() == [{"user": "a", "age": "30"}, {"user": "b", "age": "40"}]
    assert read.items.to_dicts() == [{"item": 1, "brand": "p"}, {"item": 2, "brand": "q"}]


def test_attributes_without_the_key_or_the_file_are_told(tmp_path: Path) -> None:
    lines = write(LINES, tmp_path / "lines.csv")
    users = write(pl.DataFrame({"user": ["a"], "age": [3]}), tmp_path / "users.csv")
    with pytest.raises(UserError, match=r"dataset\.users: .*users\.csv has no column 'who'; it has user, age"):
        Files(lines, **KEYS, users=users).read()
    with pytest.raises(DataError, match=r"DATA-011 .*items\.csv"):
        Files(lines, **KEYS, items=str(tmp_path / "items.csv")).read()


def test_a_wrong_unit_is_told() -> None:
    with pytest.raises(ValueError, match="Found minutes"):
        Files("x.csv", time_unit="minutes")


def test_a_time_that_is_not_a_number_is_refused(tmp_path: Path) -> None:
    frame = pl.DataFrame({"who": ["a", "b", "c"], "when": [0.0, float("nan"), float("inf")]})
    read = Files(write(frame, tmp_path / "t.parquet"), user="who", time="when").read()
    assert read.rows.rows() == [("a", 0.0)]
    assert sum(read.refused.values()) == 2


def test_the_wrong_unit_of_time_is_told_and_not_a_crash(tmp_path: Path) -> None:
    moment = int(datetime(2020, 1, 1, tzinfo=timezone.utc).timestamp() * 1000)  # ms, and s is what Files expects
    path = write(pl.DataFrame({"when": [moment, moment + 1]}), tmp_path / "t.parquet")
    with pytest.raises((DataError, UserError), match="time_unit"):
        Files(path, time="when").read()


@pytest.mark.parametrize(
    "settings",
    [
        {"user": "user", "item": "item", "ids": ["user", "item"]},
        {"user": "user", "item": "item", "numbers": ["price"], "number": ["price"]},
    ],
    ids=["keys are ids", "a number is a label"],
)
def test_a_column_may_have_two_parts(settings: dict[str, Any], tmp_path: Path) -> None:
    path = write(pl.DataFrame({"user": ["a", "b"], "item": [1, 2], "price": [1.0, 2.0]}), tmp_path / "t.csv")
    read = Files(path, **settings).read()
    assert read.rows["user"].to_list() == ["a", "b"]


def test_text_in_a_column_of_numbers_is_named_with_its_row(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("price,liked\n1.5,1\nfree,0\n2,1\n")
    with pytest.raises(DataError, match=r"DATA-002 .*t\.csv:3  price: 'free' is no finite number"):
        Files(str(tmp_path / "t.csv"), numbers=["price"], binary=["liked"]).read()


def test_moments_keep_their_milliseconds(tmp_path: Path) -> None:
    start = datetime(2020, 1, 1)
    frame = pl.DataFrame({"when": [start + timedelta(milliseconds=step) for step in range(4)]})
    read = Files(write(frame, tmp_path / "t.parquet"), time="when").read()
    assert [day * 86_400_000 for day in read.rows["time"]] == pytest.approx([0, 1, 2, 3], abs=1e-3)
