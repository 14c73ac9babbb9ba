"""Sweeps through the real command line on the generated shop: killed and issued again, launchers, pruning, W&B."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

QUICK = ["transfer.epochs=1", "twin=false", "baselines=false"]
GRID = ["train", "-m", "lambda_shared=0,1", "seed=0,1,2", *QUICK]


def start(*words: str, cwd: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160", "WANDB_MODE": "offline"}
    cwd.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "graftrec", *words],
        cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def graftrec(*words: str, cwd: Path, code: int = 0) -> str:
    """Type a command; it must end with ``code``."""
    running = start(*words, cwd=cwd)
    said, _ = running.communicate(timeout=900)
    assert running.returncode == code, said[-4000:]
    return said


def sweep_in(folder: Path) -> Path:
    (found,) = (folder / "runs" / "sweeps").iterdir()
    return found


def jobs_of(folder: Path) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = json.loads((sweep_in(folder) / "sweep.json").read_text())["jobs"]
    return jobs


def table_of(folder: Path) -> list[tuple[Any, ...]]:
    """All of the table but the seconds, with the metrics of each job."""
    rows = []
    for job in jobs_of(folder):
        metrics = json.loads((sweep_in(folder) / job["folder"] / "metrics.json").read_text())
        rows.append((*(job[key] for key in ("name", "folder", "state", "score")), metrics["val"], metrics["test"]))
    return rows


@pytest.mark.slow
def test_six_jobs_killed_at_the_fourth_and_issued_again(shop_settings: list[str], tmp_path: Path) -> None:
    words = [*GRID, *shop_settings]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    graftrec(*words, cwd=whole)
    killed = start(*words, cwd=parts)
    ledger, patience = None, time.monotonic() + 300
    while ledger is None or len(ledger.read_text().splitlines()) < 7:  # two lines of each job that ended, one of it
        assert time.monotonic() < patience
        assert killed.poll() is None
        time.sleep(0.02)
        ledger = next((parts / "runs").glob("sweeps/*/jobs.jsonl"), None) if (parts / "runs").is_dir() else None
    killed.kill()
    killed.communicate()
    before = {path: path.stat().st_mtime_ns for path in sweep_in(parts).glob("*/metrics.json")}
    assert len(before) == 3
    said = graftrec(*words, cwd=parts)
    assert said.count("finished before, not run again") == 3
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert table_of(parts) == table_of(whole)
    assert len(table_of(parts)) == 6


LAUNCHERS = {"joblib": ["hydra.launcher.n_jobs=2"], "submitit_local": ["hydra.launcher.timeout_min=10"]}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_launchers_run_jobs_in_other_processes(launcher: str, shop_settings: list[str], tmp_path: Path) -> None:
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    words = ["train", "-m", "seed=0,1", "++split.train_until=0.8,7", *QUICK, *shop_settings]
    said = graftrec(*words, f"hydra/launcher={launcher}", *LAUNCHERS[launcher], cwd=tmp_path, code=2)
    assert [job["state"] for job in jobs_of(tmp_path)] == ["finished", "failed", "finished", "failed"]
    assert "failed (2)" in said
    assert "best    " in said
    again = graftrec(*words, cwd=tmp_path, code=2)  # here, where those that finished are found
    assert again.count("finished before, not run again") == 2


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_six_trials_with_a_pruner_and_one_more(launcher: str, shop_settings: list[str], tmp_path: Path) -> None:
    if launcher == "joblib":
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    optuna = pytest.importorskip("optuna")
    words = [
        "train", "-m", "hydra/sweeper=optuna", f"hydra/launcher={launcher}", "hydra.sweeper.sampler=RandomSampler",
        "hydra.sweeper.pruner=PercentilePruner", "hydra.sweeper.pruner_options.percentile=1.0",
        "hydra.sweeper.pruner_options.n_startup_trials=1", "optimizer.lr=tag(log,interval(1e-6,1e-1))",
        "trunk=shared_bottom,mmoe", *QUICK, "transfer.epochs=2", *shop_settings,
    ]  # fmt: skip
    graftrec(*words, "hydra.sweeper.n_trials=6", cwd=tmp_path)
    said = graftrec(*words, "hydra.sweeper.n_trials=7", cwd=tmp_path)
    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{sweep_in(tmp_path)}/study.db")
    jobs = jobs_of(tmp_path)
    states = [{"COMPLETE": "finished", "PRUNED": "pruned"}[trial.state.name] for trial in study.trials]
    assert states == [job["state"] for job in jobs]
    assert len(states) == 7
    assert states.count("pruned") >= 1
    for trial, job in zip(study.trials, jobs, strict=True):
        assert f"++optimizer.lr={trial.params['optimizer.lr']}" in job["settings"]
        assert f"trunk={trial.params['trunk']}" in job["settings"]
        assert len(trial.intermediate_values) == (
            2 if job["state"] == "finished" else max(trial.intermediate_values) + 1
        )
        status = json.loads((sweep_in(tmp_path) / job["folder"] / "status.json").read_text())
        assert (status["state"], status["exit_code"], status["score"]) == (job["state"], 0, job["score"])
    assert "pruned" in said


# --- Weights & Biases


def records(path: Path) -> list[Any]:
    """The records of a .wandb file: a LevelDB log of blocks of 32 KiB after a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole, found = path.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # full, or the last part
            found.append(Record.FromString(whole))
            whole = b""
    return found


@pytest.mark.slow
def test_each_job_is_a_wandb_run_of_its_own(shop_settings: list[str], tmp_path: Path) -> None:
    words = ["train", "-m", "++trainer.gradient_clip_algorithm=norm,nope,value", "logger=wandb", *QUICK, *shop_settings]
    graftrec(*words, "++trainer.log_every_n_steps=1", cwd=tmp_path, code=1)
    jobs = jobs_of(tmp_path)
    assert [job["state"] for job in jobs] == ["finished", "failed", "finished"]
    for job in jobs:
        (path,) = (sweep_in(tmp_path) / job["folder"]).glob("wandb/offline-run-*/*.wandb")
        found = records(path)
        (exit_code,) = [each.exit.exit_code for each in found if each.WhichOneof("record_type") == "exit"]
        assert exit_code == job["exit_code"]
        (group,) = {each.run.run_group for each in found if each.WhichOneof("record_type") == "run"}
        assert group == sweep_in(tmp_path).name
        history = [
            {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in each.history.item}
            for each in found if each.WhichOneof("record_type") == "history"
        ]  # fmt: skip
        scores = [row["val/score"] for row in history if "val/score" in row]
        assert bool(scores) == (job["state"] == "finished")
        assert all(score == pytest.approx(job["score"]) for score in scores)


def test_a_wandb_agents_command_line_is_one_of_ours() -> None:
    """scripts/wandb_sweep.yaml: with ``${args_no_hyphens}`` an agent types ``key=value`` words."""
    import yaml

    from graftrec.overrides import problems_of_command

    recipe = yaml.safe_load((Path(__file__).parents[2] / "scripts" / "wandb_sweep.yaml").read_text())
    assert recipe["metric"] == {"name": "val/score", "goal": "maximize"}
    args = [f"{key}={about.get('value', about.get('values', [about.get('min')])[0])}"
            for key, about in recipe["parameters"].items()]  # fmt: skip
    words = [word for part in recipe["command"] for word in (args if part == "${args_no_hyphens}" else [part])]
    assert words[:3] == ["${env}", "graftrec", "train"]
    assert problems_of_command("train", words[3:], []) == []
