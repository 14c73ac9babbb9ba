"""SASRec against its equations, and that it never looks ahead."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from graftrec.data.batch import Encoded
from graftrec.models.layers.packed_sequences import AttentionBlock, Packed
from graftrec.models.trunks.sasrec import SASRec

WIDTH, LENGTH = 8, 6
COUNTS = (6, 3, 1, 0, 4)


def encoded() -> Encoded:
    random = torch.Generator().manual_seed(0)
    history = torch.randn(len(COUNTS), LENGTH, WIDTH, generator=random)
    mask = torch.arange(LENGTH) >= LENGTH - torch.tensor(COUNTS)[:, None]
    return Encoded(torch.zeros(len(COUNTS), 0, WIDTH), history, mask)


def trunk(positions: int = 50, **more: int) -> SASRec:
    torch.manual_seed(0)
    return SASRec(WIDTH, True, positions=positions, **more).eval()


def naive(block: AttentionBlock, x: Tensor) -> Tensor:
    """One sequence (n, D), one head after another, one event after another."""
    q, k, v = block.inputs(block.before(x)).chunk(3, -1)
    size = WIDTH // block.heads
    found = torch.zeros_like(x)
    for head in range(block.heads):
        part = slice(head * size, (head + 1) * size)
        for i in range(len(x)):
            scores = (k[: i + 1, part] @ q[i, part]) / size**0.5
            found[i, part] = scores.softmax(0) @ v[: i + 1, part]
    x = x + block.out(found)
    return x + block.back(F.relu(block.forth(block.between(x))))  # type: ignore[no-any-return]


@pytest.mark.parametrize("positions", [50, 2])
def test_it_is_its_equations(positions: int) -> None:
    model, e = trunk(positions), encoded()
    assert e.history is not None
    z = model(e, ["next"])["next"]
    for row, count in enumerate(COUNTS):
        assert not z[row, : LENGTH - count].any()
        if not count:
            continue
        x = e.history[row, LENGTH - count :] * WIDTH**0.5
        x = x + model.stack.positions.weight[[min(count - 1 - i, positions - 1) for i in range(count)]]
        for block in model.stack.blocks:
            x = naive(block, x)
        torch.testing.assert_close(z[row, LENGTH - count :], model.norm(x), atol=1e-5, rtol=1e-5)


def test_what_comes_later_changes_nothing_before() -> None:
    model, e = trunk(), encoded()
    assert e.history is not None
    z = model(e, ["next"])["next"]
    for changed in range(1, LENGTH):
        history = e.history.clone()
        history[:, changed:] = history[:, changed:].flip(-1)  # a constant would be normed away
        other = model(replace(e, history=history), ["next"])["next"]
        torch.testing.assert_close(other[:, :changed], z[:, :changed])
        assert not torch.allclose(other[0, changed:], z[0, changed:])


@pytest.mark.parametrize("length", [1, 5000])
def test_any_length_works(length: int) -> None:
    model = trunk(layers=1)
    e = Encoded(torch.zeros(2, 0, WIDTH), torch.randn(2, length, WIDTH), torch.ones(2, length, dtype=torch.bool))
    assert model(replace(e, last=True), ["next"])["next"].isfinite().all()
    empty = replace(e, mask=torch.zeros(2, length, dtype=torch.bool))
    for last in (False, True):
        assert model(replace(empty, last=last), ["next"])["next"].isfinite().all()


def test_packing_is_undone() -> None:
    mask = encoded().mask
    assert mask is not None
    packed, x = Packed(mask), torch.randn(len(COUNTS), LENGTH, 3)
    tokens = packed.tokens(x)
    assert len(tokens) == sum(COUNTS)
    torch.testing.assert_close(packed.sequences(tokens), x * mask[..., None])
    torch.testing.assert_close(packed.unpadded(packed.padded(tokens)), tokens)
    padded = packed.padded(tokens)
    for row, count in enumerate(COUNTS):
        torch.testing.assert_close(padded[row, :count], x[row, LENGTH - count :])
        assert not padded[row, count:].any()
        torch.testing.assert_close(packed.last(tokens)[row], x[row, -1] if count else torch.zeros(3))
