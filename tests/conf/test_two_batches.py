"""Every YAML that trains is run end to end for two batches on the generated shop, and counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from graftrec import config
from graftrec.train import train

Compose = Callable[[list[str]], dict[str, Any]]

SHORT = [
    "twin=false",
    "++trainer.limit_train_batches=2",
    "++trainer.max_steps=2",  # of each phase, whatever its epochs
    "++trainer.log_every_n_steps=1",
]
# Group -> how its options are chosen where that is not group=option
CHOICE = {"head": "head@target.recommend.head", "loss": "loss@target.recommend.loss"}
FOR_CATEGORIES = {"loss/cross_entropy"}  # fits no binary label, so it is the source's loss that is set
DEPARTMENTS = ["protocol=cross_domain", "++protocol.by=department"]
RUN = ("trunk", "head", "loss", "balancer", "transfer", "protocol", "optimizer", "trainer", "logger", "experiment", "task")
FILES = [path for group in RUN for path in sorted((config.conf_dir() / group).glob("*.yaml"))]


def settings_of(path: Path) -> list[str]:
    """Settings that choose one YAML file."""
    group, option = path.parent.name, path.stem
    if group == "task":
        stream = yaml.safe_load(path.read_text())[option]["stream"]
        alone = ["task@source=[]", "task@shared=[]", f"task@target=[{option}]", "trunk=shared_bottom"]
        return [*alone, *(DEPARTMENTS if "/" in stream else [])]
    if f"{group}/{option}" in FOR_CATEGORIES:
        return [f"{group}@source.interest.{group}={option}"]
    return [f"{CHOICE.get(group, group)}={option}"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_two_batches(
    path: Path, compose: Compose, shop_settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    tree = compose([*settings_of(path), *shop_settings, *SHORT])
    score = train(tree, tmp_path)

    metrics = json.loads((tmp_path / "metrics.json").read_text())
    main = metrics["main"]
    value = metrics["val"][main["task"]][main["metric"]]
    assert abs(score) == pytest.approx(value)
    assert set(metrics["test"]) == set(metrics["roles"])
    assert main["task"] in tree["target"]
    for task in tree["target"]:
        assert metrics["test"][task][main["metric"]] is not None
    assert (tmp_path / "checkpoints" / "best.ckpt").is_file()
    assert "train/loss/total" in (tmp_path / "metrics.csv").read_text().splitlines()[0]
    if path.parent.name == "logger" and "Wandb" in path.read_text():
        assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


def test_no_yaml_is_left_out() -> None:
    groups = {folder.name for folder in config.conf_dir().iterdir() if folder.is_dir()}
    assert groups - set(RUN) == {"dataset"}  # other data than the shop: composed in test_groups, run by slow tests
    assert {path.parent.name for path in FILES} == set(RUN)
