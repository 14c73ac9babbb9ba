"""A task may have any name that a file may have, also one of a method of the module that holds the tasks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from graftrec.config.instantiate import LOGGED, problems_of_tree
from graftrec.models.layers.module_names import ByName

NAMES = [name for name in dir(nn.ModuleDict()) if not name.startswith("__")]


def test_every_attribute_of_a_module_is_a_name() -> None:
    assert {"type", "keys", "train", "training", "items", "update", "state_dict", "_modules"} <= set(NAMES)
    made = ByName({name: nn.Linear(1, 1) for name in NAMES})
    assert list(made) == NAMES
    assert set(made.state_dict()) == {f"{name}.{part}" for name in NAMES for part in ("weight", "bias")}
    assert len(list(made.parameters())) == 2 * len(NAMES)
    again = ByName({name: nn.Linear(1, 1) for name in NAMES})
    again.load_state_dict(made.state_dict())
    assert torch.equal(again["type"].weight, made["type"].weight)
    assert not made.eval()["train"].training
    assert made.double()["keys"].weight.dtype == torch.float64


def test_a_name_that_was_taken_is_one_of_a_checkpoint_like_others() -> None:
    """Names in checkpoints are those of torch's own container."""
    theirs = nn.ModuleDict({"buy": nn.Linear(1, 1)})
    assert list(ByName({"buy": nn.Linear(1, 1)}).state_dict()) == list(theirs.state_dict())


@pytest.mark.parametrize("name", [*LOGGED, "a.b"])
def test_names_that_logs_or_checkpoints_would_mix_up(name: str) -> None:
    tree: dict[str, Any] = {"target": {name: {"stream": "s"}}}
    (said,) = problems_of_tree(tree)
    assert said.startswith(f"target.{name}: the name should have no dot, and be none of source, target, shared, total")
