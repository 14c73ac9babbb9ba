"""A run, a comparison of two runs and an audit say the same of the same values, to the last digit."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import yaml

from graftrec.evaluation.statistics import user_values
from graftrec.evaluation.statistics.user_values import USER
from graftrec.runs.audit.arms import TWIN, ArmJob, ArmSpec, write_status
from graftrec.runs.audit.transfer_matrix import matrix
from graftrec.runs.compare import compare
from graftrec.runs.run_summary import summary, write_units
from graftrec.tasks.metrics.pointwise import Value
from graftrec.training.fit import Arm

TREE = {"seed": 4, "seeds": 3, "target": {"buy": {"stream": "dairy/rows", "column": "y"}}}
SEEDS = range(4, 7)
SAME = ("delta", "low", "high", "p", "error", "seeds", "minimum_detectable")


class Numbered:
    """A protocol whose users have other numbers than their ids, shifted by what else is read."""

    def __init__(self, shift: int) -> None:
        self.shift = shift

    def raw_users(self, stream: str) -> tuple[Any, pl.Series]:
        assert stream == "dairy/rows"
        ids = np.arange(1, 60)
        return ids + self.shift, pl.Series([f"id {number}" for number in ids])


def values(metric: str, kind: str) -> tuple[dict[int, Arm], dict[int, Arm]]:
    """Grafted and twin, seed by seed: values of rows with users, some missing, or of a user each."""
    random = np.random.default_rng(len(metric))
    size = 50 if kind == "users" else 400
    owners = np.arange(1, 51) if kind == "users" else random.integers(0, 30, size) * (kind == "rows")
    missing = random.random(size) < 0.1
    arms: list[dict[int, Arm]] = []
    for gain in (0.03, 0.0):
        own = {}
        for seed in SEEDS:
            of_rows = np.where(missing, np.nan, np.clip(random.normal(0.5 + gain, 0.2, size) ** 3, 0, 1))
            of_rows = np.where(random.random(size) < 0.02, np.nan, of_rows)
            per = {metric: torch.from_numpy(of_rows), USER: torch.from_numpy(owners.astype(np.int64))}
            own[seed] = Arm(units={"buy": per}, test={"buy": {metric: Value(float(np.nanmean(of_rows)))}})
        arms.append(own)
    return arms[0], arms[1]


def of_a_run(metric: str, grafted: dict[int, Arm], twin: dict[int, Arm]) -> dict[str, Any]:
    found = summary(TREE, {"buy": SimpleNamespace(main=metric)}, grafted, twin, {})  # type: ignore[dict-item]
    return dict(found["differences"]["buy"][metric])


def of_two_runs(metric: str, grafted: dict[int, Arm], twin: dict[int, Arm], folder: Path) -> dict[str, Any]:
    for name, arm, shift in (("twin", twin, 0), ("grafted", grafted, 1000)):
        own = folder / name
        own.mkdir()
        (own / "config.yaml").write_text(yaml.safe_dump(TREE | {"note": name}))
        (own / "metrics.json").write_text(json.dumps({"main": {"task": "buy", "metric": metric}}))
        (own / "data_card.json").write_text(json.dumps({"domains": {}}))
        shifted: dict[int, Arm] = {}
        for seed, each in arm.items():
            per = dict(each.units["buy"])
            per[USER] = torch.where(per[USER] > 0, per[USER] + shift, 0)
            shifted[seed] = Arm(units={"buy": per})
        write_units(own / "users.parquet", Numbered(shift), TREE, {"grafted": shifted}, {})  # type: ignore[arg-type]
    (found,) = compare([folder / "twin", folder / "grafted"])["tests"]
    return dict(found)


def of_an_audit(metric: str, grafted: dict[int, Arm], twin: dict[int, Arm], folder: Path) -> dict[str, Any]:
    jobs = []
    for name, sources, arm in ((TWIN, (), twin), ("meat", ("meat",), grafted)):
        for seed, each in arm.items():
            job = ArmJob(ArmSpec(name, "buy", sources), seed, {}, folder / f"{name}{seed}")
            job.folder.mkdir()
            user_values.write(user_values.frame_of(each.units), job.folder / "units.parquet")
            write_status(job.folder, {"state": "tested", "val": 0.5, "seconds": 1.0})
            jobs.append(job)
    (found,) = matrix(jobs, {"buy": metric})["cells"]
    return dict(found)


@pytest.mark.parametrize("kind", ["users", "rows", "nobody known"])
@pytest.mark.parametrize("metric", ["ndcg@10", "rmse"])
def test_train_compare_and_audit_agree_to_the_last_digit(metric: str, kind: str, tmp_path: Path) -> None:
    grafted, twin = values(metric, kind)
    run = of_a_run(metric, grafted, twin)
    pair, cell = of_two_runs(metric, grafted, twin, tmp_path), of_an_audit(metric, grafted, twin, tmp_path)
    assert run["low"] < run["delta"] < run["high"]
    assert (run["seeds"], 0 < run["p"] < 1) == (3, True)
    for found in (pair, cell):
        assert [found[name] for name in SAME] == [run[name] for name in SAME]
    assert run["n"] == pair["n"] == cell["n_users"] <= {"users": 50, "rows": 400, "nobody known": 400}[kind]
    words = {"helps": "better", "hurts": "worse", "no evidence": "not significant"}
    assert words[run["verdict"]] == pair["verdict"] == words[cell["verdict"]]
    assert run["p_holm"] == pair["p_holm"] == cell["p_holm"] == run["p"]  # the only one of its family


def test_the_reason_of_what_has_no_interval_is_told_by_all(tmp_path: Path) -> None:
    one = {seed: Arm(units={"buy": {"auc": torch.tensor([0.5, torch.nan]), USER: torch.tensor([1, 2])}},
                     test={"buy": {"auc": Value(0.5)}}) for seed in SEEDS}  # fmt: skip
    found = [of_a_run("auc", one, one), of_two_runs("auc", one, one, tmp_path), of_an_audit("auc", one, one, tmp_path)]
    for each in found:
        assert each["reason"] == "1 user, of whom there is no interval"
        assert (each["delta"], each["low"], each["high"]) == (0.0, None, None)
    nobody = {seed: Arm(units={"buy": {"auc": torch.tensor([torch.nan] * 2)}}, test=one[seed].test) for seed in SEEDS}
    report = summary(TREE, {"buy": SimpleNamespace(main="auc")}, nobody, one | nobody, {})  # type: ignore[dict-item]
    assert report["reasons"]["differences/buy/auc"] == "nobody has a value in both"
    assert report["differences"]["buy"]["auc"]["delta"] is None
