"""A sweep as a whole, on a scratch conf with a trainer that is a function: folders, repetition, interruption."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from filelock import FileLock

from graftrec.cli import main
from graftrec.config import instantiate
from graftrec.runs import run_folder
from graftrec.runs.sweep import job_log, sweep_page
from graftrec.runs.sweep.job_log import Entry
from graftrec.runs.sweep.sweep import sweep_of
from graftrec.utils.atomic_files import MARKER
from graftrec.utils.errors import DataError

TRAIN = """
defaults: [{trunk: small}, _self_, override hydra/job_logging: stdout]
source: {}
target: {buy: {_target_: graftrec.utils.errors.DataError, code: a, message: b}}
shared: {}
seed: 0
lr: 0.1
trainer: {devices: 1, accelerator: auto, epochs: 3}
logger: csv
hydra:
  run: {dir: runs/one}
  sweep: {dir: 'runs/sweeps/${fingerprint:sweep}', subdir: '${fingerprint:}'}
  output_subdir: null
"""


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Seeds that were trained; seed 13 is bad data, seed 99 sends SIGTERM to its process, once."""
    (tmp_path / "conf" / "trunk").mkdir(parents=True)
    (tmp_path / "conf" / "train.yaml").write_text(TRAIN)
    for name, units in (("small", 1), ("large", 9)):
        (tmp_path / "conf" / "trunk" / f"{name}.yaml").write_text(f"units: {units}")
    monkeypatch.setattr(instantiate, "conf_dir", lambda: tmp_path / "conf")
    monkeypatch.setattr(instantiate, "TASK", ("graftrec.utils.errors.DataError",))  # it has to be some class of ours
    monkeypatch.chdir(tmp_path)
    seeds: list[int] = []

    def train(tree: dict[str, Any], out: Path) -> float:
        run_folder.begin(out, "train")
        seeds.append(tree["seed"])
        if tree["seed"] == 13:
            raise DataError("DATA-003", "no rows")
        if tree["seed"] == 99 and seeds.count(99) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        (out / "trained.txt").write_text("")
        return tree["seed"] / 100 - tree["lr"]

    for picture in ("parallel", "shares_png"):  # they have tests of their own, and take their time
        monkeypatch.setattr(sweep_page, picture, lambda *given: None)
    module = ModuleType("graftrec.runs.train")
    module.train = train  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "graftrec.runs.train", module)
    return seeds


def only_sweep(tmp_path: Path) -> Path:
    (found,) = (tmp_path / "runs" / "sweeps").iterdir()
    return found


def table_of(sweep: Path) -> list[tuple[Any, ...]]:
    jobs = json.loads((sweep / "sweep.json").read_text())["jobs"]
    return [(job["name"], job["folder"], job["state"], job["exit_code"], job["score"]) for job in jobs]


def test_the_same_sweep_again_repeats_nothing(
    trained: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["train", "-m", "seed=0,1", "lr=0.1,0.2"]) == 0
    before = table_of(only_sweep(tmp_path))
    assert len(trained) == 4
    files = {path.name for path in only_sweep(tmp_path).iterdir() if path.is_file()}
    assert files == {"jobs.jsonl", "sweep.json", "report.html", MARKER}
    capsys.readouterr()
    assert main.main(["train", "lr=0.1,0.2", "-m", "trainer.devices=2", "seed=0,1", "logger=wandb"]) == 0
    assert len(trained) == 4
    assert sorted(job[1:] for job in table_of(only_sweep(tmp_path))) == sorted(job[1:] for job in before)
    said = capsys.readouterr().out
    assert said.count("finished before, not run again") == 4
    assert "best    -0.090  graftrec train lr=0.1 trainer.devices=2 seed=1 logger=wandb" in said


def test_a_finished_sweep_is_not_drawn_again(
    trained: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["train", "-m", "seed=0,1"]
    assert main.main(words) == 0
    drawn: list[Any] = []
    draw = sweep_page.write
    monkeypatch.setattr(sweep_page, "write", lambda *given: drawn.append(draw(*given)))
    assert main.main(words) == 0
    assert drawn == []
    (only_sweep(tmp_path) / "report.html").unlink()
    assert main.main(words) == 0
    assert [path.resolve() for path in drawn] == [only_sweep(tmp_path) / "report.html"]


def test_one_failed_job_does_not_stop_the_others_and_is_tried_again(
    trained: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["train", "-m", "seed=0,13,1"]) == 65
    states = [(job[0], job[2], job[3]) for job in table_of(only_sweep(tmp_path))]
    assert states == [("seed=0", "finished", 0), ("seed=13", "failed", 65), ("seed=1", "finished", 0)]
    said = capsys.readouterr().out
    assert "failed (65)  seed=13" in said
    assert main.main(["train", "-m", "seed=0,13,1"]) == 65
    assert trained == [0, 13, 1, 13]


def test_sigterm_in_a_job_ends_the_sweep_with_143_and_the_same_command_goes_on(
    trained: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["train", "-m", "seed=0,99,1"]) == 143
    assert [job[2] for job in table_of(only_sweep(tmp_path))] == ["finished", "stopped", "not run"]
    assert "2 of 3 jobs did not run to their end" in capsys.readouterr().out
    assert main.main(["train", "-m", "seed=0,99,1"]) == 0
    assert trained == [0, 99, 99, 1]
    interrupted = table_of(only_sweep(tmp_path))
    for folder in only_sweep(tmp_path).iterdir():
        folder.rename(tmp_path / folder.name)  # out of the way: the sweep without an interruption
    assert main.main(["train", "-m", "seed=0,99,1"]) == 0
    assert table_of(only_sweep(tmp_path)) == interrupted


def test_a_job_that_was_killed_is_run_again(trained: list[int], tmp_path: Path) -> None:
    assert main.main(["train", "-m", "seed=0,1"]) == 0
    sweep = only_sweep(tmp_path)
    folder = table_of(sweep)[1][1]
    status = json.loads((sweep / folder / "status.json").read_text())
    (sweep / folder / "status.json").write_text(json.dumps({**status, "state": "running", "score": None}))
    assert main.main(["train", "-m", "seed=0,1"]) == 0
    assert trained == [0, 1, 1]


def test_two_jobs_in_one_folder_are_refused(
    trained: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["train", "-m", "seed=0,1", "hydra.sweep.subdir=same"]) == 2
    assert trained == [0]
    assert "same holds a finished job of other settings" in capsys.readouterr().err


def test_another_process_at_the_same_sweep_is_refused(
    trained: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder.mark(tmp_path / "s", "sweep")
    with FileLock(tmp_path / "s" / ".lock"):
        assert main.main(["train", "-m", "seed=0,1", "hydra.sweep.dir=s"]) == 2
    assert "another process is running this sweep" in capsys.readouterr().err
    assert trained == []


@pytest.mark.parametrize(
    ("launcher", "said"), [("ray", "pip install 'graftrec[ray]'"), ("joblb", "did you mean 'joblib'")]
)
def test_a_launcher_that_is_not_here(
    launcher: str, said: str, trained: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["train", "-m", "seed=0,1", f"hydra/launcher={launcher}"]) == 2
    assert said in capsys.readouterr().err
    assert trained == []


def test_what_makes_another_sweep(trained: list[int]) -> None:
    def name(*words: str) -> str:
        found = sweep_of("train", ["-m", *words], [])
        assert found is not None
        assert str(found.folder) == f"runs/sweeps/{found.name}"
        return found.name

    ours = name("seed=0,1", "lr=0.1,0.2", "trunk=small")
    assert name("trunk=small", "lr=0.1,0.2", "trainer.devices=2", "seed=0,1", "hydra.verbose=true") == ours
    others = [["seed=0,2", "lr=0.1,0.2"], ["seed=0,1", "lr=0.3"], ["seed=0,1", "lr=0.1,0.2", "trunk=large"]]
    assert len({ours, *(name(*words) for words in others)}) == 4
    assert sweep_of("train", ["seed=1"], []) is None


def test_the_last_word_on_each_job(tmp_path: Path) -> None:
    one = Entry(("a=1", "b=1"), "x", job_log.RUNNING)
    done = Entry(("b=1", "a=1"), "x", job_log.FINISHED, 0, 0.5, 1.0)
    for entry in (one, done):
        job_log.append(tmp_path, entry)
    with (tmp_path / "jobs.jsonl").open("a") as file:
        file.write('{"settings": ["a=')  # a process was killed while it wrote
    assert job_log.read(tmp_path) == [one, done]
    assert job_log.latest([one, done]) == [done]
    assert job_log.latest([done], [("a=2",), ("a=1", "b=1")]) == [Entry(("a=2",)), done]
