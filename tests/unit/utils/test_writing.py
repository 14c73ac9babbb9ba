"""Folders that nothing can be written into: one line with the path, before any work, and nothing half made."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graftrec.cli import data_get, data_init, main, predict
from graftrec.runs.recommender import Recommender
from graftrec.utils.atomic_files import writing
from graftrec.utils.errors import UserError


def failing(number: int) -> Callable[..., Any]:
    """What a folder says that is read-only, or another's."""

    def opened(dir: Path) -> Any:
        raise OSError(number, os.strerror(number), str(dir / "tmp"))

    return opened


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_folder_that_is_read_only(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", failing(number))
    folder = tmp_path / "new" / "deep"
    with pytest.raises(UserError) as raised, writing(folder, "take another"):
        raise AssertionError("nothing is begun")
    assert str(raised.value).startswith(f"{folder} cannot be used: {os.strerror(number)} (")
    assert str(raised.value).endswith("; take another")
    assert not (tmp_path / "new").exists()


def test_a_full_disk_and_a_missing_source_are_not_the_folders_fault(tmp_path: Path) -> None:
    for error in (OSError(errno.ENOSPC, "full", str(tmp_path)), FileNotFoundError(errno.ENOENT, "none", "/elsewhere")):
        with pytest.raises(OSError, match=r"full|none") as raised, writing(tmp_path / "new", ""):
            raise error
        assert raised.value is error
        assert not (tmp_path / "new").exists()


def test_what_was_there_or_was_written_stays(tmp_path: Path) -> None:
    def fail() -> None:
        (tmp_path / "new" / "mine").touch()
        raise KeyError

    with pytest.raises(KeyError), writing(tmp_path / "new" / "deep", ""):
        fail()
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "mine"]


@pytest.mark.parametrize("below", ["", "/deep"])
def test_every_command_says_that_its_folder_is_a_file(
    below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text("user,item,click\n1,2,0\n3,4,1\n")
    Path("file").write_text("mine")
    assert data_init.run(["rows.csv", "--out", f"file{below}"]) == UserError.exit_code
    assert data_get.run(["adult", "--root", f"file{below}"]) == UserError.exit_code
    assert main.main(["data", "check", "dataset=planted", f"out=file{below}", "hydra.run.dir=hydra"]) == 2
    said = capsys.readouterr().err
    assert said.count(f"graftrec: file{below} cannot be used: ") == 3
    assert "Traceback" not in said
    assert Path("file").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} <= {"rows.csv", "file", "hydra"}


def test_predict_knows_its_file_before_it_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(*_: Any) -> None:
        raise AssertionError("it is known before")

    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.csv").mkdir()
    monkeypatch.setattr(Recommender, "load", loaded)
    monkeypatch.setattr(predict, "problems_of_tree", lambda _: [])
    tree = {"run": str(tmp_path), "users": [1], "target_task": None}
    with pytest.raises(UserError, match=r"file cannot be used: .*; name another file with out"):
        predict.main({**tree, "out": str(tmp_path / "file" / "out.csv")})
    with pytest.raises(UserError, match=r"out: .*folder.csv is a folder; name a file"):
        predict.main({**tree, "out": str(tmp_path / "folder.csv")})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.csv"]
