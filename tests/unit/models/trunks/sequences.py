"""Sequences that the tests of sequential trunks share."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from graftrec.data.batch import Encoded
from graftrec.models.trunks.base import Trunk

WIDTH, LENGTH = 8, 6
COUNTS = (6, 3, 1, 0, 4)


def encoded() -> Encoded:
    """As many sequences as there are `COUNTS`, in float64."""
    random = torch.Generator().manual_seed(0)
    history = torch.randn(len(COUNTS), LENGTH, WIDTH, generator=random, dtype=torch.float64)
    mask = torch.arange(LENGTH) >= LENGTH - torch.tensor(COUNTS)[:, None]
    return Encoded(history.new_zeros(len(COUNTS), 0, WIDTH), history, mask)


def events_of(e: Encoded) -> list[Tensor]:
    """Each sequence alone, (n, D), without its padding."""
    assert e.history is not None
    return [rows[LENGTH - count :] for rows, count in zip(e.history, COUNTS, strict=True)]


def holds_its_equations(z: Tensor, expected: list[Tensor]) -> None:
    """z (B, L, D) has what is expected of each sequence alone, (n, D), and zeros where there is no event."""
    for row, count in enumerate(COUNTS):
        assert not z[row, : LENGTH - count].any()
        torch.testing.assert_close(z[row, LENGTH - count :], expected[row])


def looks_at_nothing_later(trunk: Trunk, e: Encoded) -> None:
    """Changing an event, and its time, changes its own z and what follows, and nothing before."""
    assert e.history is not None
    z = trunk(e, ["next"])["next"]
    for changed in range(1, LENGTH):
        history, times = e.history.clone(), None if e.times is None else e.times.clone()
        history[:, changed:] += torch.linspace(-1, 1, WIDTH)  # the same everywhere would be undone by a norm
        if times is not None:
            times[:, changed:] += 100_000
        other = trunk(replace(e, history=history, times=times), ["next"])["next"]
        torch.testing.assert_close(other[:, :changed], z[:, :changed], rtol=0, atol=1e-12)
        assert not torch.isclose(other[0, changed:], z[0, changed:]).all(1).any()


def takes_any_length(trunk: Trunk, length: int) -> None:
    """Sequences of ``length``, and empty ones of that shape, give finite numbers in either way of asking."""
    there = torch.ones(2, length, dtype=torch.bool)
    times = 1000 * torch.arange(length).repeat(2, 1)
    hidden = torch.arange(length) == length - 1
    for mask in (there, ~there):
        e = Encoded(torch.zeros(2, 0, WIDTH), torch.randn(2, length, WIDTH), mask, times=times)
        e = replace(e, hidden=mask & hidden if trunk.cloze else None)
        with torch.no_grad():
            whole, last = (trunk(replace(e, last=last), ["next"])["next"] for last in (False, True))
        assert whole.shape == (2, length, trunk.out_dim)
        assert whole.isfinite().all()
        assert last.isfinite().all()
        if length and mask.any():
            torch.testing.assert_close(last, whole[:, -1:], atol=1e-5, rtol=1e-4)
