"""The command line: help without torch, problems before anything runs, the worst code of a sweep."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from graftrec.cli import doctor, main
from graftrec.config import instantiate
from graftrec.utils.errors import UserError

FILES = {
    "train.yaml": """
defaults: [{trunk: small}, {experiment: null}, _self_, override hydra/job_logging: stdout]
source: {}
target: {buy: {_target_: graftrec.utils.errors.DataError, code: a, message: b}}
shared: {}
seed: 0
hydra:
  run: {dir: runs/one}
  sweep: {dir: runs/sweep, subdir: '${fingerprint:}'}
  output_subdir: null
""",
    "data.yaml": """
defaults: [{trunk: small}, _self_, override hydra/job_logging: stdout]
hydra: {run: {dir: .}, output_subdir: null}
""",
    "trunk/small.yaml": "units: 1",
    "trunk/large.yaml": "units: 9",
    "experiment/orphan.yaml": "# @package _global_\nsource: {gone: {weight: 2}}",
}


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A scratch conf and a trainer that keeps the trees and fails for seed 13 and seed 7."""
    for name, text in FILES.items():
        (tmp_path / "conf" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "conf" / name).write_text(text)
    monkeypatch.setattr(instantiate, "conf_dir", lambda: tmp_path / "conf")
    monkeypatch.setattr(instantiate, "TASK", ("graftrec.utils.errors.DataError",))  # it has to be some class of ours
    monkeypatch.chdir(tmp_path)
    trees: list[dict[str, Any]] = []

    def train(tree: dict[str, Any], out: Path) -> float:
        trees.append(tree)
        if tree["seed"] == 13:
            raise UserError("unlucky")
        if tree["seed"] == 7:
            raise KeyboardInterrupt
        return 0.5

    for name, function in (("runs.train", train), ("cli.data_check", lambda tree: trees.append(tree) or 3)):
        module = ModuleType(f"graftrec.{name}")
        setattr(module, name.rpartition(".")[2].replace("data_check", "main"), function)
        monkeypatch.setitem(sys.modules, f"graftrec.{name}", module)
    return trees


@pytest.mark.parametrize("argv", [[], ["--help"], ["train", "--help"], ["data", "-h"], ["doctor", "--help"]])
def test_help_is_fast_and_imports_nothing_heavy(argv: list[str]) -> None:
    code = (
        f"import sys; from graftrec.cli.main import main; code = main({argv!r}); "
        "print(code, [name for name in ('torch', 'hydra', 'omegaconf', 'numpy') if name in sys.modules])"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert time.perf_counter() - start < 1
    assert done.stdout.splitlines()[-1] == "0 []"
    assert "graftrec" in done.stdout


def test_help_lists_groups(jobs: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "own" / "trunk"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("units: 3")
    assert main.main(["train", "--help", "--config-dir", str(tmp_path / "own")]) == 0
    assert "large mine small" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("verb", "said"), [("trian", "did you mean 'train'"), ("evaluate", "not there yet"), ("x", "there are: train")]
)
def test_verbs_that_are_not_there(verb: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([verb]) == 2
    assert said in capsys.readouterr().err


def test_two_typos_are_reported_before_anything_runs(jobs: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["train", "sede=1", "trunk=smal"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("The configuration has 2 problem(s):\n  ")
    assert "did you mean 'seed'" in printed
    assert "did you mean 'small'" in printed
    assert jobs == []


def test_a_run(jobs: list[Any], tmp_path: Path) -> None:
    before = sys.argv
    assert main.main(["train", "trunk=large", "trunk.units=4"]) == 0
    assert jobs[0]["trunk"] == {"units": 4}
    assert json.loads((tmp_path / "runs/one/status.json").read_text())["state"] == "finished"
    assert sys.argv is before


def test_a_sweep_names_folders_by_fingerprint_and_returns_the_worst(jobs: list[Any], tmp_path: Path) -> None:
    assert main.main(["train", "seed=0,13,1", "-m", "trunk.units=2"]) == 2
    assert [tree["seed"] for tree in jobs] == [0, 13, 1]
    folders = {path.name for path in (tmp_path / "runs/sweep").iterdir() if path.is_dir()}
    assert folders == {instantiate.fingerprint(tree) for tree in jobs if tree["seed"] != 13}


def test_an_interrupt_ends_the_sweep(jobs: list[Any]) -> None:
    assert main.main(["train", "-m", "seed=7,1"]) == 130
    assert len(jobs) == 1


def test_orphans_are_dropped_with_one_line(jobs: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["train", "experiment=orphan"]) == 0
    assert jobs[0]["source"] == {}
    assert capsys.readouterr().out.count("source.gone") == 1


def test_other_verbs_return_their_own_code(jobs: list[Any]) -> None:
    assert main.main(["data", "trunk=large"]) == 3
    assert jobs == [{"trunk": {"units": 9}}]


def test_hydras_flags_pass(jobs: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["train", "seed=5", "--cfg", "job"]) == 0
    assert "seed: 5" in capsys.readouterr().out
    assert main.main(["train", "--info", "defaults"]) == 0
    assert jobs == []


def test_doctor_knows_bad_versions() -> None:
    good = dict.fromkeys(doctor.PACKAGES, "99.9.9")
    assert doctor.problems(good) == []
    assert len(doctor.problems({**good, "torch": "2.9.1+cpu", "pytorch-lightning": "2.6.3", "wandb": None})) == 3
    floors = {name: floor for name, (floor, _) in doctor.FLOORS.items()}
    assert doctor.problems({**good, **floors, "lightning": None}) == []
    older = {"torch": "2.9.1", "pytorch-lightning": "2.6.5", "hydra-core": "1.3.7", "wandb": "0.28.1"}
    older["pyarrow"] = "23.0.0"
    for name, version in older.items():
        (said,) = doctor.problems({**good, name: version})
        assert said.startswith(f"{name} {version} ")
        assert f"pip install '{name}>=" in said
    (stolen,) = doctor.problems({**good, "lightning": "2.6.2"})
    assert "change your keys" in stolen


def test_the_known_bad_versions_cannot_be_installed() -> None:
    """What doctor says of a machine, pyproject.toml asks of pip, and the tested environment has."""
    text = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    asked = dict(re.findall(r'^  "([\w-]+)>=([\d.]+)', text, re.MULTILINE))
    pins = dict(re.findall(r"^([\w-]+)==([\d.]+)", (Path(__file__).parents[3] / "constraints.txt").read_text(), re.M))
    for name, (floor, _) in doctor.FLOORS.items():
        assert doctor._numbers(asked[name]) >= doctor._numbers(floor), name
        assert doctor._numbers(pins[name]) >= doctor._numbers(floor), name
    assert all(doctor._numbers(asked["pytorch-lightning"]) > doctor._numbers(bad) for bad in doctor.STOLEN)
    assert "lightning" not in pins  # another package of the same authors, the one that was stolen


def test_doctor_never_shows_a_key(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "abc123")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(doctor, "_gpu", lambda: "none")
    doctor.main()
    printed = capsys.readouterr().out
    assert "WANDB_API_KEY" in printed
    assert "abc123" not in printed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["seed=range(0,1000000)"], "this sweep has 1,000,000 jobs (seed 1,000,000), and at most 10,000 are taken"),
        (["seed=shuffle(range(0,1e12))"], "this sweep has 1,000,000,000,000 jobs"),
        (["seed=range(0,5000)", "trunk=small,large", "trunk.units=1,2"], "this sweep has 20,000 jobs"),
        (["seed=range(0,9,0)"], "seed=range(0,9,0): there is no value to sweep over"),
        (["seed=range(9,0)"], "seed=range(9,0): there is no value to sweep over"),
        (["seed=interval(0,1)"], "seed=interval(0,1): a grid takes no interval"),
        (["seed=range(-5,5000)"], "seed: should be a whole number of at least 0, found -5"),
        (["seed=range(0,5000)", "sede=1"], "did you mean 'seed'"),
    ],
)
def test_sweeps_that_nobody_waits_for_are_answered_before_they_are_planned(
    words: list[str], said: str, jobs: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["train", "-m", *words]) == 2
    assert said in capsys.readouterr().err
    assert jobs == []


def test_of_a_sweep_the_first_job_is_shown(jobs: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("-m", "--multirun"):
        assert main.main(["train", flag, "seed=3,1", "trunk.units=5,6", "--cfg", "job"]) == 0
        printed = capsys.readouterr().out
        assert "seed: 3" in printed
        assert "units: 5" in printed
    assert jobs == []


def test_a_sweep_ends_where_its_first_jobs_are_all_refused(jobs: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["train", "-m", "seed=13", "trunk.units=range(1,100)"]) == 2
    assert [tree["trunk"]["units"] for tree in jobs] == [1, 2, 3]
    assert "the first 3 jobs were refused, so the sweep ends here" in capsys.readouterr().err


def test_an_interrupt_before_the_work_is_one_line() -> None:
    code = (
        "import os, signal; from graftrec.cli import main as cli\n"
        "def swallows(words):\n"
        "    try: os.kill(os.getpid(), signal.SIGINT)\n"
        "    except BaseException: pass\n"
        "cli._main = swallows; cli.main(['doctor'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "graftrec: interrupted (exit code 130)\n")
