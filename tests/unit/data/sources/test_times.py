"""Times of every unit and way of writing: read exactly, never as something else, and what is guessed is said."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftrec.data.datasets.files import Files
from graftrec.data.sources.timestamps import UNITS, told_apart
from graftrec.data.tables.interactions import DAY, Interactions
from graftrec.utils.errors import DataError

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
MOMENTS = [
    datetime(2024, 2, 29, 23, 59, 59, 999_999, timezone.utc),
    datetime(2024, 2, 29, 23, 59, 59, 999_998, timezone.utc),
    datetime(1969, 12, 31, 23, 59, 59, 999_999, timezone.utc),
    datetime(1938, 4, 24, 22, 13, 20, 1, timezone.utc),
]


def read(folder: Path, times: list[Any], **more: Any) -> Interactions:
    """Rows u0, u1, ... of these times in a CSV."""
    lines = [f"u{row},i{row},{time}" for row, time in enumerate(times)]
    (folder / "t.csv").write_text("\n".join(["user,item,when", *lines]) + "\n")
    return Files(str(folder / "t.csv"), user="user", item="item", time="when", cache="off", **more).read()


def moments(data: Interactions) -> list[datetime]:
    """Its times, to the microsecond."""
    assert data.time is not None
    return [EPOCH + timedelta(microseconds=round(float(day) * DAY * 1e6)) for day in data.time]


def written(moment: datetime, unit: str) -> str:
    """A moment as a number of a unit, exactly."""
    whole = (moment - EPOCH) // timedelta(microseconds=1)
    if unit == "ns":
        return str(whole * 1000)
    per = {"us": 1, "ms": 1_000, "s": 1_000_000, "days": 86_400_000_000}[unit]
    return str(whole) if per == 1 else repr(whole / per)


@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit != "order"])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_every_unit_keeps_microseconds_before_and_after_1970(unit: str, kind: str, tmp_path: Path) -> None:
    texts = [written(moment, unit) for moment in MOMENTS]
    if kind == "csv":
        assert moments(read(tmp_path, texts, time_unit=unit)) == MOMENTS
        return
    numbers = [int(text) if text.lstrip("-").isdigit() else float(text) for text in texts]
    frame = pl.DataFrame({"user": range(4), "item": range(4), "when": numbers})
    frame.write_parquet(tmp_path / "t.parquet")
    found = Files(str(tmp_path / "t.parquet"), user="user", item="item", time="when", time_unit=unit, cache="off")
    assert moments(found.read()) == MOMENTS


@pytest.mark.parametrize(
    "write",
    [
        lambda moment: moment.isoformat(),
        lambda moment: moment.isoformat(" ").replace("+00:00", " UTC"),
        lambda moment: moment.isoformat(" ").replace("+00:00", " GMT"),
        lambda moment: moment.isoformat().replace("+00:00", "Z"),
        lambda moment: moment.astimezone(timezone(timedelta(hours=5, minutes=45))).isoformat(),
        lambda moment: moment.astimezone(timezone(timedelta(hours=-3))).strftime("%Y-%m-%d %H:%M:%S.%f%z"),
        lambda moment: moment.replace(tzinfo=None).isoformat(),
    ],
)
def test_dates_of_iso_8601_with_any_zone(write: Any, tmp_path: Path) -> None:
    assert moments(read(tmp_path, [write(moment) for moment in MOMENTS])) == MOMENTS


@pytest.mark.parametrize(
    "format", ["%Y%m%d", "%m/%d/%Y", "%d.%m.%y", "%a %b %d %H:%M:%S %z %Y", "%m/%d/%Y %I:%M %p", "%Y%m%d%H%M%S"]
)
def test_any_format_can_be_said(format: str, tmp_path: Path) -> None:
    days = [datetime(2020, 1, 31, tzinfo=timezone.utc), datetime(2020, 2, 1, tzinfo=timezone.utc)]
    assert moments(read(tmp_path, [day.strftime(format) for day in days], time_format=format)) == days
    with pytest.raises(DataError, match=r"DATA-042 .*t\.csv:2  when: 'yesterday' is no date of the format"):
        read(tmp_path, ["yesterday"], time_format=format)


def test_dates_that_are_whole_numbers_of_a_parquet_file_with_a_gap(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user": [1, 2, 3], "item": [1, 2, 3], "when": [20200131.0, None, 20200201.0]})
    frame.write_parquet(tmp_path / "t.parquet")
    roles = {"user": "user", "item": "item", "time": "when", "cache": "off"}
    found = moments(Files(str(tmp_path / "t.parquet"), **roles, time_format="%Y%m%d").read())  # type: ignore[arg-type]
    assert [day.isoformat()[:10] for day in found] == ["2020-01-31", "2020-02-01"]


def test_a_format_that_is_none() -> None:
    for wrong, why in (("date", "has no %"), ("%Y-%m-%dT%H", "cannot be read with")):
        with pytest.raises(ValueError, match=f"time_format {why}"):
            Files("t.csv", user="user", time="when", time_format=wrong)


@pytest.mark.parametrize(
    ("format", "days"),
    [("%Y%m%d", ["20200131", "20191201"]), ("%Y%m%d%H%M%S", ["20200131235959", "20191201000000"])],
)
def test_dates_without_signs_are_never_seconds(format: str, days: list[str], tmp_path: Path) -> None:
    for unit in UNITS:
        if unit == "order":
            continue
        with pytest.raises(DataError, match=rf"DATA-042 .*t\.csv:2  when: {days[0]} is a date as {format} writes it"):
            read(tmp_path, days, time_unit=unit)
    assert read(tmp_path, ["20209931", "20191201"]).size == 2  # no date: seconds after all


def test_the_day_comes_first_and_it_is_said_where_no_date_shows_it(tmp_path: Path) -> None:
    guessed = read(tmp_path, ["01/02/2020", "03/04/2020"])
    assert moments(guessed)[0] == datetime(2020, 2, 1, tzinfo=timezone.utc)
    assert any("'01/02/2020' are read with the day first" in note and "time_format" in note for note in guessed.notes)
    assert not read(tmp_path, ["01/02/2020", "30/04/2020"]).notes  # there is no 30th month
    assert not read(tmp_path, ["01/02/2020"], time_format="%m/%d/%Y").notes
    with pytest.raises(DataError, match=r"'01/31/2020' is no date with the day first.*time_format=%m/%d/%Y"):
        read(tmp_path, ["01/31/2020", "02/01/2020"])


@pytest.mark.parametrize(("unit", "right"), [("s", "ms"), ("s", "us"), ("s", "ns"), ("ms", "us"), ("ms", "ns")])
def test_another_unit_is_named(unit: str, right: str, tmp_path: Path) -> None:
    times = [written(moment, right).removesuffix(".999") for moment in MOMENTS[:2]]
    with pytest.raises(DataError, match=rf"is no date in time_unit={unit} \(.*\); in {right} it is one"):
        read(tmp_path, times, time_unit=unit)


def test_nanoseconds_keep_their_order(tmp_path: Path) -> None:
    order = [3, 1, 2, 0, 1]
    numbers = [1_700_000_000_000_000_100 + step for step in order]
    texts = [f"2024-01-01 10:00:00.123456{100 + step}" for step in order]
    pl.DataFrame(
        {"user": range(5), "item": range(5), "when": pl.Series(numbers).cast(pl.Datetime("ns"))}
    ).write_parquet(tmp_path / "t.parquet")
    for cache in ("off", str(tmp_path / "cache")):
        stamped = Files(str(tmp_path / "t.parquet"), user="user", item="item", time="when", cache=cache).read()
        for data in (stamped, read(tmp_path, numbers, time_unit="ns"), read(tmp_path, texts)):
            assert data.time is not None
            assert pl.Series(np.array(data.time)).rank("dense").to_list() == [4, 2, 3, 1, 2]


@given(st.lists(st.integers(-(2 * 10**18), 2 * 10**18), min_size=1, max_size=30))
def test_moments_that_differ_differ_as_days(moments_ns: list[int]) -> None:
    whole = np.array(moments_ns + [moment + 1 for moment in moments_ns])
    days = whole // 1000 / 1e6 / DAY
    found = told_apart(days, whole % 1000)
    assert pl.Series(found).rank("dense").to_list() == pl.Series(whole).rank("dense").to_list()
    assert np.abs(found - days).max() <= 31 * 4e-12


def test_the_first_moments_of_1970_are_no_floats_that_training_has_be_zero() -> None:
    found = told_apart(np.zeros(3), np.array([0, 2, 1]))
    assert found[0] == 0
    assert np.finfo(np.float64).tiny <= found[2] < found[1]
