"""NextItNet against its equations, how far it reaches back, and that it never looks ahead."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from sequences import WIDTH, encoded, events_of, holds_its_equations, looks_at_nothing_later, takes_any_length
from torch import Tensor

from graftrec.data.batch import Encoded
from graftrec.models.trunks.nextitnet import Convolution, NextItNet


def trunk(**more: int) -> NextItNet:
    torch.manual_seed(0)
    return NextItNet(WIDTH, True, dilations=(1, 2), **more).eval()


def naive(convolution: Convolution, x: Tensor, kernel: int, dilation: int) -> Tensor:
    """One sequence (n, D) through torch's own convolution, with zeros in front."""
    taps = convolution.taps.weight.view(WIDTH, kernel, WIDTH).flip(1).transpose(1, 2)  # torch has the oldest first
    before = F.pad(x.T[None], ((kernel - 1) * dilation, 0))
    return F.conv1d(before, taps, convolution.taps.bias, dilation=dilation)[0].T


@pytest.mark.parametrize(("kernel", "repeats"), [(3, 1), (2, 2), (1, 1)])
def test_it_is_its_equations(kernel: int, repeats: int) -> None:
    model, e = trunk(kernel=kernel, repeats=repeats).double(), encoded()
    expected = []
    for x in events_of(e):
        x = x * WIDTH**0.5
        for block, dilation in zip(model.blocks, (1, 2) * repeats, strict=True):
            if not len(x):
                break
            found = F.relu(block.between(naive(block.first, x, kernel, dilation)))
            x = x + F.relu(block.after(naive(block.second, found, kernel, 2 * dilation)))
        expected.append(model.norm(x))
    holds_its_equations(model(e, ["next"])["next"], expected)


def test_it_reaches_back_as_far_as_its_docstring_says() -> None:
    torch.manual_seed(0)
    model, length = NextItNet(WIDTH, True).eval().double(), 70
    history = torch.randn(1, length, WIDTH, dtype=torch.float64, requires_grad=True)
    mask = torch.ones(1, length, dtype=torch.bool)
    e = Encoded(history.new_zeros(1, 0, WIDTH), history, mask, last=True)
    (slope,) = torch.autograd.grad(model(e, ["next"])["next"].square().sum(), history)
    read = slope[0].abs().sum(1) > 0
    assert not read[: length - 61].any()
    assert read[length - 61 :].all()


def test_what_comes_later_changes_nothing_before() -> None:
    looks_at_nothing_later(trunk().double(), encoded())


def test_sequences_do_not_run_into_each_other() -> None:
    model, e = trunk().double(), encoded()
    assert e.history is not None
    history = e.history.clone()
    history[0] += torch.linspace(-1, 1, WIDTH)
    z, other = (model(each, ["next"])["next"] for each in (e, replace(e, history=history)))
    torch.testing.assert_close(z[1:], other[1:], rtol=0, atol=0)


@pytest.mark.parametrize("length", [1, 5000])
def test_any_length_works(length: int) -> None:
    takes_any_length(trunk(), length)


def test_impossible_sizes_are_refused() -> None:
    for wrong in ({"kernel": 0}, {"dilations": ()}, {"dilations": (1, 0)}, {"repeats": 0}):
        with pytest.raises(ValueError, match="should be at least 1"):
            NextItNet(WIDTH, True, **wrong)
