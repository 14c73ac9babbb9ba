"""A run's folder: what is somebody else's stays, and an earlier run stays until a new one is good to begin."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from graftrec.runs import run_folder
from graftrec.runs.job import run_job
from graftrec.runs.resume import status_of
from graftrec.runs.run_folder import FOLDERS, OF_RUN, OF_SWEEP
from graftrec.utils import atomic_files
from graftrec.utils.atomic_files import MARKER
from graftrec.utils.errors import DataError, Stopped, UserError

Before = Callable[[], Any]
Run = Callable[..., int]


def listed(folder: Path) -> dict[str, Any]:
    """All that is in a folder: name -> content, or where a link leads."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = os.readlink(path)
        else:
            found[name] = path.read_bytes() if path.is_file() else None
    return found


def nothing() -> None:
    """No reason to end."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Train with a function: ``before`` it is good to begin, and ``after``; its files are those of a real one."""

    def with_work(before: Before = nothing, after: Before = nothing, **tree: Any) -> int:
        def train(tree: dict[str, Any], out: Path) -> float:
            run_folder.check(out)
            before()
            run_folder.begin(out, "train", tree.get("resume") is not None, FOLDERS)
            atomic_files.write_text(out / "checkpoints" / "best.ckpt", str(tree["seed"]))
            atomic_files.write_text(out / "seeds" / "outcome.json", str(tree["seed"]))
            after()
            atomic_files.write_text(out / "metrics.json", str(tree["seed"]))
            return 0.5

        module = ModuleType("graftrec.runs.train")
        module.train = train  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "graftrec.runs.train", module)
        return run_job({"seed": 1, "resume": None, **tree}, str(folder))[0]

    return with_work


def raises(error: BaseException) -> Before:
    def before() -> None:
        raise error

    return before


ENDS = [
    (UserError("settings"), 2), (DataError("DATA-011", "no file"), 65), (KeyboardInterrupt(), 130),
    (Stopped(15, ""), 143), (OSError(28, "full"), 74), (RuntimeError("bug"), 1),
]  # fmt: skip


@pytest.mark.parametrize("name", OF_RUN)
@pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling"])
def test_what_somebody_else_made_is_neither_removed_nor_overwritten(
    name: str, kind: str, folder: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    elsewhere = folder.with_name("elsewhere")
    elsewhere.mkdir()
    if kind == "file":
        (folder / name).write_text("mine")
    elif kind == "folder":
        (folder / name).mkdir()
        (folder / name / "weights").write_text("mine")
    else:
        (folder / name).symlink_to(elsewhere if kind == "link" else folder.with_name("gone"))
    before = listed(folder.parent)
    assert run() == 2
    assert listed(folder.parent) == before
    said = capsys.readouterr().err
    assert f"{folder} holds {name}, which graftrec did not make there" in said
    assert "hydra.run.dir=FOLDER" in said


@pytest.mark.parametrize(("error", "code"), [(None, 0), *ENDS])
def test_other_files_stay_beside_a_run(error: BaseException | None, code: int, folder: Path, run: Run) -> None:
    (folder / "notes").mkdir(parents=True)
    for name in ("notes/.essay.12.draft", "notes/checkpoints", ".letter.7.draft", "train.py", "empty.log"):
        (folder / name).write_text("" if name == "empty.log" else "mine")
    before = listed(folder)
    for _ in range(2):
        assert run(raises(error) if error else nothing) == code
        after = listed(folder)
        assert {name: after[name] for name in before} == before
        if code in (2, 65):
            assert after == before


@pytest.mark.parametrize("name", ["config.yaml", "status.json"])
def test_a_folder_in_a_files_place_is_named_and_nothing_is_touched(name: str, folder: Path, run: Run) -> None:
    assert run() == 0
    (folder / name).unlink()
    (folder / name).mkdir()
    before = listed(folder)
    assert run() == 2
    assert listed(folder) == before


def test_the_marker_comes_first(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    whole = atomic_files.whole

    def noted(path: Path, lasting: bool = False) -> Any:
        written.append(path.relative_to(folder).as_posix())
        return whole(path, lasting)

    monkeypatch.setattr(atomic_files, "whole", noted)
    assert run() == 0
    assert written[0] == MARKER
    said = json.loads((folder / MARKER).read_text())
    assert said["made_by"] == "graftrec"
    assert len(said["run"]) == 32
    assert set(said) == {"made_by", "verb", "run", "version"}


@pytest.mark.parametrize(("error", "code"), ENDS)
def test_a_run_that_does_not_begin_leaves_a_finished_one_as_it_was(
    error: BaseException, code: int, folder: Path, run: Run
) -> None:
    assert run(seed=1) == 0
    (folder / "notes.txt").write_text("mine")
    before = listed(folder)
    assert run(raises(error), seed=2) == code
    assert listed(folder) == before
    assert status_of(folder)["state"] == "finished"


def test_a_killed_run_that_did_not_begin_leaves_a_finished_one(folder: Path, run: Run) -> None:
    assert run(seed=1) == 0
    before = listed(folder)
    child = os.fork()
    if child == 0:
        run(lambda: os._exit(9), seed=2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    after = listed(folder)
    assert {name: after[name] for name in before} == before
    assert run(raises(UserError("settings")), seed=3) == 2
    assert listed(folder) == before  # what the killed one had put aside is gone as well


def test_a_run_that_begins_takes_the_place_of_the_one_before(folder: Path, run: Run) -> None:
    assert run(seed=1) == 0
    (folder / "comparison.png").write_text("old")
    first = json.loads((folder / MARKER).read_text())["run"]

    def look() -> None:
        assert not (folder / "comparison.png").exists()
        assert not (folder / "metrics.json").exists()
        assert status_of(folder)["state"] == "running"
        assert "seed: 2" in (folder / "config.yaml").read_text()

    assert run(after=look, seed=2) == 0
    assert (folder / "metrics.json").read_text() == "2"
    assert json.loads((folder / MARKER).read_text())["run"] != first
    assert not (folder / run_folder.NEXT).exists()


def test_one_that_is_killed_while_it_takes_the_place_never_passes_for_finished(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(seed=1) == 0
    for step in range(16):
        child = os.fork()
        if child == 0:
            left = iter(range(step))
            for name in ("replace", "unlink", "rmdir"):
                call = getattr(os, name)

                def counted(*given: Any, call: Any = call, left: Any = left, **more: Any) -> Any:
                    if next(left, None) is None:
                        os._exit(9)
                    return call(*given, **more)

                monkeypatch.setattr(os, name, counted)
            run_folder.enter(folder, "train", '{"state": "running", "fingerprint": "other"}', "seed: 2")
            run_folder.begin(folder, "train")
            os._exit(0)
        os.waitpid(child, 0)
        if status_of(folder).get("state") == "finished":
            assert (folder / "metrics.json").read_text() == "1"
            assert (folder / "checkpoints" / "best.ckpt").read_text() == "1"
        assert atomic_files.is_ours(folder)
        assert run(seed=1) == 0  # whatever is left, the next run begins


def test_going_on_keeps_what_is_of_the_same_settings_and_nothing_else(folder: Path, run: Run) -> None:
    assert run(after=raises(KeyboardInterrupt())) == 130
    stopped = listed(folder)
    assert run(raises(DataError("DATA-011", "no file")), resume="auto") == 65
    assert listed(folder) == stopped
    (folder / "checkpoints" / "last.ckpt").write_text("half")
    assert run(resume="auto") == 0
    assert (folder / "checkpoints" / "last.ckpt").exists()
    (folder / "status.json").unlink()  # nobody knows of which settings the rest is
    assert run(resume="auto") == 0
    assert not (folder / "checkpoints" / "last.ckpt").exists()


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_of_somebody_else_in_a_run_of_ours_stays(name: str, folder: Path, run: Run) -> None:
    assert run() == 0
    atomic_files.remove(folder / name, everything=True)
    (folder / name).mkdir()
    (folder / name / "thesis.tex").write_text("mine")
    before = listed(folder)
    assert run(seed=2) == 2
    assert listed(folder) == before


def test_links_in_a_run_of_ours_are_not_followed(folder: Path, run: Run) -> None:
    assert run() == 0
    mine = folder.with_name("mine.txt")
    mine.write_text("mine")
    for name in OF_RUN:
        if name not in FOLDERS and name not in ("arms", "wandb"):
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(mine)
    assert run(seed=2) == 0
    assert mine.read_text() == "mine"
    assert (folder / "metrics.json").read_text() == "2"
    elsewhere = folder.with_name("elsewhere")
    (folder / "checkpoints").rename(elsewhere)
    (folder / "checkpoints").symlink_to(elsewhere)
    before = listed(folder.parent)
    assert run(seed=3) == 2
    assert listed(folder.parent) == before


@pytest.mark.parametrize("text", ["", "[]", '{"made_by": "me"}', "{"])
def test_a_marker_of_somebody_else_is_none(text: str, folder: Path, run: Run) -> None:
    folder.mkdir()
    (folder / MARKER).write_text(text)
    (folder / "checkpoints").mkdir()
    assert run() == 2
    (folder / MARKER).unlink()
    other = folder.with_name("other.json")
    other.write_text(atomic_files.OURS)
    (folder / MARKER).symlink_to(other)
    assert run() == 2


def test_a_folder_that_cannot_be_written(folder: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    folder.write_text("a file")
    assert run() == 2
    said = capsys.readouterr().err
    assert f"{folder} cannot be written" in said
    assert "choose another hydra.run.dir" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("name", OF_SWEEP)
def test_a_sweep_touches_nothing_of_somebody_else(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=r"hydra\.sweep\.dir=FOLDER"):
        run_folder.check(tmp_path, OF_SWEEP, "hydra.sweep.dir")


def test_what_is_not_ours_is_not_removed(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("mine")
    (tmp_path / "link").symlink_to(mine)
    with pytest.raises(OSError, match="not empty"):
        atomic_files.remove(mine)
    with pytest.raises(UserError, match="not made by graftrec"):
        atomic_files.remove(mine, everything=True)
    with pytest.raises(UserError, match="not made by graftrec"):
        atomic_files.own(mine)
    with pytest.raises(UserError, match="is a link"):
        atomic_files.own(tmp_path / "link")
    ours = atomic_files.own(tmp_path / "ours")
    (ours / "link").symlink_to(mine)
    (ours / "deep").mkdir()
    (ours / "deep" / "file").write_text("")
    atomic_files.remove(ours, everything=True)
    atomic_files.remove(tmp_path / "link")
    atomic_files.remove(tmp_path / "never was")
    assert listed(tmp_path) == {"mine": None, "mine/thesis.tex": b"mine"}
