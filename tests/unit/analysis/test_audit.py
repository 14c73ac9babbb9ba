"""The audit on a tiny planted dataset: arms, resume, the lock on the test, audit.json."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from graftrec.analysis import arms, audit
from graftrec.analysis.cells import decide, of_twin
from graftrec.analysis.draws import Measured
from graftrec.analysis.pool import Workers
from graftrec.analysis.statistics import paired_difference
from graftrec.errors import UserError

Compose = Callable[[list[str]], dict[str, Any]]
TINY = [f"++dataset.{key}={value}" for key, value in {
    "users": 30, "items": 20, "rows": 200, "source_rows": 200, "val": 100, "test": 150
}.items()]  # fmt: skip


@pytest.fixture
def tree(compose: Compose) -> dict[str, Any]:
    found = compose(["experiment=planted", *TINY, "transfer.epochs=1", "protocol.batch_size=64"])
    found["source"].pop("planted_noise")
    return found | {"audit": {"seeds": 2, "draws": 1000, "workers": 1, "twins": ["same", "wide"]}}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was trained and tested, in order."""
    calls: list[str] = []
    for name in ("train_arm", "test_arm"):
        real = getattr(audit, name)

        def noted(protocol: Any, job: Any, real: Any = real, name: str = name) -> Any:
            found = real(protocol, job)
            calls.append(f"{name} {job.words}")
            return found

        monkeypatch.setattr(audit, name, noted)
    return calls


def test_an_audit_writes_what_it_promises(tree: dict[str, Any], tmp_path: Path, counted: list[str]) -> None:
    score = audit.audit(tree, tmp_path)
    names = [call.split()[0] for call in counted]
    assert names == ["train_arm"] * 10 + ["test_arm"] * 10  # the test is locked until the last weights are chosen
    found = json.loads((tmp_path / "audit.json").read_text())
    cells = [cell for cell in found["cells"] if cell["metric"] == "auc"]
    assert [cell["sources"] for cell in cells] == [["planted_help"], ["planted_hurt"], ["planted_help", "planted_hurt"]]
    for cell in cells:
        assert {"sources", "target", "metric", "cohort", "delta", "low", "high", "p", "p_holm", "n_users", "seeds",
                "minimum_detectable", "verdict", "seconds"} <= set(cell)  # fmt: skip
        assert cell["low"] <= cell["delta"] <= cell["high"]
        assert (cell["seeds"], cell["cohort"]) == (2, None)
        assert 25 < cell["n_users"] <= 30  # rows of a user count together
        assert cell["p"] <= cell["p_holm"]
        assert cell["seconds"] > 0
    mean, low, high = found["twins"]["planted_target"]["auc"]
    assert low < mean < high
    own = [row["test"]["auc"] for row in found["arms"] if row["arm"] == "twin"]
    assert mean == pytest.approx(np.mean(own), abs=1e-5)
    help_ = [row["test"]["auc"] for row in found["arms"] if row["arm"] == "planted_help"]
    assert cells[0]["delta"] == pytest.approx(np.mean(help_) - np.mean(own), abs=1e-5)
    assert score == pytest.approx(max(cell["delta"] for cell in cells))
    users = pl.read_parquet(tmp_path / "users.parquet")
    assert users.columns == ["arm", "task", "seed", "metric", "user", "value"]
    assert users["seed"].n_unique() == 2
    assert (tmp_path / "transfer_matrix.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "report.html").read_text()
    assert "planted_help" in page
    assert "data:image/png" in page
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_stopped_audit_goes_on_and_trains_nothing_twice(
    tree: dict[str, Any], tmp_path: Path, counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = audit.train_arm

    def stops(protocol: Any, job: Any) -> Any:
        if len(counted) == 3:
            job.folder.mkdir(parents=True)
            (job.folder / "metrics.csv").write_text("half")  # what a killed training leaves
            raise KeyboardInterrupt
        return noted(protocol, job)

    monkeypatch.setattr(audit, "train_arm", stops)
    with pytest.raises(KeyboardInterrupt):
        audit.audit(tree, tmp_path)
    monkeypatch.setattr(audit, "train_arm", noted)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("status.json")}
    assert len(before) == 3
    audit.audit(tree, tmp_path)
    trained = [call for call in counted if call.startswith("train_arm")]
    assert len(trained) == len(set(trained)) == 10
    first = json.loads((tmp_path / "audit.json").read_text())
    audit.audit(tree, tmp_path)
    assert len([call for call in counted if call.startswith("train_arm")]) == 10
    assert json.loads((tmp_path / "audit.json").read_text())["cells"] == first["cells"]
    tree["audit"]["seeds"] = 3  # only the new seed
    audit.audit(tree, tmp_path)
    assert len([call for call in counted if call.startswith("train_arm")]) == 15


def test_an_arm_evaluates_its_target_and_no_source(
    tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graftrec.train import prepare

    protocol, _ = prepare(tree)
    asked = []
    for name, stream in protocol.streams.items():
        real = stream.evaluation
        monkeypatch.setattr(
            stream, "evaluation", lambda *given, real=real, name=name: asked.append((name, given[0])) or real(*given)
        )
    jobs = arms.jobs_of(tree, arms.arms_of(tree, protocol, [])[1:2], [0], "", tmp_path)
    arms.train_arm(protocol, jobs[0])
    arms.test_arm(protocol, jobs[0])
    target = tree["target"]["planted_target"]["stream"]
    assert set(asked) == {(target, "val"), (target, "test")}


def test_arms_are_the_twin_each_source_all_and_a_twin_of_as_many_parameters(
    tree: dict[str, Any], tmp_path: Path
) -> None:
    from graftrec.train import prepare

    protocol, _ = prepare(tree)
    made = arms.arms_of(tree, protocol)
    assert [arm.name for arm in made][:4] == ["twin", "planted_help", "planted_hurt", "all"]
    large = arms.widened(tree, protocol, made[0], 3 * made[0].parameters)
    assert large.parameters == arms.count_parameters(arms.tree_of(tree, large), protocol)
    assert abs(large.parameters / made[0].parameters - 3) < 0.5
    assert arms.widened(tree, protocol, made[0], made[0].parameters).width == 0
    jobs = arms.jobs_of(tree, made, [0, 1], "data", tmp_path)
    assert len({job.folder for job in jobs}) == len(jobs)
    assert {job.folder for job in arms.jobs_of({**tree, "audit": {}}, made, [0], "data", tmp_path)} < {
        job.folder for job in jobs
    }
    assert not {job.folder for job in arms.jobs_of(tree, made, [0, 1], "other", tmp_path)} & {j.folder for j in jobs}
    twin, single = (arms.plan_of(arms.tree_of(tree, arm)) for arm in made[:2])
    assert sum(phase.epochs for phase in twin) >= sum(phase.epochs for phase in single if "target" in phase.roles)
    tree["source"] = {}
    with pytest.raises(UserError, match="no source"):
        arms.arms_of(tree, protocol)


def test_an_arm_does_not_depend_on_the_process_that_trains_it(tree: dict[str, Any], tmp_path: Path) -> None:
    from graftrec.train import prepare

    protocol, _ = prepare(tree)
    made = arms.arms_of(tree, protocol, [])
    here, there = (arms.jobs_of(tree, made[:2], [0], "", tmp_path / name) for name in ("here", "there"))
    scores = [arms.train_arm(protocol, job)["val"] for job in here]
    with Workers(2, audit.prepared, tree) as workers:
        found = {job.arm.name: status["val"] for job, status in workers.run(arms.train_arm, there)}
    assert [found[job.arm.name] for job in there] == pytest.approx(scores, abs=1e-6)


def test_a_failure_in_a_process_comes_back_as_it_was() -> None:
    with Workers(1, complains, None) as workers, pytest.raises(UserError, match="not like this"):
        list(workers.run(complains, [1]))
    with Workers(1, str, 0) as workers, pytest.raises(RuntimeError, match="ended with the exit code"):
        list(workers.run(dies, [1]))


def complains(*_: Any) -> None:
    raise UserError("not like this")


def dies(*_: Any) -> None:
    import os

    os._exit(9)


def test_families_are_the_cells_of_a_metric_and_their_cohorts() -> None:
    def cell(metric: str, cohort: str | None, p: float) -> dict[str, Any]:
        return {"metric": metric, "cohort": cohort, "p": p, "delta": 0.1}

    cells = [cell("auc", None, 0.02), cell("auc", None, 0.03), cell("auc", "cold_user", 0.02), cell("hr", None, 0.02)]
    cells += [cell("auc", "overlap", 0.5), cell("auc", "cold_item", 0.9)]
    decide(cells)
    assert [each["p_holm"] for each in cells] == pytest.approx([0.04, 0.04, 0.06, 0.02, 1.0, 1.0])
    assert [each["verdict"] for each in cells] == [
        "helps",
        "helps",
        "no evidence",
        "helps",
        "no evidence",
        "no evidence",
    ]


def test_settings_are_checked_all_at_once() -> None:
    with pytest.raises(UserError) as found:
        audit.settings({"audit": {"seeds": 0, "draws": 10, "workrs": 2, "twins": ["other"]}})
    assert len(found.value.problems) == 4
    assert any("did you mean 'workers'" in problem for problem in found.value.problems)


def test_both_ways_every_domain_is_a_target_of_the_others_and_none_of_itself(
    tree: dict[str, Any], tmp_path: Path
) -> None:
    from graftrec.train import prepare

    tree["audit"] |= {"seeds": 1, "twins": ["same", "wide"], "both_ways": True}
    tree["source"].pop("planted_hurt")
    both = audit.both_ways(tree)
    made = arms.arms_of(both, prepare(both)[0])
    for target, source in (("planted_target", "planted_help"), ("planted_help", "planted_target")):
        own = [arm for arm in made if arm.target == target]
        assert [(arm.name, arm.sources) for arm in own[:2]] == [("twin", ()), (source, (source,))]
        trained = arms.tree_of(both, own[1], 0)
        assert (list(trained["source"]), list(trained["target"])) == ([source], [target])
        assert own[1].name == source
    audit.audit(tree, tmp_path)
    found = json.loads((tmp_path / "audit.json").read_text())
    assert list(found["main"]) == ["planted_target", "planted_help"]
    assert {(cell["target"], *cell["sources"]) for cell in found["cells"]} == {
        ("planted_target", "planted_help"),
        ("planted_help", "planted_target"),
    }
    wide = [name for name, values in found["wide_twins"].items() if values]
    for cell in found["cells"]:  # the only source is all of them
        assert ("over_wide_twin" in cell) == (cell["target"] in wide)


def test_an_interval_of_few_users_stays_in_the_range_of_its_metric() -> None:
    few = Measured(0.9, 0.3, 1.5, 0.01, 4, 2, 0.5)
    assert of_twin(few, "auc/cold_user") == [0.9, 0.3, 1.0]
    assert of_twin(Measured(0.1, -0.5, 0.7, 0.5, 4, 2, 0.5), "ndcg@10") == [0.1, 0.0, 0.7]
    assert of_twin(Measured(0.1, -0.5, 9.7, 0.5, 4, 2, 0.5), "rmse") == [0.1, 0.0, 9.7]
    assert of_twin(Measured(0.1, -math.inf, math.inf, 1.0, 1, 2, 0.5), "auc") == [0.1, None, None]


def test_a_smaller_error_helps() -> None:
    cells = [{"metric": "rmse", "cohort": None, "p": 0.001, "delta": delta} for delta in (-0.2, 0.2)]
    decide(cells)
    assert [cell["verdict"] for cell in cells] == ["helps", "hurts"]
    assert paired_difference([1.0, 1.1, 1.2], [2.0, 2.2, 2.1], up=-1).verdict == "helps"


def test_a_twin_below_a_neighbourhood_model_is_weak() -> None:
    from graftrec.analysis.scored import Scored
    from graftrec.metrics.pointwise import Value

    class Task:
        main = "ndcg@10"

    cells = [
        {"target": "buy", "metric": "ndcg@10", "cohort": None, "delta": 0.05, "sources": ["a"]},
        {"target": "buy", "metric": "ndcg@10", "cohort": None, "delta": 0.02, "sources": ["b"]},
    ]
    found = {"twins": {"buy": {"ndcg@10": [0.3, 0.2, 0.4]}}, "cells": cells}
    scored = {"popularity": 0.9, "item_knn": 0.31, "ease": None, "ease_union": 0.36}
    said = audit.standing(
        found,
        {"buy": Task()},
        {"buy": {name: Scored({"ndcg@10": Value(value)}) for name, value in scored.items()}},  # type: ignore[dict-item]
    )
    assert said["weak_twins"]["buy"]["baseline"] == "ease_union"
    assert said["best"]["buy"] == {
        "metric": "ndcg@10", "sources": ["a"], "value": pytest.approx(0.35), "baseline": "ease_union",
        "baseline_value": 0.36,
    }  # fmt: skip
