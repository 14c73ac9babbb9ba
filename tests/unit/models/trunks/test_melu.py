"""MeLU against its steps written out for one row at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from compared import LENGTH, STREAMS, WIDTH, encoded, made
from torch import Tensor

from graftrec.data.batch import Encoded
from graftrec.models.trunks.melu import MeLU

VALUES = (1.0, 2.0, 4.0)
BEHAVIOURS = dict.fromkeys(STREAMS, 3)


def told() -> Encoded:
    e = encoded()
    random = torch.Generator().manual_seed(3)
    items = torch.randn(len(e.fields), LENGTH, WIDTH, generator=random, dtype=torch.float64)
    return replace(e, items=items, kinds=1 << torch.randint(0, 3, (len(e.fields), LENGTH), generator=random))


def naive(trunk: MeLU, e: Encoded, row: int) -> Tensor:
    """The decision layers of one user after its steps, by autograd on copies of the weights."""
    assert e.mask is not None
    assert e.items is not None
    assert e.kinds is not None
    layers = [layer for layer in trunk.decide if isinstance(layer, torch.nn.Linear)]
    weights = [part for layer in layers for part in (layer.weight, layer.bias)]
    centre = sum(VALUES) / len(VALUES)

    def f(weights: list[Tensor], x: Tensor) -> Tensor:
        for at in range(0, len(weights), 2):
            x = weights[at] @ x + weights[at + 1]
            x = x.clamp_min(0) if at + 2 < len(weights) else x
        return x

    rows = []
    for at in range(LENGTH):
        if bool(e.mask[row, at]):
            fields = e.fields[row].clone()
            fields[2] = e.items[row, at]
            rows.append((fields.flatten(), VALUES[int(e.kinds[row, at]).bit_length() - 1] - centre))
    for _ in range(trunk.steps if rows else 0):
        loss = torch.stack([(f(weights, x) - r).pow(2).sum() for x, r in rows]).mean()
        slopes = torch.autograd.grad(loss, weights, create_graph=True)
        weights = [part - trunk.rate * slope for part, slope in zip(weights, slopes, strict=True)]
    return f(weights, e.fields[row].flatten())


@pytest.mark.parametrize("steps", [1, 2])
def test_every_row_has_its_own_steps(steps: int) -> None:
    trunk, e = made(MeLU, behaviours=BEHAVIOURS, values=VALUES, steps=steps, rate=0.05), told()
    assert isinstance(trunk, MeLU)
    z = trunk(e, ["a"])["a"]
    assert z.shape == (len(e.fields), 1)
    for row in range(len(e.fields)):
        torch.testing.assert_close(z[row], naive(trunk, e, row))


def test_the_gradient_goes_through_the_steps() -> None:
    trunk, e = made(MeLU, behaviours=BEHAVIOURS, values=VALUES, rate=0.05), told()
    assert isinstance(trunk, MeLU)
    weight = trunk.decide[0].weight
    (ours,) = torch.autograd.grad(trunk(e, ["a"])["a"].sum(), weight)
    (theirs,) = torch.autograd.grad(torch.stack([naive(trunk, e, row) for row in range(len(e.fields))]).sum(), weight)
    torch.testing.assert_close(ours, theirs)
    assert e.items is not None
    items = e.items.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(trunk(replace(e, items=items), ["a"])["a"].sum(), items)
    assert bool((gradient.abs().sum(2) > 0)[e.mask].any())  # what only the support has learns as well
    assert not bool(gradient[~e.mask].any())  # type: ignore[operator]


def test_an_evaluation_takes_the_same_steps() -> None:
    trunk, e = made(MeLU, behaviours=BEHAVIOURS, values=VALUES), told()
    expected = trunk(e, ["a"])["a"]
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            torch.testing.assert_close(trunk(e, ["a"])["a"], expected.detach())


def test_wrong_values_are_refused() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"values": VALUES, "rate": 0.0}, "rate"),
        ({"values": VALUES, "steps": 0}, "steps"),
        ({"values": VALUES[:2]}, "the 3 behaviours of stream 's'"),
        ({}, "the 3 behaviours"),  # five stars by default
    ]
    for settings, words in wrong:
        with pytest.raises(ValueError, match=words):
            MeLU(3, WIDTH, True, STREAMS, BEHAVIOURS, **settings)
    for told in ({}, {"s": 3, "other": 1}):
        with pytest.raises(ValueError, match=r"does not say: the dataset should have several .*dataset\.events"):
            made(MeLU, behaviours=told, values=VALUES)
    with pytest.raises(ValueError, match="without the events' behaviours"):
        made(MeLU, behaviours=BEHAVIOURS, values=VALUES)(encoded(), ["a"])
    with pytest.raises(ValueError, match="interaction=none"):  # which adds a field
        MeLU(4, WIDTH, True, STREAMS, BEHAVIOURS, VALUES)


def test_behaviours_are_worth_what_values_say() -> None:
    trunk = MeLU(3, WIDTH, True, STREAMS, BEHAVIOURS, VALUES)
    found = trunk._worth(torch.tensor([[1, 2, 4, 3, 7]]))  # the last two are several at once
    torch.testing.assert_close(found, torch.tensor([[1.0, 2, 4, 2, 4]]) - 7 / 3)
