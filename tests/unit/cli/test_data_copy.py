"""`data init` of files that others write: no header, RecBole's types, names of no known language, lists in Parquet."""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest
import yaml

from graftrec.cli.data_copy import SAMPLE, copy_of
from graftrec.cli.main import main
from graftrec.data.datasets.files import Files

RECBOLE = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
ROWS = [f"{row % 7}\t{row % 5}\t{row % 5 + 1}\t{881250949 + row * 1000}" for row in range(60)]


def made(folder: Path, name: str) -> dict[str, object]:
    found: dict[str, object] = yaml.safe_load((folder / f"dataset/{name}.yaml").read_text())
    return found


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("name", "header"), [("u.data", ""), ("u.csv", ""), ("u.inter", RECBOLE)])
def test_movielens_and_recbole_are_read(name: str, header: str, packed: bool, tmp_path: Path) -> None:
    text = "\n".join([*([header] if header else []), *ROWS]).encode()
    path = tmp_path / (f"{name}.gz" if packed else name)
    path.write_bytes(gzip.compress(text) if packed else text)
    out = tmp_path / "conf"
    assert main(["data", "init", str(path), "--out", str(out)]) == 0
    assert (out / "u.csv").read_text().splitlines() == ["user_id\titem_id\trating\ttimestamp", *ROWS]
    yaml = made(out, "u")
    roles = {"user": "user_id", "item": "item_id", "time": "timestamp", "labels": {"rating": "number"}}
    assert {role: yaml[role] for role in roles} == roles
    data = Files(str(yaml["path"]), user="user_id", item="item_id", time="timestamp", cache="off").read()
    assert data.time is not None
    assert len(data.time) == len(ROWS)


def test_a_file_of_many_blocks_is_copied_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graftrec.data.sources.csv_reader.CHUNK", 100)
    (tmp_path / "u.data").write_text("\n".join(ROWS) + "\n")
    copy = copy_of(str(tmp_path / "u.data"))
    assert copy is not None
    copy.write(tmp_path / "whole.csv")
    assert (tmp_path / "whole.csv").read_text().splitlines()[1:] == ROWS
    copy.write(tmp_path / "first.csv", SAMPLE)
    first = (tmp_path / "first.csv").read_text()
    assert first.splitlines()[1:] == ROWS[: len(first.splitlines()) - 1]
    assert first.endswith("\n")


def test_what_is_wrong_is_said_of_the_file_that_was_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "u.data").write_text("\n".join([*ROWS, "1\t2"]) + "\n")
    assert main(["data", "init", str(tmp_path / "u.data"), "--out", str(tmp_path / "conf")]) == 65
    assert f"{tmp_path / 'u.data'} as CSV:62  2 fields, the header has 4" in capsys.readouterr().err
    assert not (tmp_path / "conf").exists()


def test_columns_without_a_name_are_counted_and_can_be_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.txt").write_text("".join(f"{row % 7},{row % 5},{row % 3}\n" for row in range(60)))
    words = ["data", "init", str(tmp_path / "t.txt"), "--out", str(tmp_path / "conf")]
    assert main(words) == 2
    assert "with --user and --item: column_1, column_2, column_3" in capsys.readouterr().err
    assert not (tmp_path / "conf").exists()
    assert main([*words, "--user", "column_1", "--item", "column_2"]) == 0
    assert made(tmp_path / "conf", "t")["item"] == "column_2"


def test_what_a_column_is_can_be_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"k{row % 7};a{row % 5};{1600000000 + row}" for row in range(60)]
    (tmp_path / "k.csv").write_text("\n".join(["Kunde;Artikel;Am", *lines]))
    words = ["data", "init", str(tmp_path / "k.csv"), "--out", str(tmp_path / "conf")]
    assert main(words) == 2
    assert "say which columns these are with --user and --item: Kunde, Artikel, Am" in capsys.readouterr().err
    assert main([*words, "--user", "Kinde", "--item", "Am", "--time", "Kunde"]) == 2
    said = capsys.readouterr().err
    assert "--user: there is no column 'Kinde'; did you mean 'Kunde'?" in said
    assert "--time: 'Kunde' is no time" in said
    assert main([*words, "--user", "Kunde", "--item", "Kunde"]) == 2
    assert "--item: 'Kunde' is another role already" in capsys.readouterr().err
    assert not (tmp_path / "conf").exists()
    assert main([*words, "--user", "Kunde", "--item", "Artikel", "--time", "Am"]) == 0
    yaml = made(tmp_path / "conf", "k")
    assert [yaml[role] for role in ("user", "item", "time")] == ["Kunde", "Artikel", "Am"]
    assert not (tmp_path / "conf/k.csv").exists()


def test_a_header_that_is_read_needs_no_copy(tmp_path: Path) -> None:
    for header in ("user,item,x", "0,1,2", "2019,user,item"):
        (tmp_path / "t.csv").write_text(f"{header}\n1,2,3\n")
        assert copy_of(str(tmp_path / "t.csv")) is None
    assert copy_of(str(tmp_path / "nowhere.csv")) is None


def test_lists_and_structs_are_left_out_with_a_line_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = pl.DataFrame({"user_id": [f"u{row % 7}" for row in range(60)], "item_id": [row % 5 for row in range(60)]})
    odd = frame.with_columns(tags=pl.concat_list("item_id"), about=pl.struct("user_id", "item_id"))
    odd.write_parquet(tmp_path / "t.parquet")
    words = ["data", "init", str(tmp_path / "t.parquet"), "--out", str(tmp_path / "conf")]
    assert main(words) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if "not one value a row" in line]
    assert [line[:4] for line in lines] == [["tags", "-", "left", "out:"], ["about", "-", "left", "out:"]]
    odd.select("tags").write_parquet(tmp_path / "only.parquet")
    assert main(["data", "init", str(tmp_path / "only.parquet"), "--out", str(tmp_path / "none")]) == 2
    assert "no column has one value a row" in capsys.readouterr().err
