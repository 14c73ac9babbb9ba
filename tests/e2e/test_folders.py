"""Folders as users have them: with files of their own, with an earlier run, with links in the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from command import graftrec
from graftrec.runs.run_folder import OF_RUN, OF_SWEEP
from graftrec.utils.atomic_files import MARKER

TINY = [f"++dataset.{key}={value}" for key, value in {
    "users": 30, "items": 20, "rows": 200, "source_rows": 200, "val": 100, "test": 150
}.items()]  # fmt: skip
SETTINGS = ["experiment=planted", *TINY, "transfer.epochs=1", "workers=1", "++trainer.accelerator=cpu"]
HERE = "hydra.run.dir=."
FILE = ["dataset.path=rows.csv", *(f"++dataset.{role}={role}" for role in ("user", "item", "time"))]
LOG = {"train.log", "audit.log"}  # Hydra's, empty


def listed(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def without_logs(found: dict[str, Any]) -> dict[str, Any]:
    return {name: content for name, content in found.items() if content or not name.endswith(".log")}


@pytest.mark.slow
def test_a_run_in_the_folder_of_a_project(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    for name in ("checkpoints/thesis.ckpt", "config.yaml", "notes.md"):
        (tmp_path / name).write_text("mine")
    before = listed(tmp_path)
    for words in (["train", *SETTINGS], ["train", *SETTINGS, "++dataset.users=-1"], ["audit", *SETTINGS[:-2]]):
        said = graftrec(*words, HERE, cwd=tmp_path, code=2).stderr
        assert "Traceback" not in said
        assert without_logs(listed(tmp_path)) == before
    assert "holds config.yaml, checkpoints, which graftrec did not make there" in said


@pytest.mark.slow
def test_a_finished_run_stays_until_the_next_one_is_good(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("mine")
    graftrec("train", *SETTINGS, "seeds=2", HERE, cwd=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} - LOG <= {*OF_RUN, MARKER, "notes.md"}
    first = listed(tmp_path)
    odd = ("++trainer.enable_checkpointing=false", "verdicts=[what]", "lambda_shared=abc")
    for word in odd:
        graftrec("train", *SETTINGS, word, HERE, cwd=tmp_path, code=2)
        assert listed(tmp_path) == first, word
    graftrec("train", *SETTINGS, "seed=7", "seeds=1", HERE, cwd=tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text())["seeds"] == [7]
    assert not (tmp_path / "seeds").exists()
    assert (tmp_path / "notes.md").read_text() == "mine"
    graftrec("audit", *SETTINGS[:-2], "audit.seeds=2", "audit.workers=1", HERE, cwd=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} - LOG <= {*OF_RUN, MARKER, "notes.md"}
    assert not (tmp_path / "metrics.json").exists()


@pytest.mark.slow
def test_a_sweep_has_no_other_names(tmp_path: Path) -> None:
    graftrec("train", "-m", *SETTINGS, "twin=false", "seed=1,2", "hydra.sweep.dir=swept", cwd=tmp_path)
    jobs = {path.name for path in (tmp_path / "swept").iterdir() if (path / MARKER).is_file()}
    assert len(jobs) == 2
    assert {path.name for path in (tmp_path / "swept").iterdir()} - jobs <= {*OF_SWEEP, MARKER}
    (tmp_path / "multirun.yaml").write_text("mine")
    said = graftrec("train", "-m", *SETTINGS, "seed=1,2", "hydra.sweep.dir=.", cwd=tmp_path, code=2).stderr
    assert "multirun.yaml, which graftrec did not make there" in said
    assert (tmp_path / "multirun.yaml").read_text() == "mine"


@pytest.mark.parametrize("words", [["hydra.job.chdir=true"], ["-m", "seed=1,2", "hydra.job.chdir=true"]])
def test_a_job_that_would_change_the_folder(words: list[str], tmp_path: Path) -> None:
    said = graftrec("train", *SETTINGS, *words, cwd=tmp_path, code=2).stderr
    assert "hydra.job.chdir: should be false" in said
    assert listed(tmp_path) == {}


def test_links_are_not_followed(tmp_path: Path) -> None:
    """Of the verbs that write beside runs: what a link leads to stays, or is not made."""
    mine = tmp_path / "mine"
    mine.write_text("mine")
    rows = "user,item,time,click\n" + "\n".join(f"{n % 7},{n % 5},{n},{n % 2}" for n in range(60))
    (tmp_path / "rows.csv").write_text(rows)
    for target in (mine, tmp_path / "gone"):
        (tmp_path / "init" / "dataset").mkdir(parents=True, exist_ok=True)
        link = tmp_path / "init" / "dataset" / "rows.yaml"
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        said = graftrec("data", "init", "rows.csv", "--out", "init", cwd=tmp_path, code=2).stderr
        assert "rows.yaml is there already" in said
        assert link.is_symlink()
        (tmp_path / "card").mkdir(exist_ok=True)
        for name in ("card.json", "card.png"):
            (tmp_path / "card" / name).unlink(missing_ok=True)
            (tmp_path / "card" / name).symlink_to(target)
        graftrec("data", "check", "dataset=files", *FILE, "out=card", cwd=tmp_path)
        assert not any((tmp_path / "card" / name).is_symlink() for name in ("card.json", "card.png"))
        assert json.loads((tmp_path / "card" / "card.json").read_text())["domains"]
    assert mine.read_text() == "mine"
    assert not (tmp_path / "gone").exists()
