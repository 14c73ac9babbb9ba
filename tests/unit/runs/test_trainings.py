"""The trainings of a run: who they are, where they lie, and which of them a search judges."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graftrec.runs import trainings
from graftrec.runs.trainings import Training, train_here, trainings_of
from graftrec.training.callbacks import optuna_trial
from graftrec.training.fit import Arm, Going

Compose = Callable[[list[str]], dict[str, Any]]
RUN = ["experiment=planted", "task@source=[planted_help]", "seed=3", "seeds=2"]


@pytest.fixture(scope="module")
def tree(compose: Compose) -> dict[str, Any]:
    return compose(RUN)


def test_they_come_seed_by_seed_and_only_the_first_seeds_lie_at_the_top(tree: dict[str, Any]) -> None:
    run = Path("run")
    found = trainings_of(tree, run, twin=True)
    assert [(each.words, each.folder) for each in found] == [
        ("grafted, seed 3", run / "checkpoints"), ("twin, seed 3", run / "checkpoints" / "twin"),
        ("grafted, seed 4", run / "seeds" / "4" / "checkpoints"),
        ("twin, seed 4", run / "seeds" / "4" / "checkpoints" / "twin"),
    ]  # fmt: skip
    assert [each.tree["seed"] for each in found] == [3, 3, 4, 4]
    assert [list(each.tree["source"]) for each in found] == 2 * [["planted_help"], []]
    assert [[phase.name for phase in each.plan] for each in found] == 2 * [["joint"], ["twin"]]
    assert not [key for each in found for key in ("seeds", "workers", "verdicts") if key in each.tree]
    assert [each.words for each in trainings_of(tree, run, twin=False)] == ["grafted, seed 3", "grafted, seed 4"]
    (alone, _) = trainings_of(tree, run, twin=False, alone=True)
    assert [phase.name for phase in alone.plan] == ["twin"]


def test_a_twin_of_several_targets_has_one_of_them(compose: Compose) -> None:
    tree = compose([*RUN, "task@target=[planted_target,planted_noise]"])
    found = trainings_of(tree, Path("run"), twin=True)[:3]
    assert [each.words for each in found] == [
        "grafted, seed 3", "twin of planted_target, seed 3", "twin of planted_noise, seed 3",
    ]  # fmt: skip
    assert [list(each.tree["target"]) for each in found] == [
        ["planted_target", "planted_noise"], ["planted_target"], ["planted_noise"],
    ]  # fmt: skip
    assert [each.folder for each in found[1:]] == [
        Path("run/checkpoints/twin/planted_target"), Path("run/checkpoints/twin/planted_noise"),
    ]  # fmt: skip


def test_a_search_is_told_of_the_first_seed_alone(
    tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, str | None] = {}

    def trained(protocol: Any, training: Training, going: Going | None) -> Arm:
        told[training.words] = os.environ.get(optuna_trial.VARIABLE)
        return Arm()

    monkeypatch.setattr(trainings, "train_one", trained)
    monkeypatch.setenv(optuna_trial.VARIABLE, "7")
    made: Any = None
    for each in trainings_of(tree, tmp_path, twin=True):
        train_here(made, each)
    assert told == {"grafted, seed 3": "7", "twin, seed 3": "7", "grafted, seed 4": None, "twin, seed 4": None}
    assert os.environ[optuna_trial.VARIABLE] == "7"
