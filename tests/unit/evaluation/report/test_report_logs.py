"""One metrics.csv for all phases; W&B goes offline by itself."""

from __future__ import annotations

import csv
import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from graftrec.training.loggers import wandb_run
from graftrec.training.loggers.logs import CsvLog, WandbLog, replay
from graftrec.utils.errors import DataError


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_runs_on_over_phases(tmp_path: Path) -> None:
    log = CsvLog(tmp_path)
    log.phase("joint")
    log.log_metrics({"train/loss/total": torch.tensor(1.5), "epoch": 0}, 0)
    log.log_metrics({"val/a/auc": 0.5, "epoch": 0}, 0)  # the same step: the same row
    log.log_metrics({"train/loss/total": 1.0, "epoch": 1}, 9)
    log.phase("twin")
    log.log_metrics({"late": float("nan"), "epoch": 0}, 0)
    log.close(0)
    assert log.path.read_text().splitlines() == [
        "phase,step,epoch,train/loss/total,val/a/auc,late",
        "joint,0,0,1.5,0.5,",
        "joint,9,1,1,,",
        "twin,10,0,,,nan",
    ]
    assert os.listdir(tmp_path) == ["metrics.csv"]


def test_a_damaged_csv_is_named(tmp_path: Path) -> None:
    path, whole = tmp_path / "metrics.csv", b"phase,step,epoch,val/a/auc\njoint,0,0,0.5\njoint,9,1,0.75\n"
    chance = random.Random(0)
    for _ in range(200):
        at = chance.randrange(len(whole))
        path.write_bytes(whole[:at] + chance.randbytes(chance.randrange(4)) + whole[at + chance.randrange(4) :])
        try:
            log = CsvLog(tmp_path)
            log.log_metrics({"val/a/auc": 0.5, "epoch": 2}, 12)
            log.close(0)
        except DataError as error:
            assert f"{path} is damaged" in str(error)  # noqa: PT017
    path.write_bytes(whole.replace(b"0.5", b"\xff"))
    with pytest.raises(DataError, match=r"metrics.csv is damaged .*delete it"):
        CsvLog(tmp_path)


def test_csv_of_a_resumed_run(tmp_path: Path) -> None:
    first = CsvLog(tmp_path)
    states = []
    for phase in ("joint", "twin"):
        first.phase(phase)
        for step in range(3):
            first.log_metrics({"x": 1.0}, step)
            states.append(first.state_dict())
    first.log_metrics({"late": 1.0}, 2)  # the last row grows
    first.close(1)
    again = CsvLog(tmp_path)
    again.load_state_dict(states[2])  # joint had ended
    again.phase("twin")
    again.load_state_dict(states[4])
    again.log_metrics({"x": 2.0}, 2)
    again.close(0)
    found = [(row["phase"], row["step"], row["x"]) for row in _rows(again.path)]
    assert found == [
        ("joint", "0", "1"), ("joint", "1", "1"), ("joint", "2", "1"),
        ("twin", "3", "1"), ("twin", "4", "1"), ("twin", "5", "2"),
    ]  # fmt: skip
    assert "late" not in _rows(again.path)[0]
    anew = CsvLog(tmp_path)  # what is there does not count
    anew.phase("joint")
    anew.log_metrics({"x": 3.0}, 0)
    anew.phase("twin")
    anew.log_metrics({"x": 3.0}, 0)
    anew.close(0)
    assert [(row["phase"], row["step"]) for row in _rows(anew.path)] == [("joint", "0"), ("twin", "1")]


class _Told:
    """What another logger is given: the phase, the step in it, and the values."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, int, dict[str, float]]] = []

    def phase(self, name: str) -> None:
        self.name = name

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        self.rows.append((self.name, step, values))


def test_a_replayed_log_is_what_was_logged_with_its_seed(tmp_path: Path) -> None:
    for seed in (3, 4):
        log = CsvLog(tmp_path / str(seed))
        for phase in ("pretrain", "joint"):
            log.phase(phase)
            log.log_metrics({"loss": seed + 1 / 3, "epoch": 0}, 0)
            log.log_metrics({"loss": float("nan"), "epoch": 0}, 5)
        log.close(0)
    whole, told = CsvLog(tmp_path), _Told()
    for seed in (3, 4):
        replay(tmp_path / str(seed), seed, seed == 3, [whole, told])
    whole.close(0)
    assert whole.path.read_text().splitlines()[:4] == [
        "phase,step,epoch,seed,loss", "pretrain,0,0,3,3.33333333", "pretrain,5,0,3,nan", "joint,6,0,3,3.33333333",
    ]  # fmt: skip
    rows = _rows(whole.path)
    assert [row["step"] for row in rows] == ["0", "5", "6", "11", "12", "17", "18", "23"]
    assert [row["seed"] for row in rows] == 4 * ["3"] + 4 * ["4"]
    assert [row[:2] for row in told.rows] == 2 * [("pretrain", 0), ("pretrain", 5), ("joint", 0), ("joint", 5)]
    assert [list(row[2]) for row in told.rows] == 4 * [["epoch", "loss"]] + 4 * [["seed_4/epoch", "seed_4/loss"]]


def test_a_wandb_table_of_few_seeds_has_no_verdict(unjudged: dict[str, Any]) -> None:
    columns, rows = wandb_run.results(unjudged)
    assert {row[columns.index("verdict")] for row in rows} == {None}
    assert {row[columns.index("low")] for row in rows} >= {0.008, -0.004}  # its numbers are there


@pytest.fixture
def no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")] + ["NETRC"]:
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))


@pytest.mark.usefixtures("no_key")
def test_wandb_without_a_key(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    paths = []
    for job in range(2):
        log = WandbLog(folder=tmp_path / str(job), config={"seed": job}, group="sweep")
        log.phase("joint")
        log.log_metrics({"train/loss/total": 1.0}, 0)
        log.log_metrics({"train/loss/total": 1.0}, 4)
        log.phase("twin")
        log.log_metrics({"train/loss/total": 1.0}, 0)
        assert log.experiment.summary["trainer/global_step"] == 5
        log.close(1)
        paths += list((tmp_path / str(job) / "wandb").glob("offline-run-*/*.wandb"))
    out, err = capfd.readouterr()
    lines = out.splitlines()
    assert len(lines) == 2
    assert "W&B: no key; this run is logged offline. Send it later with: wandb sync " in lines[0]
    assert Path(lines[0].rsplit(" ", 1)[1]) == paths[0].parent
    assert err == ""
    assert len({path.name for path in paths}) == 2
    assert "WANDB_MODE" not in os.environ


@pytest.mark.usefixtures("no_key")
def test_wandb_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:1")
    assert wandb_run.why_offline(None) == "http://127.0.0.1:1 does not answer"
    assert wandb_run.why_offline(True) == "offline=true"
    assert wandb_run.why_offline(False) == ""
