"""No option of a balancer or a loss is without an effect: each argument, moved, changes a weight, a loss or a slope."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import Parameter
from typing import Any, get_args

import pytest
import torch
from test_contracts import SANE, fitting, make, name_of, output_of, pulls
from torch import Tensor

from discovery import classes
from graftrec.config.instantiate import arguments, settable
from graftrec.tasks.losses.base import Loss
from graftrec.tasks.losses.bce import Bce
from graftrec.training.balancers.base import Balancer, Place
from graftrec.training.balancers.sum import Sum

TASKS = ["a", "b", "c", "d"]
PLACES: tuple[Place, ...] = get_args(Place)
MOVES: dict[str, tuple[Any, ...]] = {  # option -> legal values beside its default; numbers are moved by themselves
    "at": ("representation", "trunk"),
    "look": ("next",),
    "Fixed.weights": ({"b": 0.5},),
    "Dwa.every": (1,),
    "CrossEntropy.class_weights": ([1.0, 2.0, 1.0, 1.0, 1.0, 0.5],),
    "Gbce.rate": (0.2,),
    "Quantile.quantiles": ([0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9],),
}
BESIDE = {"Dwa": {"every": 2}, "Stch": {"warmup": 2}, "Gbce": {"rate": 0.4}}
"""What is here so that others are reached in a few steps, or are of use."""


def options(package: str) -> Iterator[Any]:
    for cls in classes(package):
        defaults = BESIDE.get(cls.__name__, {})
        for name in options_of(cls):
            given = defaults.get(name, arguments(cls)[name].default)
            for value in moved(cls, name, given):
                yield pytest.param(cls, name, value, id=f"{cls.__name__}-{name}={value}")


def options_of(cls: type[Any]) -> list[str]:
    takes = arguments(cls)
    return [name for name in settable(cls) if takes[name].kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)]


def moved(cls: type[Any], name: str, default: Any) -> tuple[Any, ...]:
    """Legal values of an option that are not its default."""
    for key in (f"{cls.__name__}.{name}", name):
        if key in MOVES:
            return MOVES[key]
    if isinstance(default, bool):
        return (not default,)
    if isinstance(default, int):
        return (default + 1,)
    if isinstance(default, float):
        return (default / 2 or 0.3,)
    raise TypeError(f"{cls.__name__}.{name} has no other value here: add it to MOVES. Found {default!r}.")


def course(balancer: Balancer) -> Tensor:
    """Scalars and weights of eight steps, each with a second look; gradients are others at each place."""
    found = []
    for step in range(8):
        losses, gramian = pulls(len(TASKS), 10 * step + PLACES.index(balancer.at))
        losses = pulls(len(TASKS), step)[0].requires_grad_()
        total = balancer(losses, gramian if balancer.needs_gramian else None)
        found += [total.detach()[None], *torch.autograd.grad(total, losses)]
        if balancer.looks_again:
            balancer.look(losses.detach() * torch.tensor([0.9, 1.0, 0.8, 1.1], dtype=losses.dtype))
    return torch.cat([part.double() for part in found])


def measures(loss: Loss) -> Tensor:
    """Losses, their slopes and where a bias starts, of every kind of output and label that a loss is for."""
    found = [torch.tensor([loss.start(3)])]
    for kind in fitting(loss):
        output, label = output_of(loss, kind, SANE[kind][0]).clone().requires_grad_(), SANE[kind][1]
        values, counted = loss.measure(output, label, torch.ones_like(label, dtype=torch.bool))
        (slope,) = torch.autograd.grad(values[counted].sum(), output)
        found += [values.detach().flatten(), slope.flatten()]
    return torch.cat([part.double() for part in found])


def changes(cls: type[Any], name: str, value: Any) -> bool:
    """Whether an option, moved to ``value``, changes anything."""
    own = BESIDE.get(cls.__name__, {})
    of = course if issubclass(cls, Balancer) else measures
    found = [of(make(cls, **{"tasks": TASKS, **own, **more})) for more in ({}, {}, {name: value})]
    assert torch.equal(found[0], found[1])  # nothing else moves
    return not torch.equal(found[0], found[2])


@pytest.mark.parametrize(("cls", "name", "value"), [*options("training.balancers"), *options("tasks.losses")])
def test_an_option_changes_a_weight_or_a_loss(cls: type[Any], name: str, value: Any) -> None:
    assert changes(cls, name, value)


def test_an_option_without_an_effect_is_found() -> None:
    class DeafSum(Sum):
        def __init__(self, strength: float = 1.0) -> None:
            super().__init__()

    class DeafBce(Bce):
        def __init__(self, strength: float = 1.0) -> None:
            super().__init__()

    assert not changes(DeafSum, "strength", 2.0)
    assert not changes(DeafBce, "strength", 2.0)


@pytest.mark.parametrize("cls", [*classes("training.balancers"), *classes("tasks.losses")], ids=name_of)
def test_every_option_has_its_meaning_told(cls: type[Any]) -> None:
    said = cls.__doc__ or ""
    _, _, told = said.partition("Args:")
    missing = [name for name in options_of(cls) if f"{name}:" not in told]
    assert not missing, missing


@pytest.mark.parametrize("cls", classes("training.balancers"), ids=name_of)
def test_what_a_balancer_learns_does_not_decay(cls: type[Balancer]) -> None:
    """Log weights have one axis, or are named: decay would pull each weight to that of a loss of another size."""
    exempt = getattr(cls, "no_decay", ())
    for name, part in make(cls, tasks=TASKS).named_parameters():
        assert part.ndim <= 1 or name in exempt
