"""The audit on a tiny planted dataset: arms, resume, the lock on the test, audit.json."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from graftrec.evaluation.baselines.scoring import Scored
from graftrec.evaluation.report import formatting
from graftrec.evaluation.statistics import user_values
from graftrec.evaluation.statistics.intervals import holm
from graftrec.evaluation.statistics.user_values import USER
from graftrec.runs.audit import arms, audit
from graftrec.runs.audit.matrix_table import best_sentence, lines
from graftrec.runs.audit.transfer_matrix import matrix
from graftrec.runs.side_by_side import prepared
from graftrec.runs.worker_pool import Workers
from graftrec.tasks.metrics.pointwise import Value
from graftrec.training.builder import prepare
from graftrec.utils.errors import UserError

Compose = Callable[[list[str]], dict[str, Any]]
TINY = [f"++dataset.{key}={value}" for key, value in {
    "users": 30, "items": 20, "rows": 200, "source_rows": 200, "val": 100, "test": 150
}.items()]  # fmt: skip

FIXED = ("twin", "planted_help", "planted_hurt", "all")


@pytest.fixture
def tree(compose: Compose) -> dict[str, Any]:
    found = compose(["experiment=planted", *TINY, "transfer.epochs=1", "protocol.batch_size=64"])
    found["source"].pop("planted_noise")
    return found | {"audit": {"seeds": 2, "workers": 1, "twins": ["same", "wide"]}}


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
        assert cell["verdict"] is None  # of two seeds
        assert cell["seconds"] > 0
    assert [cell["p_holm"] for cell in cells] == holm([cell["p"] for cell in cells])
    assert found["family"] == {"size": 3, "declared": []}
    assert all(cell["p_holm"] is None for cell in found["cells"] if cell["metric"] != "auc" or cell["cohort"])
    mean, low, high = found["twins"]["planted_target"]["auc"]
    assert low < mean < high
    own = [row["test"]["auc"] for row in found["arms"] if row["arm"] == "twin"]
    assert mean == pytest.approx(np.mean(own), abs=1e-5)
    help_ = [row["test"]["auc"] for row in found["arms"] if row["arm"] == "planted_help"]
    assert cells[0]["delta"] == pytest.approx(np.mean(help_) - np.mean(own), abs=1e-5)
    val = {name: np.mean([row["val"] for row in found["arms"] if row["arm"] == name]) for name in FIXED}
    best = found["best"]["planted_target"]
    assert best["arm"] == max(FIXED[1:], key=lambda name: val[name])
    assert score == best["validation_gain"] == pytest.approx(val[best["arm"]] - val["twin"])
    users = pl.read_parquet(tmp_path / "users.parquet")
    assert users.columns == ["arm", "seed", "task", "metric", "user", "id", "value"]
    assert users["seed"].n_unique() == 2
    assert users["user"].n_unique() == users["id"].n_unique() <= 30
    assert users.null_count().row(0) == (0,) * 7
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
    cells = json.loads((tmp_path / "audit.json").read_text())["cells"]
    assert {cell["seeds"] for cell in cells} == {3}
    judged = [cell["verdict"] in ("helps", "hurts", "no evidence") for cell in cells]
    assert judged == [cell["metric"] == "auc" and cell["cohort"] is None for cell in cells]


def test_the_best_arm_and_the_score_are_chosen_by_validation_whatever_the_test_says(
    tree: dict[str, Any], tmp_path: Path
) -> None:
    tree["audit"] |= {"seeds": 1, "twins": ["same"]}
    audit.audit(tree, tmp_path)
    for row in json.loads((tmp_path / "audit.json").read_text())["arms"]:
        said = {"twin": 0.5, "planted_help": 0.4, "planted_hurt": 0.7, "all": 0.6}[row["arm"]]
        folder = tmp_path / "arms" / row["folder"]
        arms.write_status(folder, arms.status(folder) | {"val": said})
    score = audit.audit(tree, tmp_path)
    found = json.loads((tmp_path / "audit.json").read_text())
    best = found["best"]["planted_target"]
    assert (best["arm"], best["sources"], best["metric"]) == ("planted_hurt", ["planted_hurt"], "auc")
    assert score == best["validation_gain"] == pytest.approx(0.2)
    (own,) = (row["test"]["auc"] for row in found["arms"] if row["arm"] == "planted_hurt")
    assert best["value"] == pytest.approx(own, abs=1e-5)


def test_an_arm_evaluates_its_target_and_no_source(
    tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    protocol, _ = prepare(tree)
    made = arms.arms_of(tree, protocol, [])
    here, there = (arms.jobs_of(tree, made[:2], [0], "", tmp_path / name) for name in ("here", "there"))
    scores = [arms.train_arm(protocol, job)["val"] for job in here]
    with Workers(2, prepared, tree) as workers:
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


def test_settings_are_checked_all_at_once() -> None:
    with pytest.raises(UserError) as found:
        audit.settings({"audit": {"seeds": 0, "draws": 10_000, "workrs": 2, "twins": ["other"]}})
    assert len(found.value.problems) == 4
    assert any("did you mean 'workers'" in problem for problem in found.value.problems)
    assert any("audit.draws: there is no such key" in problem for problem in found.value.problems)


def test_both_ways_every_domain_is_a_target_of_the_others_and_none_of_itself(
    tree: dict[str, Any], tmp_path: Path
) -> None:
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


def done(
    folder: Path, above: Mapping[str, float], val: Mapping[str, float], seeds: int = 3, target: str = "buy", n: int = 50
) -> list[arms.ArmJob]:
    """Trained and tested arms whose values per user are so much above those of a base, and their validation scores."""
    base, jobs = np.random.default_rng(0).uniform(0.2, 0.5, n), []
    for at, (name, gain) in enumerate(above.items()):
        sources = {"twin": (), "wide twin": (), "all": ("a", "b")}.get(name, (name,))
        for seed in range(seeds):
            noise = np.random.default_rng([at, seed]).normal(0, 0.01, (3, n))
            cold = np.where(np.arange(n) < 9, base + gain + noise[1], np.nan)
            own = {"ndcg@10": base + gain + noise[0], "ndcg@10/first_time": cold, "hr@10": base + noise[2]}
            job = arms.ArmJob(arms.ArmSpec(name, target, sources), seed, {}, folder / f"{target}_{name}_{seed}")
            job.folder.mkdir()
            user_values.write(
                user_values.frame_of({target: {**own, USER: np.arange(1, n + 1)}}), job.folder / "units.parquet"
            )
            said = {"state": "tested", "val": val.get(name, 0.0) + 0.01 * seed, "seconds": 2.0, "seen": {}}
            arms.write_status(job.folder, said)
            jobs.append(job)
    return jobs


def test_the_family_is_the_main_metrics_and_what_was_declared(tmp_path: Path) -> None:
    above = {"twin": 0.0, "a": 0.05, "b": 0.0, "all": 0.05, "wide twin": 0.0}
    jobs = [*done(tmp_path, above, {}), *done(tmp_path, {"twin": 0.0, "a": 0.05}, {}, target="see")]
    for declared, judged in (((), {"ndcg@10"}), (("ndcg@10/first_time",), {"ndcg@10", "ndcg@10/first_time"})):
        found = matrix(jobs, {"buy": "ndcg@10", "see": "ndcg@10"}, declared)
        cells: dict[str, list[dict[str, Any]]] = {}
        for cell in found["cells"]:
            cells.setdefault(f"{cell['metric']}/{cell['cohort']}".removesuffix("/None"), []).append(cell)
        assert set(cells) == {"ndcg@10", "ndcg@10/first_time", "hr@10"}
        family = [cell for cell in found["cells"] if cell["p_holm"] is not None]
        assert found["family"] == {"size": 4 * len(judged), "declared": list(declared)}
        assert [cell["p_holm"] for cell in family] == holm([cell["p"] for cell in family])
        for metric, of_metric in cells.items():
            assert [cell["verdict"] is not None for cell in of_metric] == [metric in judged] * 4
            assert [cell["minimum_detectable"] is not None for cell in of_metric] == [metric in judged] * 4
        said = {(cell["target"], *cell["sources"]): cell["verdict"] for cell in cells["ndcg@10"]}
        assert said == {
            ("buy", "a"): "helps", ("buy", "b"): "no evidence", ("buy", "a", "b"): "helps", ("see", "a"): "helps"
        }  # fmt: skip
        wide = [cell["sources"] for cell in found["cells"] if "over_wide_twin" in cell]
        assert wide == [["a", "b"]] * 3
        assert all(cell["seconds"] == 6.0 for cell in found["cells"])


@pytest.mark.parametrize("undefined", ["a", "twin"])
def test_a_seed_without_the_main_metric_costs_its_own_cells_alone_and_says_why(undefined: str, tmp_path: Path) -> None:
    """A test of one class has no AUC; it must not take the cells of the other arms with it."""
    jobs = done(tmp_path, {"twin": 0.0, "a": 0.05, "b": 0.05}, {})
    job = next(job for job in jobs if job.arm.name == undefined)
    values = pl.read_parquet(job.folder / "units.parquet")
    gone = pl.when(pl.col("metric") == "ndcg@10").then(math.nan).otherwise("value").alias("value")
    values.with_columns(gone).write_parquet(job.folder / "units.parquet")
    found = matrix(jobs, {"buy": "ndcg@10"})
    cells = {cell["sources"][0]: cell for cell in found["cells"] if cell["metric"] == "ndcg@10" and not cell["cohort"]}
    assert set(cells) == {"a", "b"}
    assert cells["a"]["delta"] is None
    assert (
        cells["a"]["reason"]
        == f"the metric is undefined with a seed of {'the twin' if undefined == 'twin' else 'this arm'}"
    )
    assert (cells["b"]["delta"] is None) == (undefined == "twin")
    assert found["family"]["size"] == (0 if undefined == "twin" else 1)
    report = {**found, "main": {"buy": "ndcg@10"}, "seeds": [0, 1, 2], "seconds": 1.0}
    said = "\n".join(line.plain for line in lines(report))
    assert f"a -> buy: {cells['a']['reason']}" in said
    assert all(cell["delta"] is not None for cell in found["cells"] if cell["metric"] == "hr@10")


def test_levels_have_intervals_inside_the_range_of_their_metric(tmp_path: Path) -> None:
    found = matrix(done(tmp_path, {"twin": 0.6, "a": 0.5}, {}, n=4), {"buy": "ndcg@10"})
    mean, low, high = found["twins"]["buy"]["ndcg@10"]
    assert low < mean < high == 1.0
    single = tmp_path / "one"
    single.mkdir()
    found = matrix(done(single, {"twin": 0.0, "a": 0.5}, {}, n=1), {"buy": "ndcg@10"})
    assert found["twins"]["buy"]["ndcg@10"][1:] == [None, None]
    assert {cell["reason"] for cell in found["cells"]} == {"1 user, of whom there is no interval"}


def test_arms_of_other_users_are_refused(tmp_path: Path) -> None:
    jobs = done(tmp_path, {"twin": 0.0, "a": 0.05}, {})
    path = jobs[-1].folder / "units.parquet"
    user_values.write(pl.read_parquet(path).with_columns(pl.col("user") + 1), path)
    with pytest.raises(ValueError, match="a -> buy, seed 2 should be judged on the users of the other arms"):
        matrix(jobs, {"buy": "ndcg@10"})


def test_validation_names_the_best_arm_and_the_test_only_measures_it(tmp_path: Path) -> None:
    test = {"twin": 0.0, "a": 0.02, "b": 0.2, "all": -0.1, "wide twin": 0.3}
    jobs = done(tmp_path, test, {"twin": 0.5, "a": 0.8, "b": 0.4, "all": 0.7, "wide twin": 0.9})
    jobs += done(tmp_path, {"twin": 0.0, "a": 0.1}, {"twin": 0.5, "a": 0.4}, target="see")
    scores = audit.validation([job for job in jobs if job.arm.target == "buy"])
    assert scores == pytest.approx({"twin": 0.51, "a": 0.81, "b": 0.41, "all": 0.71, "wide twin": 0.91})
    found = audit.standing(jobs, {"buy": "ndcg@10", "see": "ndcg@10"}, {})
    (buy, see) = found["best"].values()
    assert (buy["arm"], buy["sources"], buy["validation_gain"]) == ("a", ["a"], pytest.approx(0.3))
    values = [pl.read_parquet(tmp_path / f"buy_a_{seed}" / "units.parquet") for seed in range(3)]
    mean = np.mean([frame.filter(metric="ndcg@10")["value"].mean() for frame in values])
    assert buy["value"] == pytest.approx(mean)
    assert (see["arm"], see["validation_gain"]) == ("a", pytest.approx(-0.1))
    assert audit.gain_on_validation(found) == pytest.approx(0.1)
    assert np.isnan(audit.gain_on_validation({"best": {}}))
    assert (found["baselines"], found["beside"]) == ({"buy": {}, "see": {}}, {})


@pytest.mark.parametrize(
    ("above", "weak"),
    [
        ({"popularity": 0.03}, "popularity"),
        ({"own_frequency": 0.03, "popularity": -0.1}, "own_frequency"),
        ({"item_knn": 0.03, "ease_union": 0.1}, "item_knn"),
        ({"ease_union": 0.1, "popularity": -0.1}, None),
    ],
)
def test_a_twin_below_any_baseline_of_its_own_rows_is_weak(
    above: dict[str, float], weak: str | None, tmp_path: Path
) -> None:
    jobs = done(tmp_path, {"twin": 0.0, "a": 0.05}, {"a": 0.5})
    base = np.random.default_rng(0).uniform(0.2, 0.5, 50)
    scored = {
        name: Scored(
            {"ndcg@10": Value(float(base.mean()) + gain), "hr@10": Value(None, "why")},
            {"ndcg@10": torch.from_numpy(base + gain), USER: torch.arange(1, 51)},
        )
        for name, gain in above.items()
    }
    found = audit.standing(jobs, {"buy": "ndcg@10"}, {"buy": scored})
    beside, best = found["beside"]["buy"], max(above, key=lambda name: above[name])
    assert (beside["best"], beside["weak"]) == (best, weak)
    assert found["baselines"]["buy"][best] == {"ndcg@10": beside["value"], "hr@10": None}
    for name, gain in above.items():
        assert beside["twin"][name]["delta"] == pytest.approx(-gain, abs=0.01)
        assert beside["grafted"][name]["delta"] == pytest.approx(0.05 - gain, abs=0.01)  # the best arm
    said = best_sentence("buy", found["best"]["buy"], beside, {"cells": []})
    numbers = formatting.interval(beside["grafted"][best])
    assert said.startswith("best transfer to buy by validation: a, ndcg@10 ")
    assert said.endswith(f" {formatting.label(best)} {formatting.shown(beside['value'])}: {numbers}")
