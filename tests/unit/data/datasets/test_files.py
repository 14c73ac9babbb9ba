"""A table of one's own: what is read, what is refused, and what is told."""

from __future__ import annotations

import gzip
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from graftrec.data.batch import Batch
from graftrec.data.datasets import files
from graftrec.data.datasets.files import Files
from graftrec.data.datasets.files_settings import TAKEN
from graftrec.data.protocols.cross_domain import CrossDomain
from graftrec.data.schema import UNSEEN
from graftrec.data.splits.base import Split
from graftrec.data.splits.predefined import Official
from graftrec.data.splits.random_split import AtRandom
from graftrec.data.streams.sampling_config import Candidates, History
from graftrec.data.tables.interactions import DATE_PARTS, Column, Interactions
from graftrec.runs.overrides import problems_of_command
from graftrec.utils.errors import DataError, UserError

KEYS: dict[str, Any] = {"user": "who", "item": "what", "time": "when"}
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
DAY_2020 = 18_262  # of 2020-01-01, since 1970


def ids(data: Interactions, name: str) -> list[Any]:
    """Raw ids of a role or of a column, row by row."""
    found = data.keys[name] if name in data.keys else data.column(name)
    return [found.keys[int(code)] if code >= 0 else None for code in found.codes]


def lists(data: Interactions, name: str) -> list[list[Any]]:
    """Raw ids of a column with several."""
    found = data.lists[name]
    return [
        found.keys.gather(found.codes[low:high].tolist()).to_list()
        for low, high in zip(found.starts[:-1], found.starts[1:], strict=True)
    ]


def floats(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def number(data: Interactions, name: str) -> list[float | None]:
    return floats(data.values[:, data.numbers.index(name)])


def label(data: Interactions, name: str) -> list[float | None]:
    return floats(data.answers[:, data.asked.index(name)])


def keyed(data: Interactions) -> list[tuple[object, ...]]:
    """Rows with their item as text, as CSV gives it: `007` in a CSV is not `7`. Their order says nothing."""
    assert data.time is not None
    return sorted(zip(ids(data, "user"), map(str, ids(data, "item")), data.time.tolist(), strict=True))


def write(frame: pl.DataFrame, path: Path) -> str:
    if path.suffix in (".parquet", ".pq"):
        frame.write_parquet(path)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(frame.write_csv().encode()))
    else:
        frame.write_csv(path, separator="\t" if path.suffix == ".tsv" else ",")
    return str(path)


def csv(text: str, path: Path) -> str:
    path.write_text(text)
    return str(path)


def prepared(dataset: Files, split: Split | None = None) -> CrossDomain:
    made = CrossDomain(dataset, split or Official(), History(long=0, short=0), Candidates(min_users=0))
    made.prepare(["rows"])
    return made


def card_of(dataset: Files) -> dict[str, Any]:
    made = CrossDomain(dataset, AtRandom(0.5, 0.25), History(), Candidates(min_users=0))
    made.prepare([])
    return made.full_card


def batch(dataset: Files, stage: str = "train") -> Batch:
    """All rows of a stage, those of training in the order of the file."""
    stream = prepared(dataset).streams["rows"]
    if stage == "train":
        return stream.batch(torch.arange(stream.rows), torch.Generator().manual_seed(0))
    return next(stream.evaluation("test"))


# --- what a file of any format gives


@pytest.mark.parametrize("suffix", ["csv", "tsv", "csv.gz", "parquet", "pq"])
def test_every_format_reads_the_same(suffix: str, tmp_path: Path) -> None:
    path = write(LINES, tmp_path / f"lines.{suffix}")
    read = Files(
        path, **KEYS, features={"till": "id", "price": "number"}, labels={"liked": "binary", "stars": "number"},
        name="mine",
    ).read()  # fmt: skip
    assert keyed(read) == READ
    assert read.keys["item"].keys.dtype == (pl.Int64 if suffix in ("parquet", "pq") else pl.String)
    assert set(read.keys) == {"user", "item"}
    by_user = dict(zip(zip(ids(read, "user"), map(str, ids(read, "item")), strict=True), range(4), strict=True))
    order = [by_user[user, item] for user, item, _ in READ]
    assert [ids(read, "till")[at] for at in order] == ["y", "x", "x", "z"]
    assert [number(read, "price")[at] for at in order] == [2.0, None, 1.5, 4.0]
    assert [label(read, "liked")[at] for at in order] == [0.0, None, 1.0, 1.0]
    assert [label(read, "stars")[at] for at in order] == [3.0, 1.0, 5.0, None]
    assert (read.ids, read.numbers) == (("till",), ("price",))
    assert read.labels == {"liked": "binary", "stars": "number"}
    assert read.columns == {"till": Column("id"), "price": Column("number")}
    assert (read.name, read.size, read.refused, read.users, read.items) == ("mine", 4, {}, None, None)
    assert (read.notes, read.stamps, read.kept, read.folder, read.event, read.weight) == (
        (),
        (),
        None,
        None,
        None,
        None,
    )
    assert read.time is not None
    assert (read.time.dtype, read.codes.dtype, read.values.dtype, read.answers.dtype) == (
        np.float64, np.int32, np.float32, np.float32
    )  # fmt: skip


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_pattern_reads_all_that_fit(suffix: str, tmp_path: Path) -> None:
    for part in range(len(LINES)):
        write(LINES[part : part + 1], tmp_path / f"part{part}.{suffix}")
    write(LINES.with_columns(who=pl.lit("other")), tmp_path / f"other.{suffix}")
    assert keyed(Files(str(tmp_path / f"part*.{suffix}"), **KEYS).read()) == READ


def test_a_folder_of_parquet_is_read(tmp_path: Path) -> None:
    (tmp_path / "lines").mkdir()
    write(LINES[:2], tmp_path / "lines" / "a.parquet")
    write(LINES[2:], tmp_path / "lines" / "b.parquet")
    write(LINES, tmp_path / "lines" / "c.csv")
    assert keyed(Files(str(tmp_path / "lines"), **KEYS).read()) == READ


def test_paths_are_relative_to_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(LINES, tmp_path / "lines.csv")
    monkeypatch.chdir(tmp_path)
    assert keyed(Files("lines.csv", **KEYS).read()) == READ


def test_the_order_of_lines_is_no_matter(tmp_path: Path) -> None:
    settings: dict[str, Any] = {**KEYS, "basket": "till", "labels": {"liked": "binary"}}
    turned = Files(write(LINES.reverse(), tmp_path / "turned.csv"), **settings)
    straight = Files(write(LINES, tmp_path / "straight.csv"), **settings)
    one, other = turned.read(), straight.read()
    columns = [[ids(data, "user"), ids(data, "basket"), label(data, "liked")] for data in (one, other)]
    assert columns[0] == [values[::-1] for values in columns[1]]
    for role in ("user", "item", "basket"):
        assert one.keys[role].keys.equals(other.keys[role].keys)
    cards = [card_of(dataset) for dataset in (turned, straight)]
    assert cards[0] == cards[1]  # splits by their hashes among it


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_the_size_of_batches_is_no_matter(rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = LINES.with_columns(
        tags=pl.Series([[], ["p", "q"], ["q"], ["r"]]), v=pl.Series([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]),
        text=pl.Series(["one two", None, "two", "three"]), whole=pl.Series([None, 2.0, 3.5, None]),
        several=pl.Series([[1.0], [2.0], [2.5], [4.0]]), late=pl.Series([None, None, None, 7]),
    )  # fmt: skip
    path = write(frame, tmp_path / "lines.parquet")
    features = {
        "till": "id", "tags": "ids", "v": "vector", "text": "text", "price": "number", "whole": "id",
        "several": "history", "late": "id",
    }  # fmt: skip
    dataset = Files(path, **KEYS, features=features, labels={"liked": "binary", "noise": "category"})
    at_once = dataset.read()
    monkeypatch.setattr(files, "ROWS", rows)
    in_parts = dataset.read()
    assert in_parts.size == at_once.size == 4
    for name in ("user", "item", "till", "whole", "late", "noise"):
        assert ids(in_parts, name) == ids(at_once, name)
    assert ids(at_once, "whole") == [None, "2.0", "3.5", None]  # as text in every batch
    assert lists(in_parts, "several") == lists(at_once, "several") == [["1.0"], ["2.0"], ["2.5"], ["4.0"]]
    assert lists(in_parts, "tags") == lists(at_once, "tags") == [[], ["p", "q"], ["q"], ["r"]]
    assert number(in_parts, "price") == number(at_once, "price")
    assert label(in_parts, "liked") == label(at_once, "liked")
    assert np.array_equal(in_parts.vectors["v"], at_once.vectors["v"])
    assert np.array_equal(in_parts.texts["text"], at_once.texts["text"])


# --- what is not there, and what is none


def test_all_missing_columns_are_named_at_once(tmp_path: Path) -> None:
    path = write(LINES, tmp_path / "lines.csv")
    wrong = {"user": "whom", "item": "what", "time": "whence"}
    with pytest.raises(UserError) as told:
        Files(
            path, **wrong, features={"till": "id", "tll": "id", "prize": "number"},
            labels={"licked": "binary", "startle": "number"},
        ).read()  # fmt: skip
    names = ["whom", "whence", "tll", "prize", "licked", "startle"]
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


def test_text_in_a_column_of_numbers_is_named_with_its_row(tmp_path: Path) -> None:
    path = csv("price,liked\n1.5,1\nfree,0\n2,1\n", tmp_path / "t.csv")
    with pytest.raises(DataError, match=r"DATA-002 .*t\.csv:3  price: 'free' is no finite number"):
        Files(path, features={"price": "number"}, labels={"liked": "binary"}).read()


def test_faults_of_several_columns_are_told_at_once(tmp_path: Path) -> None:
    path = csv("price,liked,w,part\n1.5,1,1,train\nfree,7,-1,later\n", tmp_path / "t.csv")
    with pytest.raises(DataError) as told:
        Files(
            path, features={"price": "number"}, labels={"liked": "binary"}, weight="w", split="part"
        ).read()  # fmt: skip
    for code, place in (("DATA-002", "price: 'free'"), ("TASK-003", "liked: '7'"), ("DATA-034", "w: '-1'")):
        assert code in str(told.value)
        assert f"t.csv:3  {place}" in str(told.value)
    assert "DATA-045" in str(told.value)
    assert "t.csv:3  part: 'later' is none of train, val and test" in str(told.value)


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
    read = Files(write(frame, tmp_path / f"lines.{suffix}"), **KEYS, features={"till": "id"}).read()
    assert read.refused == {"no user, item, time": 4}
    assert keyed(read) == [("c", "3", 0.5), ("d", "5", 1.5)]
    assert [None if value is None else str(value) for value in ids(read, "till")] == [None, "1"]  # it may be missing
    assert read.keys["user"].keys.to_list() == ["c", "d"]


def test_no_row_at_all_is_told(tmp_path: Path) -> None:
    nobody = pl.DataFrame({"who": [None, None], "what": [1, 2], "when": [0, 1]}, schema_overrides={"who": pl.String})
    with pytest.raises(DataError, match=r"DATA-010 .*nobody.parquet: 0 rows to use \(2 rows: no user, item, time\)"):
        Files(write(nobody, tmp_path / "nobody.parquet"), **KEYS).read()
    with pytest.raises(DataError, match="DATA-010"):
        Files(
            write(LINES[:0], tmp_path / "empty.parquet"), features={"till": "id"}, labels={"liked": "binary"}
        ).read()  # fmt: skip


def test_columns_that_are_not_named_may_be_anything(tmp_path: Path) -> None:
    frame = LINES.with_columns(odd=pl.Series([{"a": [1]}] * 4), list=pl.Series([[[1]]] * 4))
    path = write(frame, tmp_path / "lines.parquet")
    assert number(Files(path, features={"price": "number"}, labels={"liked": "binary"}).read(), "price") == [
        1.5, 2.0, None, 4.0
    ]  # fmt: skip


# --- time


@pytest.mark.parametrize(("unit", "factor"), [("s", 86_400), ("ms", 86_400_000), ("days", 1)])
@pytest.mark.parametrize("dtype", [pl.Int64, pl.Float64], ids=str)
def test_numbers_are_times_in_a_unit(unit: str, factor: int, dtype: type[pl.DataType], tmp_path: Path) -> None:
    days = [18_262.0, 18_263.5, 18_262.0 + 400]
    frame = pl.DataFrame({"when": [int(day * factor) if unit != "days" else day for day in days]})
    if unit == "days" and dtype == pl.Int64:
        frame, days = pl.DataFrame({"when": [18_262, 18_264, 18_662]}), [18_262, 18_264, 18_662]
    read = Files(write(frame.cast(dtype), tmp_path / "t.parquet"), time="when", time_unit=unit).read()
    assert read.time is not None
    assert read.time.tolist() == pytest.approx(days, abs=1e-9)
    assert read.clock


def test_an_order_is_no_clock(tmp_path: Path) -> None:
    path = write(pl.DataFrame({"when": [10**6, -7, 3]}), tmp_path / "t.parquet")
    read = Files(path, time="when", time_unit="order").read()
    assert read.time is not None
    assert read.time.tolist() == [1e6, -7.0, 3.0]
    assert not read.clock


MOMENTS = [datetime(2020, 3, 1, 12), datetime(2020, 2, 28), datetime(2020, 3, 2, 0, 0, 0, 500_000)]
FEBRUARY_28 = DAY_2020 + 58


@pytest.mark.parametrize(
    ("column", "days"),
    [
        (pl.Series(MOMENTS, dtype=pl.Datetime("us")), [2.5, 0.0, 3 + 0.5 / 86_400]),
        (pl.Series(MOMENTS, dtype=pl.Datetime("ns")), [2.5, 0.0, 3 + 0.5 / 86_400]),
        (pl.Series([date(2020, 3, 1), date(2020, 2, 28)]), [2.0, 0.0]),
        (pl.Series([date(1950, 1, 2), date(1950, 1, 1)]), [-7304.0 - FEBRUARY_28, -7305.0 - FEBRUARY_28]),
        (
            pl.Series([moment.replace(tzinfo=timezone.utc) for moment in MOMENTS], dtype=pl.Datetime("us", "UTC")),
            [2.5, 0.0, 3 + 0.5 / 86_400],
        ),
    ],
    ids=["us", "ns", "date", "before 1970", "zone"],
)
def test_dates_are_days_since_1970(column: pl.Series, days: list[float], tmp_path: Path) -> None:
    read = Files(write(pl.DataFrame({"when": column}), tmp_path / "t.parquet"), time="when", time_unit="days").read()
    assert read.time is not None  # and the unit is of numbers only
    assert read.time.tolist() == pytest.approx([FEBRUARY_28 + since for since in days], abs=1e-9)


def test_dates_of_csv_are_read(tmp_path: Path) -> None:
    path = csv("who,when\na,2020-02-28 12:00:00\nb,2020-02-28 00:00:00\n", tmp_path / "t.csv")
    read = Files(path, user="who", time="when").read()
    assert read.time is not None
    assert [*zip(ids(read, "user"), read.time.tolist(), strict=True)] == [("a", FEBRUARY_28 + 0.5), ("b", FEBRUARY_28)]


def test_time_as_text_is_refused(tmp_path: Path) -> None:
    path = write(pl.DataFrame({"when": ["last week", "today"]}), tmp_path / "t.csv")
    with pytest.raises(
        DataError, match=r"DATA-042 .*t\.csv:2  when: 'last week' is no date\n.*t\.csv:3  when: 'today'"
    ):
        Files(path, time="when").read()


def test_rows_may_have_no_time(tmp_path: Path) -> None:
    read = Files(
        write(LINES, tmp_path / "lines.csv"), user="who", features={"till": "id"}, labels={"liked": "binary"}
    ).read()  # fmt: skip
    assert ids(read, "user") == ["b", "a", "a", "c"]
    assert read.time is None
    assert not read.has("time")


def test_a_time_that_is_not_a_number_is_refused(tmp_path: Path) -> None:
    frame = pl.DataFrame({"who": ["a", "b", "c"], "when": [0.0, float("nan"), float("inf")]})
    read = Files(write(frame, tmp_path / "t.parquet"), user="who", time="when").read()
    assert read.time is not None
    assert [*zip(ids(read, "user"), read.time.tolist(), strict=True)] == [("a", 0.0)]
    assert sum(read.refused.values()) == 2


@pytest.mark.parametrize("features", [{}, {"when": "date"}], ids=["time", "date"])
def test_the_wrong_unit_of_time_is_told_and_not_a_crash(features: dict[str, str], tmp_path: Path) -> None:
    moment = int(datetime(2020, 1, 1, tzinfo=timezone.utc).timestamp() * 1000)  # ms, and s is what Files expects
    path = write(pl.DataFrame({"when": [moment, moment + 1], "y": [0, 1]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"DATA-042.*time_unit"):
        Files(path, time="when", features=features).read()
    with pytest.raises(DataError, match=r"DATA-042.*t.parquet, row 1 .*when: .*time_unit=days"):
        Files(path, features={"when": "date"}, labels={"y": "binary"}, time_unit="days").read()


def test_moments_keep_their_milliseconds(tmp_path: Path) -> None:
    start = datetime(2020, 1, 1)
    frame = pl.DataFrame({"when": [start + timedelta(milliseconds=step) for step in range(4)]})
    read = Files(write(frame, tmp_path / "t.parquet"), time="when").read()
    assert read.time is not None
    assert [(day - DAY_2020) * 86_400_000 for day in read.time] == pytest.approx([0, 1, 2, 3], abs=1e-3)


# --- kinds of columns


def table(tmp_path: Path, features: dict[str, Any], suffix: str = "parquet", **columns: Any) -> Files:
    """Columns, a label y and an official split: the last row tests, the one before it validates."""
    rows = len(next(iter(columns.values())))
    frame = pl.DataFrame(columns, strict=False).with_columns(
        y=pl.int_range(rows) % 2, part=pl.Series(["train"] * (rows - 2) + ["val", "test"])
    )
    return Files(write(frame, tmp_path / f"t.{suffix}"), features=features, labels={"y": "binary"}, split="part")


def test_an_id_is_what_stands_there(tmp_path: Path) -> None:
    data = table(tmp_path, {"x": "id"}, "csv", x=["007", "7", None, "🙂", "NA", "7"])
    assert ids(data.read(), "x") == ["007", "7", None, "🙂", "NA", "7"]
    assert batch(data)["x"].tolist() == [1, 2, 0, 3]  # sorted, the unknown id is 0
    assert batch(data, "test")["x"].tolist() == [2]


def test_ids_are_split_and_the_first_are_kept(tmp_path: Path) -> None:
    given: list[Any] = ["a|b|c", "b", None, "c||d", "e", "z|a"]
    data = table(tmp_path, {"x": {"kind": "ids", "length": 2}}, "csv", x=given)
    assert lists(data.read(), "x") == [["a", "b", "c"], ["b"], [], ["c", "d"], ["e"], ["z", "a"]]
    assert batch(data)["x"].tolist() == [[1, 2], [2, 0], [0, 0], [3, 4]]
    assert batch(data, "test")["x"].tolist() == [[0, 1]]  # z is new
    other = table(tmp_path, {"x": {"kind": "ids", "separator": ";"}}, "csv", x=["a|b;c", "d"] * 2)
    assert lists(other.read(), "x")[:2] == [["a|b", "c"], ["d"]]
    as_lists = table(tmp_path, {"x": "ids"}, x=[[1, 2], [], None, [3]])
    assert lists(as_lists.read(), "x") == [[1, 2], [], [], [3]]


def test_of_a_history_the_newest_are_kept(tmp_path: Path) -> None:
    data = table(tmp_path, {"x": {"kind": "history", "length": 2}}, "csv", x=["a|b|c", "b", None, "c"])
    assert lists(data.read(), "x")[0] == ["a", "b", "c"]
    found = batch(data)
    assert found["x"].tolist() == [[2, 3], [0, 2]]
    assert found["x_age"].shape == (2, 2)
    assert found["x_age"][0, 0] > found["x_age"][0, 1]  # the newest last


def test_texts_are_words_in_buckets(tmp_path: Path) -> None:
    long = "word " * 400  # 2,000 characters: a long text is no long id
    texts = ["Red shoes", "red SHOES!", long, None, "", "shoes red"]
    data = table(tmp_path, {"x": {"kind": "text", "length": 3, "buckets": 50}}, "csv", x=texts)
    words = data.read().texts["x"]
    assert words.shape == (6, 3)
    assert words[0].tolist() == words[1].tolist() == [*words[5, [1, 0]], 0]
    assert (words[2] > 0).all()
    assert (words[[3, 4]] == 0).all()
    assert 1 <= words[words > 0].min() <= words.max() <= 50
    assert prepared(data).tables["x"].size == 51
    assert batch(data)["x"].tolist() == words[:4].tolist()


def test_numbers_are_scaled_on_training_rows(tmp_path: Path) -> None:
    data = table(tmp_path, {"x": "number"}, x=[1.0, 3.0, None, float("nan"), 9.0, 5.0])
    assert number(data.read(), "x") == [1.0, 3.0, None, None, 9.0, 5.0]
    assert batch(data)["x"].tolist() == [-1.0, 1.0, 0.0, 0.0]  # what is missing is the mean
    assert batch(data, "test")["x"].tolist() == [3.0]


@pytest.mark.parametrize(
    ("options", "given", "found"),
    [
        ({"fill": -1.0}, [2.0, None, float("nan")], [2.0, -1.0, -1.0]),
        ({"clip": [0, 10]}, [-5.0, 5.0, 50.0, None], [0.0, 5.0, 10.0, None]),
        ({"log": True}, [0.0, np.e - 1, 1 - np.e, None], [0.0, 1.0, -1.0, None]),
        ({"fill": 99.0, "clip": [-1, 10], "log": True}, [None, -7.0], [np.log(11), -np.log(2)]),
    ],
    ids=["fill", "clip", "log", "in this order"],
)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_numbers_are_filled_clipped_and_logged(
    options: dict[str, Any], given: list[Any], found: list[Any], suffix: str, tmp_path: Path
) -> None:
    data = table(tmp_path, {"x": {"kind": "number", **options}}, suffix, x=[*given, 0.0, 0.0])
    for value, expected in zip(number(data.read(), "x"), found, strict=False):
        assert value == (None if expected is None else pytest.approx(expected, rel=1e-6))


def test_outliers_are_clipped_where_training_rows_say(tmp_path: Path) -> None:
    values = [float(value) for value in range(101)]
    data = table(tmp_path, {"x": {"kind": "number", "outliers": 0.1}}, x=[*values, 0.0, 1e6])
    assert number(data.read(), "x")[-1] == 1e6
    clipped = np.clip(values, 10, 90)
    expected = (clipped - clipped.mean()) / clipped.std()
    assert batch(data)["x"].tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    assert batch(data, "test")["x"].tolist() == pytest.approx([expected.max()], abs=1e-5)
    plain = table(tmp_path, {"x": "number"}, x=[*values, 0.0, 1e6])
    assert batch(plain, "test")["x"].item() > 1e4


def test_buckets_are_quantiles_of_training_rows(tmp_path: Path) -> None:
    values: list[Any] = [float(value) for value in range(100)]
    data = table(tmp_path, {"x": {"kind": "number", "buckets": 4}}, x=[*values, None, 0.0, 1e9])
    found = batch(data)["x"]
    assert found.dtype == torch.int64
    assert torch.bincount(found).tolist() == [1, 25, 25, 25, 25]  # 0 where it is missing
    assert batch(data, "test")["x"].tolist() == [4]
    stream = prepared(data).streams["rows"].schema
    assert [(feature.name, feature.kind) for feature in stream.features] == [("x", "id")]


def test_vectors_are_read_and_scaled(tmp_path: Path) -> None:
    given = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]
    for suffix, values, separator in (
        ("parquet", given, "|"),
        ("csv", [f"{a}|{b}" for a, b in given], "|"),
        ("csv", [f"[{a}, {b}]" for a, b in given], ","),
        ("csv", [f"{a}  {b}" for a, b in given], " "),
    ):
        data = table(tmp_path, {"x": {"kind": "vector", "separator": separator}}, suffix, x=values)
        assert data.read().vectors["x"].tolist() == given
    assert batch(data)["x"].tolist() == [[-1.0, -1.0], [1.0, 1.0]]
    assert [(f.kind, f.size) for f in prepared(data).streams["rows"].schema.features] == [("vector", 2)]


@pytest.mark.parametrize("rows", [1, 100])
def test_a_vector_of_another_length_is_named(rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "ROWS", rows)
    data = table(tmp_path, {"x": "vector"}, "csv", x=["1|2", "3|4", "5|6", "1|2|3"])
    with pytest.raises(DataError, match=r"DATA-033 .*t.csv:5  x: '1\|2\|3' is no vector of 2 numbers"):
        data.read()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_date_is_its_parts(suffix: str, tmp_path: Path) -> None:
    moments = [datetime(2020, 2, 29, 13, 45), None, datetime(1969, 12, 31, 23), datetime(2021, 1, 3)]
    data = table(tmp_path, {"x": {"kind": "date", "parts": list(DATE_PARTS)}}, suffix, x=moments)
    read = data.read()
    assert read.ids == tuple(f"x_{part}" for part in DATE_PARTS)
    assert [[ids(read, f"x_{part}")[row] for part in DATE_PARTS] for row in range(4)] == [
        [13, 6, 29, 2, 2020], [None] * 5, [23, 3, 31, 12, 1969], [0, 7, 3, 1, 2021]
    ]  # fmt: skip
    assert table(tmp_path, {"x": "date"}, suffix, x=moments).read().ids == ("x_hour", "x_weekday")
    assert batch(data)["x_hour"].tolist() == [1, 0]
    assert batch(data, "test")["x_hour"].tolist() == [0]  # an hour that training does not have


def test_the_time_of_a_row_may_be_a_date_as_well(tmp_path: Path) -> None:
    path = write(LINES.rename({"when": "time"}), tmp_path / "lines.csv")
    read = Files(path, user="who", item="what", time="time", features={"time": "date"}).read()
    assert keyed(read) == READ
    assert ids(read, "time_hour") == [0, 0, 12, 0]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("id", ["a", None, "b", "", "c", "d"]),
        ("ids", ["a|b", None, "b", "", "c", "d"]),
        ("history", ["a", None, "b|c", "", "c", "d"]),
        ("number", [1.0, None, 2.0, float("nan"), 3.0, 4.0]),
        ("text", ["a", None, "b", "", "c", "d"]),
        ("vector", ["1|2", None, "3|4", " ", "1|2", "3|4"]),
        ("vector", [[1.0], None, [2.0], [], [3.0], [4.0]]),
        ("date", [datetime(2020, 1, 1), None, datetime(2020, 1, 2), None, datetime(2020, 1, 1), datetime(2020, 1, 2)]),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value[0]).__name__,
)
@pytest.mark.parametrize("rows", [1, 100])
def test_rows_without_a_feature_that_must_be_there_are_dropped_and_counted(
    kind: str, values: list[Any], rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "ROWS", rows)
    frame = pl.DataFrame({"x": values, "row": range(6)}, strict=False)
    path = write(frame, tmp_path / "t.parquet")
    for missing, kept in (("drop", [0, 2, 4, 5]), ("keep", list(range(6)))):
        data = Files(path, features={"x": {"kind": kind, "missing": missing}}, labels={"row": "number"})
        if (kind, missing) == ("vector", "keep"):
            with pytest.raises(DataError, match="DATA-033"):
                data.read()
            continue
        read = data.read()
        assert label(read, "row") == kept
        assert read.refused == ({"no x": 2} if missing == "drop" else {})


def test_a_category_is_a_label_as_well(tmp_path: Path) -> None:
    path = csv("y,part\nred,train\nblue,train\n,train\nred,val\ngreen,test\n", tmp_path / "t.csv")
    data = Files(path, labels={"y": "category"}, split="part")
    read = data.read()
    assert (ids(read, "y"), read.asked) == (["red", "blue", None, "red", "green"], ())
    assert batch(data)["y"].tolist() == [1, 0, -1]
    assert batch(data, "test")["y"].tolist() == [UNSEEN]  # a class that training never saw, and no missing answer
    assert prepared(data).streams["rows"].schema.label("y").classes == 2


# --- options that are no options


@pytest.mark.parametrize(
    ("meaning", "told"),
    [
        ({"kind": "number", "bukets": 3}, "features.x: there is no 'bukets'; did you mean 'buckets'?"),
        ({"kind": "ids", "seperator": ","}, "features.x: there is no 'seperator'; did you mean 'separator'?"),
        ({"kind": "id", "zzz": 1}, "features.x: there is no 'zzz'"),
        ({"separator": ","}, "features.x: kind is missing: one of id, ids, number"),
        ("nmber", "features.x: kind should be one of id, ids, number, text, vector, history, date. Found nmber"),
        ({"kind": "id", "missing": "kept"}, "missing should be keep or drop"),
        ({"kind": "number", "clip": [3, 1]}, "clip should be"),
        ({"kind": "number", "clip": [3]}, "clip should be"),
        ({"kind": "number", "outliers": 0.5}, "outliers should be"),
        ({"kind": "number", "outliers": -0.1}, "outliers should be"),
        ({"kind": "number", "buckets": -1}, "buckets and length should be positive"),
        ({"kind": "ids", "length": 0}, "buckets and length should be positive"),
        ({"kind": "date", "parts": ["hour", "minute"]}, "parts should be of hour, weekday, day, month, year"),
        ({"kind": "id", "log": True}, "are for numbers"),
        ({"kind": "id", "clip": [0, 1]}, "are for numbers"),
        ({"kind": "text", "fill": 0.0}, "are for numbers"),
        ({"kind": "vector", "outliers": 0.1}, "are for numbers"),
        ({"kind": "id", "buckets": 5}, "buckets are for numbers and text"),
    ],
)
@pytest.mark.parametrize("where", ["features", "item_features"])
def test_a_wrong_option_of_a_column_is_named(meaning: Any, told: str, where: str) -> None:
    with pytest.raises(ValueError) as found:  # noqa: PT011 (the message is compared below)
        Files("x.csv", item="what", items="y.csv", **{where: {"x": meaning}})
    assert told.replace("features.x", f"{where}.x") in str(found.value)
    assert f"{where}.x" in str(found.value)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"time_unit": "minutes"}, "Found minutes"),
        ({"k_core": -1, **KEYS}, "k_core should be at least 0"),
        ({"k_core": 2, "user": "who"}, "k_core: needs user and item"),
        ({"duplicates": "drop", "item": "what"}, "duplicates: drop needs user and item"),
        ({"duplicates": "sum", **KEYS}, "duplicates should be keep or drop"),
        ({"split": "part", "test": "t.csv"}, "split, a column, and val or test, files, say the same twice"),
        ({"split": "part", "val": "t.csv"}, "say the same twice"),
        ({"labels": {"y": "bool"}}, "labels.y: should be one of binary, number, category, found bool"),
        ({"labels": {"y": "binary"}, "features": {"y": "number"}}, "'y' is a label as well, so it would be the answer"),
        ({"features": {"t": "id"}, "known_after": ["t"]}, "'t' is known only after the row"),
        ({**KEYS, "items": "i.csv", "item_features": {"t": "id"}, "known_after": ["t"]}, "item_features.t: known only"),
        ({"users": "u.csv", "item": "what"}, "users: a file of no use without dataset.user"),
        ({**KEYS, "user_features": {"a": "id"}}, "user_features: of no use without dataset.users"),
        ({**KEYS, "users": "u.csv", "user_features": {"a": "history"}}, "user_features.a: an attribute is no history"),
        (
            {**KEYS, "users": "u.csv", "user_features": {"a": {"kind": "number", "buckets": 3}}},
            "user_features.a: missing=drop, outliers and buckets",
        ),
        ({"events": {"z": 1}, "labels": {"y": "binary"}}, "events: 'z' is neither a label of kind binary or number"),
        ({"events": {"y": 1}, "labels": {"y": "category"}}, "events: 'y' is neither"),
        ({"events": {"x": 1}, "features": {"x": "id"}}, "events: 'x' is neither"),
        ({"events": {"x": 1}, "features": {"x": "date"}}, "events: 'x' is neither"),
        (
            {"events": {f"y{at}": 1 for at in range(8)}, "labels": {f"y{at}": "binary" for at in range(8)}},
            "at most 7 kinds of behaviour, found 8",
        ),
        ({"features": {"d": "date", "d_hour": "id"}}, "'d_hour' would be made of 'd' and 'd_hour'"),
        ({"features": {"d": "date"}, "labels": {"d_hour": "binary"}}, "'d_hour' would be made of 'd' and 'd_hour'"),
        ({"features": {"h": "history", "h_age": "number"}}, "'h_age' would be made of 'h' and 'h_age'"),
        ({}, "no column is named"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError) as found:  # noqa: PT011 (the message is compared below)
        Files("x.csv", **settings)
    assert told in str(found.value)


@pytest.mark.parametrize("name", sorted(TAKEN))
@pytest.mark.parametrize("part", ["features", "labels"])
def test_names_that_are_taken_are_refused(name: str, part: str) -> None:
    kind = "number" if part == "features" else "binary"
    with pytest.raises(ValueError, match=f"'{name}' is a name that graftrec uses itself; rename the column"):
        Files("x.csv", user="who", **{part: {name: kind}})


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ValueError, match=r"features: 'user'.*labels: 'item'.*events: 'z'.*k_core: needs"):
        Files("x.csv", features={"user": "id"}, labels={"item": "binary"}, events={"z": 1}, k_core=3)


def test_keys_may_be_features_too(tmp_path: Path) -> None:
    path = csv("user,item,y\na,1,0\nb,2,1\na,2,1\nb,1,0\nc,1,1\n", tmp_path / "t.csv")
    data = Files(path, user="user", item="item", features={"user": "id", "item": "id"}, labels={"y": "binary"})
    read = data.read()
    assert ids(read, "user") == ["a", "b", "a", "b", "c"]
    assert [read.column("item").keys[int(code)] for code in read.column("item").codes] == ["1", "2", "2", "1", "1"]
    stream = prepared(data, AtRandom(0.4, 0.3)).streams["rows"].schema
    assert [feature.name for feature in stream.features] == ["user", "item"]


@pytest.mark.parametrize(
    ("word", "near"),
    [("feature={x: id}", "features"), ("usr=who", "user"), ("know_after=[x]", "known_after"), ("kcore=2", "k_core")],
)
def test_a_typo_on_the_command_line_names_the_nearest(word: str, near: str) -> None:
    problems = problems_of_command("data", ["dataset=files", "dataset.path=x.csv", f"++dataset.{word}"], [])
    assert len(problems) == 1
    assert f"did you mean '{near}'?" in problems[0]


# --- events


def test_events_are_rows_that_reach_a_value(tmp_path: Path) -> None:
    frame = LINES.with_columns(stars=pl.Series([5.0, 3.0, float("nan"), None]))
    path = write(frame, tmp_path / "lines.parquet")
    labels = {"liked": "binary", "stars": "number"}
    one = Files(path, **KEYS, labels=labels, events={"stars": 4}).read()
    assert one.event is not None
    assert (one.event.tolist(), one.behaviours) == ([1, 0, 0, 0], ("stars",))
    both = Files(path, **KEYS, labels=labels, events={"liked": 1, "stars": 3}).read()
    assert both.event is not None
    assert (both.event.tolist(), both.event.dtype) == ([1 + 2, 2, 0, 1], np.uint8)
    assert both.behaviours == ("liked", "stars")
    assert Files(path, **KEYS, labels=labels).read().event is None


def test_events_are_of_numbers_as_they_stand(tmp_path: Path) -> None:
    path = write(LINES, tmp_path / "lines.csv")
    price = {"kind": "number", "clip": [0, 1], "log": True, "fill": 100.0}
    read = Files(path, **KEYS, features={"price": price}, events={"price": 2}).read()
    assert read.event is not None
    assert read.event.tolist() == [0, 1, 0, 1]


def test_words_may_be_events(tmp_path: Path) -> None:
    path = csv("who,what,bought\na,1,yes\na,2,no\nb,1,\n", tmp_path / "t.csv")
    read = Files(path, user="who", item="what", labels={"bought": "binary"}, events={"bought": 1}).read()
    assert read.event is not None
    assert read.event.tolist() == [1, 0, 0]


def test_only_events_are_ranked_and_remembered(tmp_path: Path) -> None:
    pairs = [(user, item) for item in range(12) for user in range(12)]
    rows = [(user, item, 3600 * at, (user + item) % 2, 1) for at, (user, item) in enumerate(pairs)]
    path = write(pl.DataFrame(rows, schema=["who", "what", "when", "liked", "seen"], orient="row"), tmp_path / "t.csv")
    labels = {"liked": "binary", "seen": "binary"}
    for events, count in (({"liked": 1}, 72), ({"liked": 1, "seen": 1}, 144)):
        data = Files(path, **KEYS, labels=labels, events=events)
        made = CrossDomain(data, AtRandom(), History(long=5, short=5), Candidates(min_users=0))
        made.prepare(["baskets", "rows"])
        assert sum(made.streams["baskets"].splits.values()) == count
        assert sum(made.streams["rows"].splits.values()) == 144
        stream = made.streams["rows"]
        found = stream.batch(torch.arange(stream.rows), torch.Generator().manual_seed(0))
        users = made.users_of("rows").decode(found["user"].numpy())
        remembered = {
            (int(user), int(item))
            for user, row in zip(users, found["recent"], strict=True)
            for item in made.items_of("rows").decode(row[row > 0].numpy())
        }
        assert {(user + item) % 2 for user, item in remembered} == ({1} if len(events) == 1 else {0, 1})
        recent = {feature.name: feature for feature in stream.schema.features}["recent"]
        assert (recent.behaviours > 0) == (len(events) > 1)


# --- domains


DOMAINS = pl.DataFrame(
    {
        "who": ["a", "b", "a", "c", "d"],
        "what": [1, 2, 3, 1, 9],
        "y": [1, 0, 1, 0, 1],
        "shop": ["Web", "App", "Web", None, "App"],
    }
)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_column_tells_domains_apart(suffix: str, tmp_path: Path) -> None:
    path = write(DOMAINS, tmp_path / f"t.{suffix}")
    data = Files(path, user="who", item="what", domain="shop", labels={"y": "binary"})
    read = data.read()
    assert ids(read, "domain") == ["Web", "App", "Web", "App"]
    assert read.refused == {"no user, item, domain": 1}
    made = CrossDomain(data, AtRandom(0.4, 0.3), History(), Candidates(min_users=0))
    made.prepare([])
    assert {name.partition("/")[0] for name in made.streams} == {"app", "web"}


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("features", [None, {}, {"brand": "id"}], ids=["all", "none", "another"])
def test_an_attribute_of_items_tells_domains_apart(suffix: str, features: Any, tmp_path: Path) -> None:
    path = write(DOMAINS.drop("shop"), tmp_path / f"t.{suffix}")
    frame = pl.DataFrame({"what": [1, 2, 3, 4], "shop": ["Web", "App", None, "Web"], "brand": ["p", "q", "p", "q"]})
    items = write(frame, tmp_path / f"items.{suffix}")
    read = Files(path, user="who", item="what", domain="shop", items=items, item_features=features).read()
    assert [*zip(ids(read, "user"), ids(read, "domain"), strict=True)] == [("a", "Web"), ("b", "App"), ("c", "Web")]
    assert read.refused == {"no user, item, domain": 2}  # item 3 has none, item 9 is not there
    assert read.items is not None
    assert set(read.items.columns) == ({"shop", "brand"} if features is None else set(features))


def test_an_attribute_of_users_tells_domains_apart(tmp_path: Path) -> None:
    path = write(DOMAINS, tmp_path / "t.csv")
    users = write(pl.DataFrame({"land": ["DE", "FR", "DE"], "who": ["a", "b", "c"]}), tmp_path / "users.parquet")
    read = Files(path, user="who", item="what", domain="land", users=users).read()
    assert [*zip(ids(read, "user"), ids(read, "domain"), strict=True)] == [
        ("a", "DE"), ("b", "FR"), ("a", "DE"), ("c", "DE")
    ]  # fmt: skip


def test_ids_with_zeros_in_front_have_their_own_domain(tmp_path: Path) -> None:
    path = csv("who,what\na,007\nb,7\n", tmp_path / "t.csv")
    items = write(pl.DataFrame({"what": [7], "shop": ["Web"]}), tmp_path / "items.parquet")
    read = Files(path, user="who", item="what", domain="shop", items=items).read()
    assert [*zip(ids(read, "user"), ids(read, "domain"), strict=True)] == [("b", "Web")]


def test_a_domain_that_is_nowhere_is_told(tmp_path: Path) -> None:
    path = write(DOMAINS, tmp_path / "t.csv")
    with pytest.raises(UserError, match=r"t.csv has no column 'shap'; did you mean 'shop'"):
        Files(path, user="who", item="what", domain="shap").read()


def test_two_domains_of_one_name_are_told(tmp_path: Path) -> None:
    path = csv("who,what,shop\na,1,🙂\nb,2,🙃\n", tmp_path / "t.csv")
    data = Files(path, user="who", item="what", domain="shop")
    with pytest.raises(UserError, match=r"dataset.domain: '.' and '.' would both be the domain 'other'"):
        CrossDomain(data, AtRandom(), History(), Candidates()).prepare([])


# --- splits


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_files_are_the_official_split(suffix: str, tmp_path: Path) -> None:
    parts = {name: write(LINES[at : at + 1], tmp_path / f"{name}.{suffix}") for at, name in enumerate(("val", "test"))}
    path = write(LINES[2:], tmp_path / f"train.{suffix}")
    read = Files(path, **KEYS, **parts).read()
    assert read.split is not None
    assert [*zip(ids(read, "user"), read.split.tolist(), strict=True)] == [("a", 0), ("c", 0), ("b", 1), ("a", 2)]
    assert read.split.dtype == np.int8
    assert keyed(read) == READ
    only = Files(path, **KEYS, test=parts["test"]).read()
    assert only.split is not None
    assert only.split.tolist() == [0, 0, 2]


def test_validation_rows_are_drawn_where_there_are_none(tmp_path: Path) -> None:
    frame = pl.DataFrame({"x": [str(number) for number in range(200)], "y": [0, 1] * 100})
    train, test = write(frame[:150], tmp_path / "train.csv"), write(frame[150:], tmp_path / "test.csv")
    stream = prepared(Files(train, test=test, features={"x": "id"}, labels={"y": "binary"}), Official(val=0.2))
    splits = stream.streams["rows"].splits
    assert splits["test"] == 50
    assert splits["train"] + splits["val"] == 150
    assert 10 < splits["val"] < 60


def test_a_column_is_the_official_split(tmp_path: Path) -> None:
    words = ["train", " Train ", "VAL", "valid", "validation", "dev", "test", "0", "1", "2", None, ""]
    frame = pl.DataFrame({"part": words, "y": [0.0, 1.0] * 6})
    for suffix in ("csv", "parquet"):
        read = Files(write(frame, tmp_path / f"t.{suffix}"), split="part", labels={"y": "binary"}).read()
        assert read.split is not None
        assert read.split.tolist() == [0, 0, 1, 1, 1, 1, 2, 0, 1, 2]
        assert read.refused == {"no split": 2}
    numbers = write(pl.DataFrame({"part": [0, 1, 2], "y": [0, 1, 0]}), tmp_path / "n.parquet")
    assert Files(numbers, split="part", labels={"y": "binary"}).read().split.tolist() == [0, 1, 2]  # type: ignore[union-attr]
    odd = write(pl.DataFrame({"part": ["train", "holdout"], "y": [0, 1]}), tmp_path / "odd.csv")
    with pytest.raises(DataError, match=r"DATA-045 .*odd.csv:3  part: 'holdout' is none of train, val and test"):
        Files(odd, split="part", labels={"y": "binary"}).read()


def test_a_split_is_read_before_it_is_needed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"split=official: files comes without a split; see dataset.split"):
        prepared(Files(write(LINES, tmp_path / "lines.csv"), **KEYS, labels={"liked": "binary"}))


# --- ids over several files


def test_integers_of_any_width_are_the_same_ids(tmp_path: Path) -> None:
    train = write(LINES.cast({"what": pl.Int16}), tmp_path / "train.parquet")
    test = write(LINES, tmp_path / "test.parquet")
    read = Files(train, **KEYS, test=test).read()
    assert read.keys["item"].keys.to_list() == [1, 2, 3]
    assert ids(read, "item") == [3, 1, 2, 1] * 2


@pytest.mark.parametrize(
    ("column", "settings"),
    [("who", KEYS), ("till", {**KEYS, "features": {"till": "id"}}), ("till", {**KEYS, "features": {"till": "ids"}}),
     ("till", {**KEYS, "labels": {"till": "category"}})],
    ids=["user", "feature", "ids", "label"],
)  # fmt: skip
def test_ids_of_two_types_are_told_with_their_files(column: str, settings: dict[str, Any], tmp_path: Path) -> None:
    train = write(LINES, tmp_path / "train.parquet")
    test = write(LINES.with_columns(pl.lit(7).alias(column)), tmp_path / "test.parquet")
    told = rf"DATA-031 column '{column}' is Int64 in .*test.parquet, String in .*train.parquet; write both as one type"
    with pytest.raises(DataError, match=told):
        Files(train, test=test, **settings).read()


def test_a_file_may_have_no_value_at_all_of_a_column(tmp_path: Path) -> None:
    features = {"x": "id", "xs": "ids"}
    some = pl.DataFrame({"x": [7, 8], "xs": [[1], [2, 3]], "y": [0, 1]})
    none = pl.DataFrame({"x": [None, None], "xs": [None, []], "y": [0, 1]}, schema_overrides={"y": pl.Int64})
    for first, second in ((some, none), (none, some)):
        train, test = write(first, tmp_path / "train.parquet"), write(second, tmp_path / "test.parquet")
        read = Files(train, test=test, features=features, labels={"y": "binary"}).read()
        assert sorted(filter(None, ids(read, "x"))) == [7, 8]
        assert sorted(lists(read, "xs")) == [[], [], [1], [2, 3]]


# --- weights, duplicates, k-core, unique


def test_weights_come_with_the_rows(tmp_path: Path) -> None:
    frame = pl.DataFrame({"w": [0.5, 2.0, 1.0, 3.0], "y": [0, 1, 0, 1], "part": ["train", "train", "val", "test"]})
    data = Files(write(frame, tmp_path / "t.csv"), weight="w", labels={"y": "binary"}, split="part")
    read = data.read()
    assert read.weight is not None
    assert (read.weight.tolist(), read.weight.dtype) == ([0.5, 2.0, 1.0, 3.0], np.float32)
    assert batch(data)["weight"].tolist() == [0.5, 2.0]
    assert batch(data, "test")["weight"].tolist() == [3.0]


TWICE = pl.DataFrame(
    {
        "who": ["a", "a", "a", "a", "b", "b", "c", "c"],
        "what": [1, 1, 1, 2, 1, 1, 5, 5],
        "when": [0, 0, 86_400, 0, 0, 0, 7, 7],
        "liked": [0, 1, 0, 1, None, 0, 1, 1],
        "stars": [5.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0],
        "x": ["p", "q", "r", "s", "t", "u", "v", "w"],
    }
)


def test_duplicates_are_kept_and_told_or_dropped_and_counted(tmp_path: Path) -> None:
    settings: dict[str, Any] = {**KEYS, "features": {"x": "id"}, "labels": {"liked": "binary", "stars": "number"}}
    path = write(TWICE, tmp_path / "t.parquet")
    kept = Files(path, **settings)
    assert (kept.read().kept, kept.read().refused) == (None, {})
    card = card_of(kept)
    told = "3 rows repeat a user, item and time, 2 of them with another label; see dataset.duplicates"
    assert told in card["notes"]
    dropped = Files(path, **settings, duplicates="drop")
    read = dropped.read()
    assert read.kept is not None
    assert [ids(read, "x")[at] for at in np.flatnonzero(read.kept)][:4] == ["q", "r", "s", "u"]  # the largest labels
    assert read.kept.sum() == 5
    assert read.refused == {"repeats a user, item and time": 3}
    card = card_of(dropped)
    assert card["rows"] == card["domains"]["all"]["rows"] == 5
    assert not [note for note in card["notes"] if "repeat" in note]
    assert card["refused"] == {"repeats a user, item and time": 3}


@pytest.mark.parametrize("seed", range(5))
def test_which_duplicate_stays_does_not_depend_on_the_order_of_rows(seed: int, tmp_path: Path) -> None:
    settings: dict[str, Any] = {**KEYS, "features": {"x": "id"}, "labels": {"liked": "binary", "stars": "number"}}
    shuffled = TWICE.sample(fraction=1.0, shuffle=True, seed=seed)
    found = []
    for name, frame in (("one", TWICE), ("other", shuffled)):
        read = Files(write(frame, tmp_path / f"{name}.parquet"), **settings, duplicates="drop").read()
        assert read.kept is not None
        found.append({ids(read, "x")[at] for at in np.flatnonzero(read.kept)})
    assert found[0] == found[1]


def test_without_a_time_a_pair_is_kept_once(tmp_path: Path) -> None:
    read = Files(
        write(TWICE, tmp_path / "t.csv"), user="who", item="what", labels={"stars": "number"}, duplicates="drop"
    ).read()  # fmt: skip
    assert read.kept is not None
    assert read.kept.sum() == 4
    assert [label(read, "stars")[at] for at in np.flatnonzero(read.kept)] in ([5.0, 2.0, 3.0, 4.0],)


def plain_core(pairs: list[tuple[str, int]], k: int) -> list[int]:
    """Places of the rows of a k-core, slowly."""
    left = list(range(len(pairs)))
    while True:
        kept = [
            at for at in left
            if sum(pairs[other][0] == pairs[at][0] for other in left) >= k
            and sum(pairs[other][1] == pairs[at][1] for other in left) >= k
        ]  # fmt: skip
        if kept == left:
            return left
        left = kept


def test_a_core_is_stamped_and_counted(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    pairs = [
        (f"u{user}", int(item))
        for user, item in zip(random.integers(0, 9, 90), random.integers(0, 14, 90), strict=True)
    ]
    pairs = [*dict.fromkeys(pairs), ("alone", 99)]
    path = write(pl.DataFrame(pairs, schema=["who", "what"], orient="row").with_columns(y=0), tmp_path / "t.parquet")
    core = plain_core(pairs, 4)
    assert 0 < len(core) < len(pairs) - 1
    data = Files(path, user="who", item="what", labels={"y": "number"}, k_core=4)
    read = data.read()
    assert read.kept is not None
    assert np.flatnonzero(read.kept).tolist() == core
    assert read.refused == {"outside the 4-core": len(pairs) - len(core)}
    assert read.stamps == ("4-core counted over all rows, also those that test",)
    card = card_of(data)
    assert "4-core counted over all rows, also those that test" in card["stamps"]
    assert card["rows"] == card["domains"]["all"]["rows"] == len(core)
    assert card["users"] == card["domains"]["all"]["users"] == len({pairs[at][0] for at in core})
    assert card["items"] == len({pairs[at][1] for at in core})
    assert Files(path, user="who", item="what").read().stamps == ()
    with pytest.raises(
        DataError, match=r"DATA-010 files: 0 rows are left in the 50-core; set a smaller dataset.k_core"
    ):
        Files(path, user="who", item="what", k_core=50).read()


def test_a_core_counts_rows_that_duplicates_left(tmp_path: Path) -> None:
    frame = pl.DataFrame({"who": ["a", "a", "b", "b", "a"], "what": [1, 2, 1, 2, 3], "when": 0})
    frame = pl.concat([frame, frame[4:]])
    path = write(frame, tmp_path / "t.parquet")
    read = Files(path, **KEYS, k_core=2, duplicates="drop").read()
    assert read.refused == {"repeats a user, item and time": 1, "outside the 2-core": 1}
    both = Files(path, **KEYS, k_core=2).read()
    assert both.kept is not None
    assert both.kept.all()


def test_pairs_may_be_said_to_be_in_one_row_only(tmp_path: Path) -> None:
    path = write(LINES, tmp_path / "lines.csv")
    assert Files(path, **KEYS, unique=True).read().unique
    assert not Files(path, **KEYS).read().unique


# --- what is known of users and items


def test_attributes_are_keyed_as_the_lines_are(tmp_path: Path) -> None:
    users = write(pl.DataFrame({"age": [30, 40], "who": ["a", "b"]}), tmp_path / "users.csv")
    items = write(pl.DataFrame({"what": [1, 2], "brand": ["p", "q"]}), tmp_path / "items.parquet")
    read = Files(write(LINES, tmp_path / "lines.csv"), **KEYS, users=users, items=items).read()
    assert read.users is not None
    assert read.items is not None
    assert read.users.frame.to_dicts() == [{"key": "a", "age": "30"}, {"key": "b", "age": "40"}]
    assert read.items.frame.to_dicts() == [{"key": 1, "brand": "p"}, {"key": 2, "brand": "q"}]
    assert (read.users.columns, read.items.columns) == ({"age": Column("id")}, {"brand": Column("id")})


def test_attributes_without_the_key_or_the_file_are_told(tmp_path: Path) -> None:
    lines = write(LINES, tmp_path / "lines.csv")
    users = write(pl.DataFrame({"user": ["a"], "age": [3]}), tmp_path / "users.csv")
    with pytest.raises(UserError, match=r"dataset\.users: .*users\.csv has no column 'who'; it has user, age"):
        Files(lines, **KEYS, users=users).read()
    with pytest.raises(DataError, match=r"DATA-011 .*items\.csv"):
        Files(lines, **KEYS, items=str(tmp_path / "items.csv")).read()
    items = write(pl.DataFrame({"what": [1], "key": ["c sharp"]}), tmp_path / "items.csv")
    with pytest.raises(UserError, match=r"dataset.items: 'key' in .*items.csv is a name that graftrec uses itself"):
        Files(lines, **KEYS, items=items).read()


ABOUT = pl.DataFrame(
    {
        "what": [1, 2, 3, 3],
        "brand": ["p", "q", None, "double"],
        "price": [1.0, None, 300.0, 0.0],
        "genres": ["x|y|z", "y", None, ""],
        "title": ["Red shoes", "", "Blue " * 500, None],
        "since": [datetime(2020, 2, 29, 13), None, datetime(2021, 1, 3), None],
        "item": [9, 9, 9, 9],
        "popularity": [1, 2, 3, 4],
    }
)
MEANING: dict[str, Any] = {
    "brand": "id", "price": {"kind": "number", "fill": 7.0, "clip": [0, 100]},
    "genres": {"kind": "ids", "length": 2}, "title": {"kind": "text", "length": 3},
    "since": {"kind": "date", "parts": ["hour", "year"]}, "e": "vector", "item": "id",
}  # fmt: skip


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_attributes_of_every_kind(suffix: str, tmp_path: Path) -> None:
    vectors = ["1|2", "3|4", None, None] if suffix == "csv" else [[1.0, 2.0], [3.0, 4.0], None, []]
    items = write(ABOUT.with_columns(e=pl.Series(vectors)), tmp_path / f"items.{suffix}")
    data = Files(
        write(LINES, tmp_path / f"lines.{suffix}"), **KEYS, labels={"liked": "binary"}, items=items,
        item_features=MEANING,
    )  # fmt: skip
    known = data.read().items
    assert known is not None
    assert set(known.columns) == {"brand", "price", "genres", "title", "since_hour", "since_year", "e", "item"}
    assert {name: column.kind for name, column in known.columns.items() if name.startswith("since")} == {
        "since_hour": "id", "since_year": "id"
    }  # fmt: skip
    assert known.frame["price"].to_list() == [1.0, 7.0, 300.0]  # the first row of each item
    assert known.frame["since_hour"].to_list() == [13, None, 0]
    assert known.frame["e"].to_list() == [[1.0, 2.0], [3.0, 4.0], None]
    assert known.frame["brand"].to_list() == ["p", "q", None]
    assert [str(value) for value in known.frame["item"]] == ["9"] * 3
    made = CrossDomain(data, AtRandom(0.98, 0.01), History(), Candidates(min_users=0))
    made.prepare([])
    table = made.tables["item"]
    assert table.content["item_genres"].tolist()[1] == [1, 2]  # x and y of item 1: the first two
    assert (table.content["item_title"][3] > 0).all()  # a long text is not lost
    assert table.content["item_title"].shape[1] == 3
    assert set(table.vectors) == {"item_price", "item_e"}
    assert table.vectors["item_e"][3].tolist() == [0.0, 0.0]  # the mean
    assert all(values.isfinite().all() for values in table.vectors.values())


def test_what_is_known_after_is_no_attribute(tmp_path: Path) -> None:
    items = write(ABOUT, tmp_path / "items.csv")
    data = Files(write(LINES, tmp_path / "lines.csv"), **KEYS, items=items, known_after=["popularity"])
    known = data.read().items
    assert known is not None
    assert set(known.columns) == set(ABOUT.columns) - {"what", "popularity"}


def test_wrong_values_of_attributes_are_named_with_their_rows(tmp_path: Path) -> None:
    items = csv("what,price,e,since\n1,2,1|2,2020-01-01\n2,dear,3|4,2020-13-01\n3,1,5,\n", tmp_path / "items.csv")
    meaning = {"price": "number", "e": "vector", "since": "date"}
    with pytest.raises(DataError) as told:
        Files(write(LINES, tmp_path / "lines.csv"), **KEYS, items=items, item_features=meaning).read()
    assert told.value.code == "DATA-002"
    for said in (
        "items.csv:3  price: 'dear' is no finite number", "DATA-033", "items.csv:4  e: '5' is no vector of 2 numbers",
        "DATA-042", "items.csv:3  since: '2020-13-01' is no date",
    ):  # fmt: skip
        assert said in str(told.value)


def test_a_user_in_the_attributes_alone_is_no_user(tmp_path: Path) -> None:
    users = write(pl.DataFrame({"who": ["a", "zz", "a"], "age": [1, 2, 3]}), tmp_path / "users.csv")
    read = Files(write(LINES, tmp_path / "lines.csv"), **KEYS, users=users).read()
    assert read.keys["user"].keys.to_list() == ["a", "b", "c"]
    assert read.users is not None
    assert read.users.frame.rows() == [("a", "1"), ("zz", "2")]  # the first row of each


# --- odd names


@pytest.mark.parametrize("cached", [False, True])
def test_a_column_may_have_any_name(cached: bool, tmp_path: Path) -> None:
    names = {"ids": "a/b", "history": "..", "text": "0", "vector": "é ü", "id": "1", "number": "no\tname"}
    frame = pl.DataFrame(
        {
            "a/b": [["p", "q"], ["q"]], "..": [["r"], ["s", "r"]], "0": ["one two", "two"],
            "é ü": [[1.0, 2.0], [3.0, 4.0]], "1": ["v", "w"], "no\tname": [1.0, 2.0], "y": [0, 1],
        }
    )  # fmt: skip
    data = Files(
        write(frame, tmp_path / "t.parquet"), features={name: kind for kind, name in names.items()},
        labels={"y": "binary"}, cache=str(tmp_path / "cache") if cached else "off",
    )  # fmt: skip
    read = data.read()
    assert (read.folder is not None) == cached
    assert lists(read, "a/b") == [["p", "q"], ["q"]]
    assert lists(read, "..") == [["r"], ["s", "r"]]
    assert read.vectors["é ü"].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert ids(read, "1") == ["v", "w"]
    assert (read.texts["0"] > 0).sum(1).tolist() == [2, 1]
