"""What `Auto` takes and refuses."""

from __future__ import annotations

import pytest

from graftrec.evaluation.statistics.intervals import FEWEST_SEEDS
from graftrec.transfer.auto import Auto
from graftrec.transfer.joint import Joint
from graftrec.transfer.pretrain_finetune import PretrainFinetune


def test_its_plan_is_that_of_the_strategy_that_it_tries() -> None:
    assert Auto().phases() == Joint().phases()
    assert Auto(epochs=7).phases() == Joint(7).phases()
    assert Auto(strategy=PretrainFinetune()).phases() == PretrainFinetune().phases()
    assert Auto(strengths=[0.1, 1, 0.3, 1]).strengths == (1, 0.3, 0.1)  # the strongest is tried first


def test_its_budget_is_enough_for_three_sources_at_both_strengths_and_together() -> None:
    auto = Auto()
    assert auto.seeds >= FEWEST_SEEDS
    assert auto.trials // auto.seeds >= 1 + 3 * len(auto.strengths) + 1
    assert (Auto(seeds=3, trials=6).seeds, Auto(seeds=3, trials=6).trials) == (3, 6)


def test_what_it_refuses() -> None:
    for seeds in (1, 2):
        with pytest.raises(ValueError, match=f"seeds should be at least 3: .* Found {seeds}"):
            Auto(seeds=seeds)
    with pytest.raises(ValueError, match=r"trials should be at least 6: 3 without a source and 3 with one\. Found 5"):
        Auto(trials=5, seeds=3)
    with pytest.raises(ValueError, match="trials should be at least 1"):
        Auto(trials=0)
    for strengths in ([], [0.0], [1.5], [float("nan")]):
        with pytest.raises(ValueError, match=r"strengths should be in \(0, 1\]"):
            Auto(strengths=strengths)
    with pytest.raises(ValueError, match="epochs=null"):
        Auto(epochs=3, strategy=PretrainFinetune())
    with pytest.raises(ValueError, match="auto itself"):
        Auto(strategy=Auto())
