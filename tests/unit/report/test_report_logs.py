"""One metrics.csv for all phases; W&B goes offline by itself."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
import torch

from graftrec.report.logs import CsvLog, WandbLog


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
    from graftrec.report import wandb_run

    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:1")
    assert wandb_run.why_offline(None) == "http://127.0.0.1:1 does not answer"
    assert wandb_run.why_offline(True) == "offline=true"
    assert wandb_run.why_offline(False) == ""
