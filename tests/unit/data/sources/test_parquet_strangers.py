"""Parquet as other programs write it: every type is read or refused by name, folders as Arrow and Spark mean them."""

from __future__ import annotations

import decimal
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graftrec.data.datasets.files import Files
from graftrec.data.sources import table_reader
from graftrec.utils.errors import DataError

IDS = [uuid.UUID(int=2**127 + n * 2**90 + 7) for n in range(3)]
BYTES = [one.bytes for one in IDS]
READ: dict[str, tuple[Any, list[Any]]] = {
    "uuid": (pa.array(BYTES, pa.uuid()), [str(one) for one in IDS]),
    "json": (pa.array(['{"a":1}', None, "[]"], pa.json_()), ['{"a":1}', None, "[]"]),
    "decimal256": (
        pa.array([decimal.Decimal(n) / 4 for n in range(3)], pa.decimal256(50, 2)),
        ["0.00", "0.25", "0.50"],
    ),
    "letters of a fixed length": (pa.array([b"de", None, b"fr"], pa.binary(2)), ["de", None, "fr"]),
}
REFUSED: dict[str, Any] = {
    "map": pa.array([[("a", 1)]] * 3, pa.map_(pa.string(), pa.int8())),
    "struct": pa.array([{"a": 1}] * 3),
    "list of uuid": pa.ListArray.from_arrays([0, 1, 2, 3], pa.array(BYTES, pa.uuid())),
    "list of decimal256": pa.array([[decimal.Decimal(1)]] * 3, pa.list_(pa.decimal256(50, 2))),
    "list of lists": pa.array([[["a"]]] * 3),
}


@pytest.mark.parametrize("name", READ)
def test_types_that_polars_does_not_know_are_text(name: str, tmp_path: Path) -> None:
    values, expected = READ[name]
    pq.write_table(pa.table({"x": values}), tmp_path / "t.parquet")
    assert table_reader.read(str(tmp_path / "t.parquet"), ["x"]).frame["x"].to_list() == expected


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("lists", [[], ["x"]])
def test_types_that_cannot_be_read_are_named(
    name: str, lists: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pq.write_table(pa.table({"x": REFUSED[name]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"DATA-032 .*t\.parquet: column 'x' is "):
        table_reader.read(str(tmp_path / "t.parquet"), ["x"], lists)
    assert capfd.readouterr().err == ""  # no panic of Rust either


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": pa.array(BYTES, pa.binary(16))}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"DATA-004 .*t\.parquet, row 1  x: b.* is not UTF-8"):
        table_reader.read(str(tmp_path / "t.parquet"), ["x"])


def test_a_decimal_of_256_bits_is_a_number(tmp_path: Path) -> None:
    table = pa.table({"user": [1, 2, 3], "item": [1, 2, 3], "price": READ["decimal256"][0]})
    pq.write_table(table, tmp_path / "t.parquet")
    found = Files(str(tmp_path / "t.parquet"), user="user", item="item", features={"price": "number"}, cache="off")
    assert found.read().values[:, 0].tolist() == [0.0, 0.25, 0.5]


# --- folders


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two days of two rows, beside what is no data: drafts, checksums, what a Mac leaves."""
    root = tmp_path / "table"
    for day in ("2020-01-01", "2020-01-02"):
        (root / f"dt={day}" / "site=a%2Fb").mkdir(parents=True)
        pq.write_table(pa.table({"user": [1, 2], "item": [3, 4]}), root / f"dt={day}" / "site=a%2Fb" / "0.parquet")
    for hidden in ("_temporary/0", ".ipynb_checkpoints", "dt=2020-01-01/_x"):
        (root / hidden).mkdir(parents=True)
        pq.write_table(pa.table({"user": [9], "item": [9]}), root / hidden / "1.parquet")
    (root / "dt=2020-01-01" / "._0.parquet").write_bytes(b"\0\5\26\7Mac OS X")
    (root / "_metadata.parquet").write_bytes(b"")
    return root


@pytest.mark.parametrize("path", ["table", "table/dt=*/*/*.parquet"])
def test_partitions_are_columns_and_hidden_files_are_no_data(path: str, folder: Path) -> None:
    where = str(folder.parent / path)
    assert table_reader.columns(where) == ["user", "item", "dt", "site"]
    for columns in ([], ["dt", "user"], ["site"], ["user"]):
        frame = table_reader.read(where, columns).frame
        assert frame.columns == (columns or ["user", "item", "dt", "site"])
        assert len(frame) == 4
    whole = table_reader.read(where, []).frame
    assert sorted(whole["dt"]) == ["2020-01-01"] * 2 + ["2020-01-02"] * 2
    assert set(whole["site"]) == {"a/b"}
    data = Files(where, user="user", item="item", time="dt", domain="site", cache="off").read()
    assert data.time is not None
    assert sorted(set(data.time.tolist())) == [18262.0, 18263.0]


def test_a_partition_without_a_value_and_a_column_of_the_same_name(folder: Path) -> None:
    (folder / "dt=__HIVE_DEFAULT_PARTITION__" / "site=c").mkdir(parents=True)
    table = pa.table({"user": [7], "item": [7], "site": ["its own"]})
    pq.write_table(table, folder / "dt=__HIVE_DEFAULT_PARTITION__" / "site=c" / "0.parquet")
    frame = table_reader.read(str(folder), ["user", "dt", "site"]).frame
    assert frame.filter(frame["user"] == 7).rows() == [(7, None, "its own")]


def test_a_path_that_exists_is_no_pattern(tmp_path: Path) -> None:
    (tmp_path / "d[ab]").mkdir()
    (tmp_path / "da").mkdir()
    for name, user in (("r[1].csv", "right"), ("r1.csv", "wrong"), ("d[ab]/p.csv", "right"), ("da/p.csv", "wrong")):
        (tmp_path / name).write_text(f"user\n{user}\n")
    for path in ("r[1].csv", "d[ab]/p.csv", "d[ab]/*.csv"):
        assert table_reader.read(str(tmp_path / path), []).frame["user"].to_list() == ["right"], path
    assert len(table_reader.find(str(tmp_path / "d[a]" / "*.csv"))) == 1  # a pattern where no such folder is
