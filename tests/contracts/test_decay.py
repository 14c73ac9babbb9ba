"""Weight decay pulls matrices and tables alone: norms, biases, gates, stitches and learned log weights stay."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_contracts import TOLD, D, make
from torch import nn

from discovery import classes
from graftrec.models.layers.numeric_embeddings import Age, Periodic
from graftrec.models.layers.weight_decay import undecayed
from graftrec.training.optimizers.groups import spare
from graftrec.training.optimizers.rowwise import RowWise

# Matrices and tables, which may decay. What has two axes and stands neither here nor in its module's ``no_decay`` is
# undecided: say which it is.
MATRICES = {
    "BatchedLinear": {"weight"},
    "Routes": {"weight"},
    "Centre": {"weight"},
    "Domains": {"offset"},  # of a domain's weights and norms: 0 is what all share
    "EPNet": {"domains"},
    "Tables": {"block_8"},
    "Age": {"weight"},
    "Periodic": {"frequencies"},
}


PACKAGES = ("models.trunks", "models.heads", "models.interactions", "training.balancers")


def parts() -> list[nn.Module]:
    """One of every trunk, head, interaction and balancer, and what an encoder is made of."""
    torch.manual_seed(0)
    known: dict[str, Any] = {
        **TOLD, "history": True, "in_dim": D, "item_dim": D, "cross_dim": 2, "classes": 1, "seed": 0,
    }  # fmt: skip
    made = [make(cls, **known) for package in PACKAGES for cls in classes(package)]
    return [*made, Age(D), Periodic(2, D), nn.LayerNorm(D)]


PARTS = parts()


def named(part: nn.Module) -> str:
    return type(part).__name__


@pytest.mark.parametrize("part", PARTS, ids=named)
@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, RowWise])
def test_without_a_gradient_only_matrices_move(part: nn.Module, optimizer: type[torch.optim.Optimizer]) -> None:
    trained = [parameter for parameter in part.parameters() if parameter.requires_grad]
    if not trained:
        return
    rule = optimizer(trained, lr=0.1, weight_decay=0.5)  # type: ignore[call-arg]
    spare(rule, undecayed(part))
    assert sum(len(group["params"]) for group in rule.param_groups) == len(trained)
    before = {name: parameter.detach().clone() for name, parameter in part.named_parameters()}
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    rule.step()
    for name, parameter in part.named_parameters():
        stays = id(parameter) in {id(one) for one in undecayed(part)} or not before[name].any()
        assert torch.equal(parameter, before[name]) == stays, name
        parameter.data.copy_(before[name])


@pytest.mark.parametrize("part", PARTS, ids=named)
def test_every_parameter_of_two_axes_is_a_matrix_or_named_in_no_decay(part: nn.Module) -> None:
    spared = {id(parameter) for parameter in undecayed(part)}
    for module in part.modules():
        if not type(module).__module__.startswith("graftrec"):
            continue
        raw = dict(module.named_parameters(recurse=False))
        raw |= {
            name: parameter
            for name, several in module.named_children()
            if isinstance(several, nn.ParameterList)
            for parameter in several
        }
        for name, parameter in raw.items():
            decays = MATRICES.get(type(module).__name__, set())
            assert id(parameter) in spared or name in decays, f"{type(module).__name__}.{name}"


def test_no_decay_names_parameters() -> None:
    class Wrong(nn.Linear):
        no_decay = ("wight",)

    with pytest.raises(TypeError, match="no_decay of Wrong"):
        undecayed(Wrong(2, 2))


def test_what_every_one_axis_parameter_is() -> None:
    norm = nn.LayerNorm(D)
    assert {id(p) for p in undecayed(norm)} == {id(norm.weight), id(norm.bias)}
