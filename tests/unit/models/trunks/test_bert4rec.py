"""BERT4Rec against its equations, and that what is hidden stays so."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from sequences import COUNTS, LENGTH, WIDTH, encoded, events_of, holds_its_equations, takes_any_length
from torch import Tensor

from graftrec.data.batch import Encoded
from graftrec.models.layers.packed_sequences import AttentionBlock
from graftrec.models.trunks.bert4rec import BERT4Rec


def trunk(positions: int = 50) -> BERT4Rec:
    torch.manual_seed(0)
    return BERT4Rec(WIDTH, True, positions=positions).eval()


def given() -> Encoded:
    """The newest event of each sequence is hidden, and one before it of those that are long enough."""
    e = encoded()
    assert e.mask is not None
    place = torch.arange(LENGTH)
    return replace(e, hidden=e.mask & ((place == LENGTH - 1) | (place == 3)))


def naive(block: AttentionBlock, x: Tensor) -> Tensor:
    """One sequence (n, D), one head after another, one event after another, which sees all."""
    q, k, v = block.inputs(block.before(x)).chunk(3, -1)
    size = WIDTH // block.heads
    found = torch.zeros_like(x)
    for head in range(block.heads):
        part = slice(head * size, (head + 1) * size)
        for i in range(len(x)):
            found[i, part] = ((k[:, part] @ q[i, part]) / size**0.5).softmax(0) @ v[:, part]
    x = x + block.out(found)
    return x + block.back(F.relu(block.forth(block.between(x))))  # type: ignore[no-any-return]


@pytest.mark.parametrize("positions", [50, 2])
def test_it_is_its_equations(positions: int) -> None:
    model, e = trunk(positions).double(), given()
    assert e.hidden is not None
    norm, linear, _ = model.out
    expected = []
    for x, hidden, count in zip(events_of(e), e.hidden, COUNTS, strict=True):
        seen = [model.hidden if hide else event for event, hide in zip(x, hidden[LENGTH - count :], strict=True)]
        if not seen:
            expected.append(x)
            continue
        place = model.stack.positions.weight[[min(count - 1 - i, positions - 1) for i in range(count)]]
        x = torch.stack(seen) * WIDTH**0.5 + place
        for block in model.stack.blocks:
            x = naive(block, x)
        x = linear(norm(x))
        expected.append(x * (1 + torch.erf(x / math.sqrt(2))) / 2)
    holds_its_equations(model(e, ["next"])["next"], expected)


def test_what_is_hidden_is_not_read_and_all_else_is() -> None:
    model, e = trunk().double(), given()
    assert e.history is not None
    assert e.hidden is not None
    history = e.history.clone().requires_grad_(True)
    for last in (False, True):
        z = model(replace(e, history=history, last=last), ["next"])["next"][:, -1]
        for row, count in enumerate(COUNTS):
            (slope,) = torch.autograd.grad(z[row].square().sum(), history, retain_graph=True)
            read = slope.abs().sum(2) > 0
            assert not read[[other for other in range(len(COUNTS)) if other != row]].any()
            assert torch.equal(read[row], (torch.arange(LENGTH) >= LENGTH - count) & ~e.hidden[row])
    other = torch.where(e.hidden[..., None], e.history + torch.randn_like(e.history), e.history)
    assert torch.equal(model(replace(e, history=other), ["next"])["next"], model(e, ["next"])["next"])


@pytest.mark.parametrize("length", [1, 5000])
def test_any_length_works(length: int) -> None:
    takes_any_length(trunk(), length)


def test_where_nothing_is_hidden_it_says_what_to_set() -> None:
    with pytest.raises(ValueError, match=r"history\.mask=0\.2 \(cloze training\)"):
        trunk().double()(encoded(), ["next"])
