"""GRU4Rec against the equations of its cell, and that it never looks ahead."""

from __future__ import annotations

import pytest
import torch
from sequences import WIDTH, encoded, events_of, holds_its_equations, looks_at_nothing_later, takes_any_length
from torch import Tensor

from graftrec.models.trunks.gru4rec import GRU4Rec


def trunk(hidden: int = 5, layers: int = 2) -> GRU4Rec:
    torch.manual_seed(0)
    return GRU4Rec(WIDTH, True, hidden, layers).eval()


def naive(model: GRU4Rec, x: Tensor, hidden: int, layers: int) -> Tensor:
    """One sequence (n, D), one layer after another, one event after another."""
    for layer in range(layers):
        w, u, b, c = (
            getattr(model.gru, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        reset, update, new = (slice(part * hidden, (part + 1) * hidden) for part in range(3))
        h, states = x.new_zeros(hidden), []
        for event in x:
            r = torch.sigmoid(w[reset] @ event + b[reset] + u[reset] @ h + c[reset])
            kept = torch.sigmoid(w[update] @ event + b[update] + u[update] @ h + c[update])
            n = torch.tanh(w[new] @ event + b[new] + r * (u[new] @ h + c[new]))
            h = kept * h + (1 - kept) * n
            states.append(h)
        x = torch.stack(states) if states else x.new_zeros(0, hidden)
    return x @ model.out.weight.T + model.out.bias


@pytest.mark.parametrize(("hidden", "layers"), [(5, 2), (0, 1)])
def test_it_is_its_equations(hidden: int, layers: int) -> None:
    model, e = trunk(hidden, layers).double(), encoded()
    expected = [naive(model, x * WIDTH**0.5, hidden or WIDTH, layers) for x in events_of(e)]
    holds_its_equations(model(e, ["next"])["next"], expected)


def test_what_comes_later_changes_nothing_before() -> None:
    looks_at_nothing_later(trunk().double(), encoded())


@pytest.mark.parametrize("length", [1, 5000])
def test_any_length_works(length: int) -> None:
    takes_any_length(trunk(), length)


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="Found -1 and 1"):
        GRU4Rec(WIDTH, True, hidden=-1)
    with pytest.raises(ValueError, match="Found 0 and 0"):
        GRU4Rec(WIDTH, True, layers=0)
