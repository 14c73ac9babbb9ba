"""What `data init` concludes of times and of the numbers of rows."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from graftrec.cli.data_init import look, main


@pytest.mark.parametrize(
    ("first", "unit"),
    [
        ("1600000000", "s"), ("1600000000000", "ms"), ("1600000000000000", "us"), ("1600000000000000000", "ns"),
        ("-300000000", "s"), ("-300000000000", "ms"), ("18262", "days"), ("20200101", "%Y%m%d"),
        ("20200101101010", "%Y%m%d%H%M%S"), ("2020-01-01 10:00:00", "date"),
    ],
)  # fmt: skip
def test_units_and_formats_of_times(first: str, unit: str) -> None:
    guess = look(pl.DataFrame({"user_id": ["a", "b"], "timestamp": [first, first]}))
    assert (guess.keys["time"], guess.unit) == ("timestamp", unit)


@pytest.mark.parametrize("name", ["", "index", "Unnamed: 0"])
def test_a_row_number_is_no_feature(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"{row},u{row % 7},i{row % 5},{row % 2}" for row in range(60)]
    (tmp_path / "t.csv").write_text("\n".join([f"{name},user_id,item_id,clicked", *lines]) + "\n")
    assert main([str(tmp_path / "t.csv"), "--out", str(tmp_path / "c")]) == 0
    assert "left out: the " in capsys.readouterr().out
    assert "features:" not in (tmp_path / "c" / "dataset" / "t.yaml").read_text()


def test_what_it_writes_of_a_format_is_read(tmp_path: Path) -> None:
    from graftrec.data.datasets.files import Files

    lines = [f"u{row % 7},i{row % 5},{20200101 + row // 10},{row % 2}" for row in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["user_id,item_id,date,clicked", *lines]) + "\n")
    assert main([str(tmp_path / "t.csv"), "--out", str(tmp_path / "c")]) == 0
    assert "time_format: '%Y%m%d'" in (tmp_path / "c" / "dataset" / "t.yaml").read_text()
    roles = {"user": "user_id", "item": "item_id", "time": "date", "time_format": "%Y%m%d", "cache": "off"}
    found = Files(str(tmp_path / "t.csv"), **roles).read()  # type: ignore[arg-type]
    assert found.time is not None
    assert float(found.time.min()) == 18262.0
