"""Whatever trains is moved: a step in which all tasks take part has a gradient for every weight, and none is 0."""

from __future__ import annotations

from typing import Any

import pytest
from tiny import batches, domains_of, module, plain, scramble, shape_of, step, task_shape
from torch import nn

from discovery import classes
from graftrec.models.interactions.base import Interaction
from graftrec.models.trunks.base import Trunk
from graftrec.models.trunks.shared_bottom import SharedBottom
from graftrec.tasks.base import Task
from graftrec.training.lightning_module import GraftModule


@pytest.fixture(autouse=True)
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GraftModule, "log_dict", lambda *_, **__: None)


def resting(model: GraftModule, given: Any) -> set[str]:
    """Weights that train and that a step of all tasks does not move."""
    scramble(model)
    step(model, given)
    return {
        name
        for name, part in model.named_parameters()
        if part.requires_grad and (part.grad is None or not bool(part.grad.any()))
    }


@pytest.mark.parametrize("cls", classes("models.trunks"), ids=lambda cls: cls.__name__)
def test_every_weight_of_a_trunk_and_its_heads_learns(cls: type[Trunk]) -> None:
    assert not resting(module(cls), batches(shape_of(cls), cloze=cls.cloze))


@pytest.mark.parametrize("cls", classes("tasks"), ids=lambda cls: cls.__name__)
def test_every_weight_of_a_task_learns(cls: type[Task]) -> None:
    assert not resting(plain(cls), batches(task_shape(cls), domains=domains_of(cls)))


@pytest.mark.parametrize("cls", classes("models.interactions"), ids=lambda cls: cls.__name__)
def test_every_weight_under_an_interaction_learns(cls: type[Interaction]) -> None:
    assert not resting(module(SharedBottom, interaction=cls), batches("rows"))


def test_a_weight_that_nothing_reads_is_found() -> None:
    model = module(SharedBottom)
    model.trunk.register_module("spare", nn.Linear(2, 2))
    unused = {"trunk.spare.weight", "trunk.spare.bias"}
    assert resting(model, batches("rows")) == unused
