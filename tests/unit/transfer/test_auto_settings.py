"""What `Auto` takes and refuses."""

from __future__ import annotations

import pytest

from graftrec.transfer.auto import Auto
from graftrec.transfer.joint import Joint
from graftrec.transfer.pretrain_finetune import PretrainFinetune


def test_its_plan_is_that_of_the_strategy_that_it_tries() -> None:
    assert Auto().phases() == Joint().phases()
    assert Auto(epochs=7).phases() == Joint(7).phases()
    assert Auto(strategy=PretrainFinetune()).phases() == PretrainFinetune().phases()
    assert Auto(strengths=[0.1, 1, 0.3, 1]).strengths == (1, 0.3, 0.1)  # the strongest is tried first


def test_what_it_refuses() -> None:
    with pytest.raises(ValueError, match="one of them with no source"):
        Auto(trials=1)
    for strengths in ([], [0.0], [1.5], [float("nan")]):
        with pytest.raises(ValueError, match=r"strengths should be in \(0, 1\]"):
            Auto(strengths=strengths)
    with pytest.raises(ValueError, match="epochs=null"):
        Auto(epochs=3, strategy=PretrainFinetune())
    with pytest.raises(ValueError, match="auto itself"):
        Auto(strategy=Auto())
