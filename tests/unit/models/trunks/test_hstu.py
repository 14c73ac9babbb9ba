"""HSTU against its equations, and that it never looks ahead."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from sequences import (
    COUNTS,
    LENGTH,
    WIDTH,
    encoded,
    events_of,
    holds_its_equations,
    looks_at_nothing_later,
    takes_any_length,
)
from torch import Tensor

from graftrec.data.batch import Encoded
from graftrec.models.trunks import hstu
from graftrec.models.trunks.hstu import HSTU, PointwiseBlock, Times

YEAR = 365 * 86_400_000  # milliseconds


def trunk(positions: int = 200) -> HSTU:
    torch.manual_seed(0)
    model = HSTU(WIDTH, True, positions=positions).eval()
    for block in model.blocks:  # biases that matter
        torch.nn.init.normal_(block.place)
        torch.nn.init.normal_(block.time)
    return model


def given(timed: bool = True) -> Encoded:
    """Events between milliseconds and years apart, some of them at the same time."""
    steps = torch.tensor([0, 0, 1_999, 2_000, 26_000_000_003, 77_760_000_000])
    times = (10 * YEAR + steps.cumsum(0)).repeat(len(COUNTS), 1)
    return replace(encoded(), times=times if timed else None)


def naive(block: PointwiseBlock, x: Tensor, times: Tensor | None) -> Tensor:
    """One sequence (n, D), one head after another, one pair of events after another."""
    u, v, q, k = F.silu(block.inputs(block.before(x))).chunk(4, -1)
    size = WIDTH // block.heads
    found = torch.zeros_like(x)
    for head in range(block.heads):
        part = slice(head * size, (head + 1) * size)
        for i in range(len(x)):
            for j in range(i + 1):
                bias = block.place[min(i - j, len(block.place) - 1)]
                if times is not None:
                    seconds = max(1.0, int(times[i] - times[j]) / 1000)
                    bias = bias + block.time[min(math.floor(2 * math.log2(seconds)), 63)]
                score = q[i, part] @ k[j, part] + bias
                found[i, part] += score / (1 + torch.exp(-score)) / (i + 1) * v[j, part]
    return x + block.out(block.between(found) * u)  # type: ignore[no-any-return]


@pytest.mark.parametrize("scores", [1 << 24, 1])  # all at once, and a query at a time
@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("positions", [200, 2])
def test_it_is_its_equations(positions: int, timed: bool, scores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hstu, "SCORES", scores)
    model, e = trunk(positions).double(), given(timed)
    expected = []
    for row, x in enumerate(events_of(e)):
        x = x * WIDTH**0.5
        for block in model.blocks:
            x = naive(block, x, None if e.times is None else e.times[row, LENGTH - len(x) :])
        expected.append(model.norm(x))
    z = model(e, ["next"])["next"]
    holds_its_equations(z, expected)
    torch.testing.assert_close(model(replace(e, last=True), ["next"])["next"][:3], z[:3, -1:])


def test_a_query_at_a_time_has_the_same_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    model, e = trunk().double(), given()
    gradients = []
    for scores in (1 << 24, 1):
        monkeypatch.setattr(hstu, "SCORES", scores)
        loss = model(e, ["next"])["next"].pow(3).sum()
        gradients.append(torch.autograd.grad(loss, [*model.parameters()]))
    for one, other in zip(*gradients, strict=True):
        assert one.abs().sum() > 0
        torch.testing.assert_close(one, other)


def test_every_second_is_in_its_bucket_years_after_the_first() -> None:
    seconds = torch.cat([torch.arange(5_000), 2 ** torch.arange(32), 2 ** torch.arange(1, 32) - 1])
    times = Times(10 * YEAR + 1000 * torch.stack([torch.zeros_like(seconds), seconds], 1))
    found = times.buckets(torch.ones(1, 1, dtype=torch.int64), 1)[:, 0, 0].tolist()
    # k is the largest number with 2^k <= seconds^2
    assert found == [max(0, (int(second) ** 2).bit_length() - 1) for second in seconds]


def test_buckets_are_made_once_for_all_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, ...]] = []
    real = torch.bucketize
    monkeypatch.setattr(torch, "bucketize", lambda x, *more, **named: made.append(x.shape) or real(x, *more, **named))
    model = HSTU(WIDTH, True, layers=4).double()
    model(given(), ["next"])
    assert made == [(len(COUNTS), LENGTH, LENGTH)]


def test_what_comes_later_changes_nothing_before() -> None:
    for timed in (True, False):
        looks_at_nothing_later(trunk().double(), given(timed))


@pytest.mark.parametrize("length", [1, 5000])
def test_any_length_works(length: int) -> None:
    takes_any_length(trunk(), length)


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of"):
        HSTU(WIDTH, True, heads=3)
    with pytest.raises(ValueError, match="Found 0 and 200"):
        HSTU(WIDTH, True, layers=0)


def test_hidden_events_are_refused() -> None:
    e = encoded()
    with pytest.raises(ValueError, match=r"history\.mask=0 or trunk=bert4rec"):
        trunk().double()(replace(e, hidden=e.mask), ["next"])
