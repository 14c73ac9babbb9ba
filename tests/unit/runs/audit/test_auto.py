"""`transfer=auto` at work on a tiny planted dataset: what it trains, what it never looks at, what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graftrec.data.protocols.base import Protocol
from graftrec.evaluation.report import auto_table
from graftrec.evaluation.report.console import Screen
from graftrec.evaluation.statistics import user_values
from graftrec.runs.audit import arms, audit, source_search
from graftrec.runs.audit.source_selection import settled
from graftrec.runs.side_by_side import Processes
from graftrec.runs.train import train
from graftrec.training.builder import prepare
from graftrec.transfer.auto import Auto
from graftrec.utils.errors import UserError

Compose = Callable[[list[str]], dict[str, Any]]
TINY = [f"++dataset.{key}={value}" for key, value in {
    "users": 30, "items": 20, "rows": 200, "source_rows": 200, "val": 100, "test": 150
}.items()]  # fmt: skip
HELP, HURT = "planted_help", "planted_hurt"
TARGET = "planted_target"
Effect = Callable[[str, int], float]


@pytest.fixture
def tree(compose: Compose) -> dict[str, Any]:
    found = compose(
        ["experiment=planted", *TINY, "transfer=auto", "transfer.epochs=1", "++transfer.seeds=3", "seeds=1"]
    )
    found["source"].pop("planted_noise")
    return found | {"audit": {"seeds": 1, "workers": 1, "twins": ["same"]}}


@pytest.fixture
def protocol(tree: dict[str, Any]) -> Protocol:
    return prepare(tree)[0]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[arms.ArmJob]:
    """What was trained, in order."""
    calls: list[arms.ArmJob] = []

    def noted(protocol: Protocol, job: arms.ArmJob) -> dict[str, Any]:
        calls.append(job)
        return arms.train_arm(protocol, job)

    for module in (audit, source_search):
        monkeypatch.setattr(module, "train_arm", noted)
    return calls


def search(tree: dict[str, Any], protocol: Protocol, folder: Path, said: StringIO | None = None) -> dict[str, Any]:
    with Processes(tree, protocol, 1) as pool:
        return source_search.search(tree, protocol, folder, pool, Screen(file=said or StringIO(), width=200))


def as_if_trained(monkeypatch: pytest.MonkeyPatch, effect: Effect, users: int = 200) -> list[arms.ArmJob]:
    """Trainings that are made up: a user's value on validation is its own, some noise, and the effect of a candidate
    (by its name) with a seed (by its place among the search's).
    """
    base, calls = np.random.default_rng(0).random(users), list[arms.ArmJob]()
    places: dict[int, int] = {}

    def made(protocol: Protocol, job: arms.ArmJob) -> dict[str, Any]:
        calls.append(job)
        place = places.setdefault(job.seed, len(places))
        noise = np.random.default_rng([len(calls), place]).normal(0, 0.02, users)
        values = base + noise - noise.mean() + effect(job.arm.name, place)
        job.folder.mkdir(parents=True)
        own = user_values.frame_of({TARGET: {"auc": values, user_values.USER: np.arange(1, users + 1)}})
        user_values.write(own.drop("metric"), job.folder / "val.parquet")
        found = {"state": "trained", "val": float(values.mean()), "seconds": 0.0, "seen": {}}
        arms.write_status(job.folder, found)
        return found

    monkeypatch.setattr(source_search, "train_arm", made)
    return calls


def test_a_search_says_what_it_tried_trains_nothing_twice_and_never_sees_the_test(
    tree: dict[str, Any],
    protocol: Protocol,
    tmp_path: Path,
    trained: list[arms.ArmJob],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stages = set()
    for stream in protocol.streams.values():
        real = stream.evaluation
        monkeypatch.setattr(stream, "evaluation", lambda *given, real=real: stages.add(given[0]) or real(*given))
    screen = StringIO()
    found = search(tree, protocol, tmp_path, screen)
    assert stages == {"val"}
    names = [job.arm.name for job in trained]
    assert names[:6] == [f"{HELP} + {HURT}"] * 3 + ["twin"] * 3
    assert {HELP, HURT} <= set(names)
    assert len({job.folder for job in trained}) == len(trained) == found["trials"] <= found["budget"]
    for name in set(names):
        assert [job.seed for job in trained if job.arm.name == name] == list(found["seeds"])
    assert screen.getvalue().count(" over ") == len(found["tried"])
    chance = 0.05 / len(config_of(tree).strengths)
    for step in found["tried"]:
        assert (step["verdict"] == "clear") == (step["gain"] > 0 and step["p"] < chance and not step["harmed"])
    for name, strength in found["strengths"].items():
        assert any(step["verdict"] == "clear" and step["sources"] == {name: strength} for step in found["tried"])
    assert not list(tmp_path.rglob("*.ckpt"))
    before = len(trained)
    again = search(tree, protocol, tmp_path)
    assert len(trained) == before
    assert {**again, "seconds": 0} == {**found, "seconds": 0}
    shown = auto_table.line(found).plain + auto_table.section(found)
    assert f"{found['trials']} of at most {found['budget']} trainings" in shown
    assert shown.count("<tr>") == 1 + len(found["tried"])


def config_of(tree: dict[str, Any]) -> Auto:
    return Auto(**{key: value for key, value in tree["transfer"].items() if key != "_target_"})


def test_gains_are_those_of_the_arms_scores(tree: dict[str, Any], protocol: Protocol, tmp_path: Path) -> None:
    found = search({**tree, "transfer": {**tree["transfer"], "strengths": [1.0]}}, protocol, tmp_path)
    scores: dict[frozenset[str], list[float]] = {}
    for path in tmp_path.glob("*/status.json"):
        said = json.loads(path.read_text())
        assert said["state"] == source_search.TRIED
        assert "test" not in said
        assert said["seed"] in found["seeds"]
        scores.setdefault(frozenset(said["sources"]), []).append(said["val"])
    assert len(found["tried"]) >= 3
    assert all(len(own) == 3 for own in scores.values())
    for step in found["tried"]:
        gain = np.mean(scores[frozenset(step["sources"])]) - np.mean(scores[frozenset(step["over"])])
        assert step["gain"] == pytest.approx(gain, abs=1e-6)  # the mean over rows is the AUC


def test_the_seeds_of_a_search_are_no_seeds_of_a_run() -> None:
    """What is chosen is judged by other trainings than those that chose it."""
    of_runs = set(range(200 + 10_000))  # as far as `seeds` goes
    every = [source_search.seeds_of({"seed": seed}, Auto()) for seed in range(200)]
    assert all(len(set(seeds)) == Auto().seeds for seeds in every)
    assert not of_runs & {seed for seeds in every for seed in seeds}
    assert len({seed for seeds in every for seed in seeds}) == 200 * Auto().seeds


def test_the_luck_of_one_seed_chooses_nothing_and_a_gain_with_every_seed_does(
    tree: dict[str, Any], protocol: Protocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lucky(name: str, place: int) -> float:
        return 0.3 if name == HELP and place == 1 else 0.0

    as_if_trained(monkeypatch, lucky)
    found = search(tree, protocol, tmp_path / "luck")
    step = next(step for step in found["tried"] if step["sources"] == {HELP: 1.0})
    assert step["gain"] == pytest.approx(0.1)
    assert (step["verdict"], found["strengths"]) == ("not clear", {})
    assert "the target trains alone" in found["reason"]
    as_if_trained(monkeypatch, lambda name, place: 0.1 if name == HELP else -0.1 * (HURT in name))
    found = search(tree, protocol, tmp_path / "gain")
    assert found["strengths"] == {HELP: 1.0}
    assert found["reason"].startswith(f"uses {HELP}, whose gains are clear over users and seeds: {HELP} over twin")


@pytest.mark.parametrize(("trials", "seeds"), [(6, 3), (9, 3), (13, 4), (24, 6), (72, 6)])
def test_a_search_never_trains_more_than_its_budget(
    trials: int, seeds: int, tree: dict[str, Any], protocol: Protocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = as_if_trained(monkeypatch, lambda name, place: 0.1 * (HELP in name))
    found = search({**tree, "transfer": {**tree["transfer"], "trials": trials, "seeds": seeds}}, protocol, tmp_path)
    assert len(calls) == found["trials"] <= found["budget"] == trials
    candidates = {job.arm.name for job in calls}
    assert len(candidates) <= trials // seeds
    missing = [step for step in found["tried"] if step["verdict"] == "not tried"]
    assert bool(missing) == ("some could not be tried: transfer.trials" in found["reason"]) == (trials // seeds < 6)
    assert all(step["gain"] is step["error"] is step["p"] is None for step in missing)


def test_what_does_not_look_promising_with_half_of_the_seeds_is_left(
    tree: dict[str, Any], protocol: Protocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = as_if_trained(monkeypatch, lambda name, place: 0.1 if name == HELP else -0.1 * (HURT in name))
    found = search({**tree, "transfer": {**tree["transfer"], "seeds": 6}}, protocol, tmp_path)
    assert len(found["seeds"]) == 6
    count = {name: sum(job.arm.name == name for job in calls) for name in (HELP, HURT, "twin", f"{HELP} + {HURT}")}
    assert count == {HELP: 6, HURT: 3, "twin": 6, f"{HELP} + {HURT}": 3}
    assert found["strengths"] == {HELP: 1.0}


def test_the_chance_of_a_source_without_effect_is_divided_among_its_strengths(
    tree: dict[str, Any], protocol: Protocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gain whose p is between both limits is clear where one strength is tried, and not where two are."""

    def effect(name: str, place: int) -> float:
        return (0.06 + 0.03 * (place - 1) if name == HELP else 0.0) - 0.1 * (HURT in name)

    verdicts = {}
    for strengths in ((1.0,), (1.0, 0.3)):
        as_if_trained(monkeypatch, effect)
        own = {**tree, "transfer": {**tree["transfer"], "strengths": list(strengths)}}
        found = search(own, protocol, tmp_path / f"{len(strengths)}")
        (step,) = (step for step in found["tried"] if step["sources"] == {HELP: 1.0})
        assert 0.025 < step["p"] < 0.05
        verdicts[len(strengths)] = step["verdict"]
    assert verdicts == {1: "clear", 2: "not clear"}


def test_no_weaker_strength_is_tried_where_the_balancer_takes_it_out_again(
    tree: dict[str, Any], protocol: Protocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for balancer, expected in (("sum.Sum", {1.0, 0.3}), ("geometric.Geometric", {1.0})):
        as_if_trained(monkeypatch, lambda name, place: 0.0)
        own = {**tree, "balancer": {"_target_": f"graftrec.training.balancers.{balancer}"}}
        found = search(own, protocol, tmp_path / balancer)
        assert {strength for step in found["tried"] for strength in step["sources"].values()} == expected


def test_an_audit_searches_once_for_a_target_and_judges_by_trainings_of_its_own(
    tree: dict[str, Any], tmp_path: Path, trained: list[arms.ArmJob]
) -> None:
    tree["audit"]["seeds"] = 2
    audit.audit(tree, tmp_path)
    assert [job.arm.name for job in trained[:8]] == ["twin", HELP, HURT, "all"] * 2
    found = json.loads((tmp_path / "audit.json").read_text())
    chosen = found["auto"][TARGET]
    searched, judged = ([job for job in trained[8:] if (job.arm.name == "auto") is own] for own in (False, True))
    assert len(searched) == chosen["trials"] <= chosen["budget"]  # one search, however many seeds the audit has
    assert {job.seed for job in searched} == set(chosen["seeds"])
    assert not {job.seed for job in searched} & set(found["seeds"])
    rows = [row for row in found["arms"] if row["arm"] == "auto"]
    assert [row["seed"] for row in rows] == found["seeds"] == [0, 1]
    assert not {row["folder"] for row in rows} & {job.folder.name for job in searched}
    assert {job.folder.name for job in judged} <= {row["folder"] for row in rows}
    cell = next(cell for cell in found["cells"] if cell["sources"] == ["auto"] and cell["metric"] == "auc")
    assert cell["seeds"] == 2
    twins = {row["seed"]: row for row in found["arms"] if row["arm"] == "twin"}
    if not chosen["strengths"]:
        assert all(row["test"] == twins[row["seed"]]["test"] for row in rows)
    assert "trainings with other seeds to choose" in (tmp_path / "report.html").read_text()
    before = len(trained)
    audit.audit(tree, tmp_path)
    assert len(trained) == before


@pytest.mark.parametrize(("strengths", "arm"), [({}, "twin"), ({HELP: 1.0}, HELP), ({HURT: 0.3}, None)])
def test_an_arm_that_auto_chose_is_trained_only_where_it_is_not_there(
    strengths: dict[str, float],
    arm: str | None,
    tree: dict[str, Any],
    tmp_path: Path,
    trained: list[arms.ArmJob],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(audit, "search", lambda *_: said(strengths))
    audit.audit(tree, tmp_path)
    found = json.loads((tmp_path / "audit.json").read_text())
    (row,) = (row for row in found["arms"] if row["arm"] == "auto")
    assert [job.arm.name for job in trained] == ["twin", HELP, HURT, "all"] + ["auto"] * (arm is None)
    if arm is None:
        assert trained[-1].tree["source"][HURT]["weight"] == pytest.approx(0.3 * tree["source"][HURT]["weight"])
        assert list(trained[-1].tree["source"]) == [HURT]
    else:
        assert row["folder"] == next(own["folder"] for own in found["arms"] if own["arm"] == arm)


def test_a_run_is_judged_by_its_own_seeds(tree: dict[str, Any], tmp_path: Path, trained: list[arms.ArmJob]) -> None:
    train({**tree, "workers": 1, "source": {HELP: tree["source"][HELP]}}, tmp_path)
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found["seeds"] == [0]
    assert {job.seed for job in trained} == set(found["auto"]["seeds"])
    assert not set(found["auto"]["seeds"]) & set(found["seeds"])
    assert all(job.folder.is_relative_to(tmp_path / "trials") for job in trained)
    assert list((tmp_path / "checkpoints").glob("*.ckpt"))  # trained anew, none of the search's


def said(strengths: dict[str, float]) -> dict[str, Any]:
    return {
        "strengths": strengths, "reason": "", "tried": [], "cannot": {}, "trials": 2, "budget": 2, "seconds": 0.0,
        "seeds": [7, 8, 9],
    }  # fmt: skip


def test_without_a_source_it_is_its_own_twin(
    tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing_helps(*given: Any) -> dict[str, Any]:
        *_, begin = given
        begin()
        return said({})

    monkeypatch.setattr("graftrec.runs.train.search", nothing_helps)
    train(tree, tmp_path / "auto")
    found = json.loads((tmp_path / "auto" / "metrics.json").read_text())
    assert found["auto"]["trials"] == 2
    assert found["roles"] == {"planted_target": "target"}
    difference = found["differences"]["planted_target"]["auc"]
    assert (difference["delta"], difference["low"], difference["high"]) == (0, 0, 0)
    joint = {**tree, "transfer": {"_target_": "graftrec.transfer.joint.Joint", "epochs": 1}}
    train(joint, tmp_path / "joint")
    fixed = json.loads((tmp_path / "joint" / "metrics.json").read_text())
    assert found["test"]["planted_target"] == fixed["twin"]["planted_target"]  # as it is beside any other strategy
    assert "auto" not in fixed


def test_a_settled_tree_has_its_sources_as_strong_as_asked(tree: dict[str, Any], protocol: Protocol) -> None:
    tree["balancer"] = {
        "_target_": "graftrec.training.balancers.fixed.Fixed",
        "weights": {HELP: 2.0, HURT: 3.0, "planted_target": 1.0},
    }
    found = settled(tree, {HURT: 0.25})
    assert found["transfer"] == {"_target_": "graftrec.transfer.joint.Joint", "epochs": 1}
    assert (list(found["source"]), found["source"][HURT]["weight"]) == ([HURT], 2.0)  # the experiment says 8
    assert settled(tree, {HELP: 0.5})["source"][HELP]["weight"] == 0.5  # the constructor says 1
    assert found["balancer"]["weights"] == {HURT: 3.0, "planted_target": 1.0}
    linear = {"_target_": "graftrec.transfer.linear_probe.LinearProbe"}
    assert settled({**tree, "transfer": {**tree["transfer"], "strategy": linear}}, {})["transfer"] == linear
    single = next(arm for arm in arms.arms_of(tree, protocol, []) if arm.name == HELP)
    own = arms.tree_of(tree, single, 0)
    assert own == settled(arms.without_beside(tree), {HELP: 1.0})  # so that a search finds an audit's arm
    assert arms.tree_of({**tree, "transfer": own["transfer"]}, single, 0) == own


def test_what_cannot_be_chosen_from_is_refused_before_anything_trains(
    tree: dict[str, Any],
    protocol: Protocol,
    tmp_path: Path,
    trained: list[arms.ArmJob],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UserError, match="no source and no shared task to choose from"):
        search({**tree, "source": {}}, protocol, tmp_path)
    probe = {
        **tree["transfer"],
        "epochs": None,
        "strategy": {"_target_": "graftrec.transfer.distillation.Distillation"},
    }
    with pytest.raises(UserError, match="teacher"):
        search({**tree, "transfer": probe}, protocol, tmp_path)
    monkeypatch.setattr("graftrec.tasks.binary.Binary.per_row", lambda *_: {})
    with pytest.raises(UserError, match=r"target\.planted_target is judged by auc.*no standard error"):
        search(tree, protocol, tmp_path)
    assert trained == []
    assert not list(tmp_path.iterdir())


def test_of_an_error_the_smaller_one_is_the_gain(tmp_path: Path, compose: Compose, shop_settings: list[str]) -> None:
    tree = compose([
        "protocol=cross_domain", "++dataset.labels={click: binary, watch_time: number}", "trunk=shared_bottom",
        "task@source=[click]", "task@shared=[]", "task@target=[watch_time]", *shop_settings, "transfer=auto",
        "++transfer.epochs=1", "++transfer.strengths=[1.0]", "++transfer.seeds=3",
    ])  # fmt: skip
    found = search(tree, prepare(tree)[0], tmp_path)
    scores: dict[tuple[str, ...], list[float]] = {}
    for path in tmp_path.glob("*/status.json"):
        own = json.loads(path.read_text())
        scores.setdefault(tuple(own["sources"]), []).append(own["val"])
    (step,) = found["tried"]
    assert step["gain"] == pytest.approx(np.mean(scores["click",]) - np.mean(scores[()]), rel=1e-5)
    assert np.mean(scores[()]) < 0 < step["error"]  # a score is minus the RMSE
    assert bool(found["strengths"]) == (step["gain"] > 0 and step["p"] < 0.05)


def test_affinity_is_the_mean_cosine_with_the_targets() -> None:
    seen = {"gradient_cosine/a~t": 0.4, "gradient_cosine/s~a": 0.2, "gradient_cosine/a~b": -0.9, "affinity/a~t": -1.0}
    assert source_search.agreement(seen, "a", ["s", "t"]) == pytest.approx(0.3)
    assert source_search.agreement(seen, "b", ["s", "t"]) == 0.0
