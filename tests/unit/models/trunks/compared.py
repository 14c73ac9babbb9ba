"""What the trunks that compare a history with an item are worked out with: one row, one event after another."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from graftrec.data.batch import Encoded
from graftrec.models.trunks.base import Trunk

WIDTH, LENGTH = 4, 6
COUNTS = (6, 3, 1, 0, 4)
USER, ITEM = 1, 2
STREAMS = {"s": ["numbers", "user", "item"], "other": ["item", "user", "numbers"]}
EMPTY = COUNTS.index(0)


def made(cls: type[Any], streams: dict[str, list[str]] | None = None, history: bool = True, **more: Any) -> Trunk:
    """A trunk in float64, so that a wrong term cannot hide in rounding."""
    torch.manual_seed(0)
    trunk: Trunk = cls(3, WIDTH, history, streams or STREAMS, hidden=(5,), **more).double().eval()
    return trunk


def encoded() -> Encoded:
    """Rows with histories of all lengths, the newest event last."""
    random = torch.Generator().manual_seed(0)
    fields = torch.randn(len(COUNTS), 3, WIDTH, generator=random, dtype=torch.float64)
    history = torch.randn(len(COUNTS), LENGTH, WIDTH, generator=random, dtype=torch.float64)
    mask = torch.arange(LENGTH) >= LENGTH - torch.tensor(COUNTS)[:, None]
    items = torch.randn(len(COUNTS), LENGTH, WIDTH, generator=random, dtype=torch.float64)
    return Encoded(fields, history, mask, stream="s", items=items)


def rows(e: Encoded) -> list[tuple[Tensor, list[Tensor]]]:
    """Of each row its fields (F, D) and its events, each (D,)."""
    assert e.history is not None
    events = [list(e.history[row, LENGTH - count :]) for row, count in enumerate(COUNTS)]
    return list(zip(e.fields, events, strict=True))


def items(e: Encoded) -> list[list[Tensor]]:
    """Of each row the items of its events alone, each (D,)."""
    assert e.items is not None
    return [list(e.items[row, LENGTH - count :]) for row, count in enumerate(COUNTS)]


def layers(net: nn.Module, x: Tensor, relu_last: bool) -> Tensor:
    """The linear layers of a network, ReLU between them, and behind the last if asked."""
    linear = [layer for layer in net.modules() if isinstance(layer, nn.Linear)]
    for layer in linear:
        x = layer.weight @ x + layer.bias
        if relu_last or layer is not linear[-1]:
            x = x.clamp_min(0)
    return x


def activation(unit: nn.Module, event: Tensor, query: Tensor) -> Tensor:
    return layers(unit, torch.cat([event, query, event - query, event * query]), relu_last=False)[0]


def attention(unit: nn.Module, events: list[Tensor], query: Tensor) -> Tensor:
    """Of events by a learned map of them, zeros where there is none."""
    scores = [activation(unit.activation, unit.key.weight @ event, query) for event in events]
    return mixed(scores, events)


def mixed(scores: list[Tensor], events: list[Tensor]) -> Tensor:
    """Sum of events by exp(score) / sum of exp(score)."""
    total = sum(score.exp() for score in scores)
    found = torch.zeros(WIDTH, dtype=torch.float64)
    for score, event in zip(scores, events, strict=True):
        found = found + score.exp() / total * event
    return found


def gates(cell: nn.Module, x: Tensor, h: Tensor, of: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """What input and state give to each gate of a recurrent layer."""
    given = (cell.weight_ih_l0 @ x + cell.bias_ih_l0).split(WIDTH)
    state = (cell.weight_hh_l0 @ h + cell.bias_hh_l0).split(WIDTH)
    assert len(given) == of
    return given, state


def gru(cell: nn.Module, events: list[Tensor], start: Tensor | None = None) -> list[Tensor]:
    h, states = torch.zeros(WIDTH, dtype=torch.float64) if start is None else start, []
    for event in events:
        (r, u, n), (hr, hu, hn) = gates(cell, event, h, 3)
        reset, keep = 1 / (1 + (-r - hr).exp()), 1 / (1 + (-u - hu).exp())
        h = keep * h + (1 - keep) * (n + reset * hn).tanh()
        states.append(h)
    return states


def check_it_compares(trunk: Trunk) -> None:
    """The field named item changes what is read of a history, not of an empty one; padding is not read."""
    e = encoded()
    assert e.history is not None
    assert e.mask is not None
    seen: list[Tensor] = []
    trunk.fuse[0].register_forward_pre_hook(lambda module, given: seen.append(given[0][:, 3 * WIDTH :]))
    z = trunk(e, ["a", "b"])
    assert list(z) == ["a", "b"]
    assert z["a"].isfinite().all()
    other = e.fields.clone()
    other[:, ITEM] = other[:, ITEM].roll(1, 0)
    trunk(replace(e, fields=other), ["a"])
    pooled, changed = seen
    assert not pooled[EMPTY].any()
    assert not changed[EMPTY].any()
    several = [row for row, count in enumerate(COUNTS) if count > 1]
    assert (pooled - changed)[several].abs().amax(1).min() > 1e-9

    padded = torch.where(e.mask[..., None], e.history, 9.0)
    torch.testing.assert_close(trunk(replace(e, history=padded), ["a"])["a"], z["a"])


def check_streams(trunk: Trunk) -> None:
    """Where a stream has the item elsewhere, the same is read of a history."""
    e = encoded()
    seen: list[Tensor] = []
    trunk.fuse[0].register_forward_pre_hook(lambda module, given: seen.append(given[0][:, 3 * WIDTH :]))
    trunk(e, ["a"])
    trunk(replace(e, fields=e.fields.flip(1), stream="other"), ["a"])
    torch.testing.assert_close(seen[1], seen[0])


def check_gradients(trunk: Trunk) -> None:
    """Every parameter is trained, as processes that exchange gradients need it, and an empty history breaks none."""
    trunk(encoded(), ["a"])["a"].pow(2).sum().backward()
    for name, parameter in trunk.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
