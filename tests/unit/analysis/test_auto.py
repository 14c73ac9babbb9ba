"""`transfer=auto` at work on a tiny planted dataset: what it trains, what it never looks at, what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graftrec.analysis import arms, audit, auto
from graftrec.analysis.settled import settled
from graftrec.data.protocols.base import Protocol
from graftrec.errors import UserError
from graftrec.report import auto_table
from graftrec.train import prepare, train

Compose = Callable[[list[str]], dict[str, Any]]
TINY = [f"++dataset.{key}={value}" for key, value in {
    "users": 30, "items": 20, "rows": 200, "source_rows": 200, "val": 100, "test": 150
}.items()]  # fmt: skip
DISTILLATION = "graftrec.transfer.distillation.Distillation"
HELP, HURT = "planted_help", "planted_hurt"


@pytest.fixture
def tree(compose: Compose) -> dict[str, Any]:
    found = compose(["experiment=planted", *TINY, "transfer=auto", "transfer.epochs=1"])
    found["source"].pop("planted_noise")
    return found | {"audit": {"seeds": 1, "draws": 1000, "workers": 1, "twins": ["same"]}}


@pytest.fixture
def protocol(tree: dict[str, Any]) -> Protocol:
    return prepare(tree)[0]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The arms that were trained, in order."""
    calls: list[str] = []

    def noted(protocol: Protocol, job: arms.ArmJob) -> dict[str, Any]:
        calls.append(job.arm.name)
        return arms.train_arm(protocol, job)

    for module in (audit, auto):
        monkeypatch.setattr(module, "train_arm", noted)
    return calls


def test_a_search_says_what_it_tried_trains_nothing_twice_and_never_sees_the_test(
    tree: dict[str, Any], protocol: Protocol, tmp_path: Path, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = set()
    for stream in protocol.streams.values():
        real = stream.evaluation
        monkeypatch.setattr(stream, "evaluation", lambda *given, real=real: stages.add(given[0]) or real(*given))
    lines: list[str] = []
    found = auto.search(tree, protocol, tmp_path, lines.append)
    assert stages == {"val"}
    assert trained[:2] == [f"{HELP} + {HURT}", "twin"]
    assert len(trained) == len(set(trained)) == found["trials"] <= found["budget"] == 12
    assert {HELP, HURT} <= set(trained)
    assert len(lines) == len(found["tried"])
    for step in found["tried"]:
        assert (step["verdict"] == "clear") == (step["gain"] > step["error"] > 0)
    for name, strength in found["strengths"].items():
        assert any(step["verdict"] == "clear" and step["sources"] == {name: strength} for step in found["tried"])
    assert not list(tmp_path.rglob("*.ckpt"))
    before = len(trained)
    again = auto.search(tree, protocol, tmp_path)
    assert len(trained) == before
    assert {**again, "seconds": 0} == {**found, "seconds": 0}
    shown = auto_table.line(found).plain + auto_table.section(found)
    assert f"{found['trials']} of at most 12 trainings" in shown
    assert shown.count("<tr>") == 1 + len(found["tried"])


def test_gains_are_those_of_the_arms_scores(tree: dict[str, Any], protocol: Protocol, tmp_path: Path) -> None:
    found = auto.search({**tree, "transfer": {**tree["transfer"], "strengths": [1.0]}}, protocol, tmp_path)
    scores = {}
    for path in tmp_path.glob("*/status.json"):
        said = json.loads(path.read_text())
        assert said["state"] == auto.TRIED
        assert "test" not in said
        scores[frozenset(said["sources"])] = said["val"]
    assert len(found["tried"]) >= 3
    for step in found["tried"]:
        gain = scores[frozenset(step["sources"])] - scores[frozenset(step["over"])]
        assert step["gain"] == pytest.approx(gain, abs=1e-6)  # the mean over rows is the AUC


def test_an_audit_has_auto_as_one_more_arm_and_it_trains_what_is_not_there(
    tree: dict[str, Any], tmp_path: Path, trained: list[str]
) -> None:
    audit.audit(tree, tmp_path)
    assert trained[:4] == ["twin", HELP, HURT, "all"]
    assert trained[-1] == "auto"
    assert not {"twin", HELP, HURT, f"{HELP} + {HURT}"} & set(trained[4:])  # auto takes the arms that are there
    found = json.loads((tmp_path / "audit.json").read_text())
    cell = next(cell for cell in found["cells"] if cell["sources"] == ["auto"] and cell["metric"] == "auc")
    assert cell["auto"]["seeds"] == 1
    assert cell["auto"]["nothing"] + len(cell["auto"]["used"]) >= 1
    assert cell["auto"]["trials"] >= 4
    row = next(row for row in found["arms"] if row["arm"] == "auto")
    folder = tmp_path / "arms" / row["folder"]
    used = json.loads((folder / "status.json").read_text())["auto"]["strengths"]
    twin = next(row for row in found["arms"] if row["arm"] == "twin")
    if not used:
        assert row["test"] == twin["test"]
    assert "trainings to choose" in (tmp_path / "report.html").read_text()
    before = len(trained)
    audit.audit(tree, tmp_path)
    assert len(trained) == before


def said(strengths: dict[str, float]) -> dict[str, Any]:
    return {"strengths": strengths, "reason": "", "tried": [], "cannot": {}, "trials": 2, "budget": 2, "seconds": 0.0}


def test_without_a_source_it_is_its_own_twin(
    tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graftrec.train.search", lambda *_: said({}))
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
        "_target_": "graftrec.balancers.fixed.Fixed",
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
    tree: dict[str, Any], tmp_path: Path, trained: list[str], compose: Compose, shop_settings: list[str]
) -> None:
    protocol, _ = prepare(tree)
    with pytest.raises(UserError, match="no source and no shared task to choose from"):
        auto.search({**tree, "source": {}}, protocol, tmp_path)
    rows = compose([
        "protocol=cross_domain", "++dataset.labels={click: binary, like: binary}", "trunk=shared_bottom",
        "task@source=[click]", "task@shared=[]", "task@target=[click_like]", *shop_settings, "transfer=auto",
    ])  # fmt: skip
    with pytest.raises(UserError, match=r"target\.click_like is judged by auc.*no standard error"):
        auto.search(rows, prepare(rows)[0], tmp_path)
    probe = {
        **tree["transfer"],
        "epochs": None,
        "strategy": {"_target_": "graftrec.transfer.distillation.Distillation"},
    }
    with pytest.raises(UserError, match="teacher"):
        auto.search({**tree, "transfer": probe}, protocol, tmp_path)
    assert trained == []
    assert not list(tmp_path.iterdir())


def test_of_an_error_the_smaller_one_is_the_gain(
    tmp_path: Path, compose: Compose, shop_settings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = compose([
        "protocol=cross_domain", "++dataset.labels={click: binary, watch_time: number}", "trunk=shared_bottom",
        "task@source=[click]", "task@shared=[]", "task@target=[watch_time]", *shop_settings, "transfer=auto",
        "++transfer.epochs=1", "++transfer.strengths=[1.0]",
    ])  # fmt: skip
    found = auto.search(tree, prepare(tree)[0], tmp_path)
    said = {tuple(s["sources"]): s for s in (json.loads(p.read_text()) for p in tmp_path.glob("*/status.json"))}
    (step,) = found["tried"]
    assert step["gain"] == pytest.approx(said["click",]["val"] - said[()]["val"], rel=1e-5)  # a score is minus the RMSE
    assert said[()]["val"] < 0 < step["error"]
    assert bool(found["strengths"]) == (step["gain"] > step["error"])


def test_affinity_is_the_mean_cosine_with_the_targets() -> None:
    seen = {"gradient_cosine/a~t": 0.4, "gradient_cosine/s~a": 0.2, "gradient_cosine/a~b": -0.9, "affinity/a~t": -1.0}
    assert auto.agreement(seen, "a", ["s", "t"]) == pytest.approx(0.3)
    assert auto.agreement(seen, "b", ["s", "t"]) == 0.0
