"""Sweeps through the real command line on the generated shop: killed and issued again, launchers, pruning, W&B."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from command import graftrec, in_a_process
from wandb_records import of_kind, records, rows

QUICK = ["transfer.epochs=1", "twin=false", "baselines=false", "++trainer.limit_train_batches=3", "++encoder.width=8"]
GRID = ["train", "-m", "lambda_shared=0,1", "seed=0,1,2", *QUICK]


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


def assert_each_job_has_its_own_folder(folder: Path) -> None:
    runs = [sweep_in(folder) / job["folder"] for job in jobs_of(folder)]
    trees = [yaml.safe_load((run / "config.yaml").read_text()) for run in runs]
    assert len({(tree["lambda_shared"], tree["seed"]) for tree in trees}) == 6
    assert len({json.dumps(json.loads((run / "metrics.json").read_text())["val"], sort_keys=True) for run in runs}) == 6
    assert all(json.loads((run / "status.json").read_text())["exit_code"] == 0 for run in runs)


@pytest.mark.slow
def test_six_jobs_killed_at_the_fourth_and_issued_again(shop_settings: list[str], tmp_path: Path) -> None:
    words = [*GRID, *shop_settings]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    graftrec(*words, cwd=whole)
    assert_each_job_has_its_own_folder(whole)
    in_a_process(*words, cwd=parts, code=-9, GRAFTREC_FAULT="train:11:sigkill")  # in the second of its three batches
    before = {path: path.stat().st_mtime_ns for path in sweep_in(parts).glob("*/metrics.json")}
    assert len(before) == 3
    said = graftrec(*words, cwd=parts).stdout
    assert said.count("finished before, not run again") == 3
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert table_of(parts) == table_of(whole)
    assert len(table_of(parts)) == 6


LAUNCHERS = {"joblib": ["hydra.launcher.n_jobs=2"], "submitit_local": ["hydra.launcher.timeout_min=10"]}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_launchers_run_jobs_in_other_processes(launcher: str, shop_settings: list[str], tmp_path: Path) -> None:
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    words = ["train", "-m", "seed=0,1", "++trunk.heads=2,3", *QUICK, *shop_settings]
    said = in_a_process(*words, f"hydra/launcher={launcher}", *LAUNCHERS[launcher], cwd=tmp_path, code=2)
    assert [job["state"] for job in jobs_of(tmp_path)] == ["finished", "failed", "finished", "failed"]
    assert "failed (2)" in said
    assert "best    " in said
    again = graftrec(*words, cwd=tmp_path, code=2).stdout  # here, where those that finished are found
    assert again.count("finished before, not run again") == 2


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "trials"), [("basic", 6), ("joblib", 3)])
def test_trials_with_a_pruner_and_one_more(
    launcher: str, trials: int, shop_settings: list[str], tmp_path: Path
) -> None:
    if launcher == "joblib":
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    optuna = pytest.importorskip("optuna")
    words = [
        "train", "-m", "hydra/sweeper=optuna", f"hydra/launcher={launcher}", "hydra.sweeper.sampler=RandomSampler",
        "hydra.sweeper.pruner=PercentilePruner", "hydra.sweeper.pruner_options.percentile=1.0",
        "hydra.sweeper.pruner_options.n_startup_trials=1", "optimizer.lr=tag(log,interval(1e-6,1e-1))",
        "trunk=shared_bottom,mmoe", *QUICK, "transfer.epochs=2", *shop_settings,
    ]  # fmt: skip
    run = in_a_process if launcher == "joblib" else graftrec  # its workers stay, and with them the folder they are in
    run(*words, f"hydra.sweeper.n_trials={trials}", cwd=tmp_path)
    run(*words, f"hydra.sweeper.n_trials={trials + 1}", cwd=tmp_path)
    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{sweep_in(tmp_path)}/study.db")
    jobs = jobs_of(tmp_path)
    states = [{"COMPLETE": "finished", "PRUNED": "pruned"}[trial.state.name] for trial in study.trials]
    assert states == [job["state"] for job in jobs]
    assert len(states) == trials + 1
    assert states.count("pruned") >= 1
    for trial, job in zip(study.trials, jobs, strict=True):
        assert f"++optimizer.lr={trial.params['optimizer.lr']}" in job["settings"]
        assert f"trunk={trial.params['trunk']}" in job["settings"]
        assert len(trial.intermediate_values) == (
            2 if job["state"] == "finished" else max(trial.intermediate_values) + 1
        )
        status = json.loads((sweep_in(tmp_path) / job["folder"] / "status.json").read_text())
        assert (status["state"], status["exit_code"], status["score"]) == (job["state"], 0, job["score"])


# --- Weights & Biases


@pytest.mark.slow
def test_each_job_is_a_wandb_run_of_its_own(shop_settings: list[str], tmp_path: Path) -> None:
    words = ["train", "-m", "++trainer.val_check_interval=1,100,2", "logger=wandb", *QUICK, *shop_settings]
    graftrec(*words, "++trainer.log_every_n_steps=1", cwd=tmp_path, code=1)
    jobs = jobs_of(tmp_path)
    assert [job["state"] for job in jobs] == ["finished", "failed", "finished"]
    for job in jobs:
        (path,) = (sweep_in(tmp_path) / job["folder"]).glob("wandb/offline-run-*/*.wandb")
        found = records(path)
        (ended,) = of_kind(found, "exit")
        assert ended.exit_code == job["exit_code"]
        assert {run.run_group for run in of_kind(found, "run")} == {sweep_in(tmp_path).name}
        scores = [row["val/score"] for row in rows(found) if "val/score" in row]
        assert bool(scores) == (job["state"] == "finished")
        assert not scores or max(scores) == pytest.approx(job["score"])


def test_a_wandb_agents_command_line_is_one_of_ours() -> None:
    """scripts/wandb_sweep.yaml: with ``${args_no_hyphens}`` an agent types ``key=value`` words."""
    from graftrec.runs.overrides import problems_of_command

    recipe = yaml.safe_load((Path(__file__).parents[2] / "scripts" / "wandb_sweep.yaml").read_text())
    assert recipe["metric"] == {"name": "val/score", "goal": "maximize"}
    args = [f"{key}={about.get('value', about.get('values', [about.get('min')])[0])}"
            for key, about in recipe["parameters"].items()]  # fmt: skip
    words = [word for part in recipe["command"] for word in (args if part == "${args_no_hyphens}" else [part])]
    assert words[:3] == ["${env}", "graftrec", "train"]
    assert problems_of_command("train", words[3:], []) == []
