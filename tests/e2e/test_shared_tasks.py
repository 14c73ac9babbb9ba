"""Shared tasks that compare domains, trained beside the domains' own tasks through the real entry point."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graftrec.runs.train import train
from graftrec.utils.errors import UserError

Compose = Callable[[list[str]], dict[str, Any]]
SHORT = ["++trainer.max_steps=4", "++trainer.log_every_n_steps=1", "baselines=false", "trunk=shared_bottom"]
DOMAINS = ["protocol=cross_domain", "++dataset.domain=department", "task@source=[grocery_recommend]",
           "task@target=[produce_recommend]"]  # fmt: skip


def logged(folder: Path, column: str) -> list[float]:
    with open(folder / "metrics.csv", encoding="utf-8") as file:
        return [float(row[column]) for row in csv.DictReader(file) if row.get(column)]


@pytest.mark.parametrize("more", [[], ["balancer=mgda", "++balancer.at=layer"], ["transfer=pretrain_finetune"]])
def test_they_train_beside_a_twin(
    more: list[str], compose: Compose, shop_settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for drawing in ("plots.learning_curves", "plots.comparison", "run_page.write_report"):
        monkeypatch.setattr(f"graftrec.evaluation.report.{drawing}", lambda *_, **__: None)
    shared = ["task@shared=[align_mmd,align_adversarial]", "lambda_shared=0.5", "++shared.align_mmd.rise=ramp"]
    train(compose([*DOMAINS, *shared, *more, *shop_settings, *SHORT]), tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["test"]["align_mmd"]["loss"] >= 0
    assert 0 <= metrics["test"]["align_adversarial"]["accuracy"] <= 1
    assert set(metrics["twin"]) == {"produce_recommend"}
    mmd = logged(tmp_path, "train/loss/align_mmd")
    assert mmd[0] == 0  # the ramp begins there
    assert mmd[1] > 0
    assert logged(tmp_path, "train/loss/align_adversarial")[0] > 0.5  # near ln 2 from the start


def test_what_cannot_be_compared_is_told(compose: Compose, shop_settings: list[str], tmp_path: Path) -> None:
    representation = ["task@shared=[align_coral]", "balancer=mgda", "++balancer.at=representation"]
    with pytest.raises(UserError, match=r"grocery/baskets, produce/baskets; set balancer\.at=layer"):
        train(compose([*DOMAINS, *representation, *shop_settings, *SHORT]), tmp_path)
    nowhere = ["task@shared=[align_coral]", "shared.align_coral.across=[grocery/baskets,produce/basket]"]
    with pytest.raises(UserError, match="did you mean 'produce/baskets'"):
        train(compose([*DOMAINS, *nowhere, *shop_settings, *SHORT]), tmp_path)
    twice = ["task@shared=[align_coral]", "shared.align_coral.across=[grocery/baskets,grocery/baskets]"]
    with pytest.raises(UserError, match="each once"):
        train(compose([*DOMAINS, *twice, *shop_settings, *SHORT]), tmp_path)
