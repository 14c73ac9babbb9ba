"""A history seen from what is asked about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from graftrec.data.batch import Encoded
from graftrec.models.layers.mlp import mlp
from graftrec.models.layers.packed_sequences import Packed


def places(argument: str, field: str, streams: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Stream -> where the field that ``argument`` names is among its fields.

    Raises:
        ValueError: a stream without it, as rankings are, whose items are candidates.
    """
    for stream, names in streams.items():
        if field not in names:
            raise ValueError(
                f"{argument} should name a field of stream '{stream}', {list(names)}. Found '{field}'. Rows have the "
                "item asked about as a field, and rankings ask about many at once: use tasks that read rows."
            )
    return {stream: list(names).index(field) for stream, names in streams.items()}


def asked(encoded: Encoded, at: Mapping[str, int]) -> Tensor:
    """The field (B, D) whose place in each stream is ``at``."""
    if encoded.stream not in at:
        raise ValueError(f"stream should be one of {list(at)}. Found '{encoded.stream}'.")
    return encoded.fields[:, at[encoded.stream]]


def asked_plainly(encoded: Encoded, at: Mapping[str, int]) -> Tensor:
    """The same field (B, D) as it was before dropout."""
    plain = encoded.fields if encoded.plain is None else encoded.plain
    return asked(replace(encoded, fields=plain), at)


def must_have_history(trunk: str, history: bool) -> None:
    """ValueError unless there is one."""
    if not history:
        raise ValueError(
            f"The {trunk} trunk reads a history, and these streams have none: use protocol=long_short_term, "
            "or trunk=shared_bottom."
        )


def events_of(encoded: Encoded) -> tuple[Tensor, Tensor]:
    """The history and its mask, (B, L, D) and (B, L)."""
    if encoded.history is None or encoded.mask is None:
        raise ValueError("The trunk got a batch without a history.")
    return encoded.history, encoded.mask


def items_of(encoded: Encoded) -> Tensor:
    """The items of the events alone (B, L, D), without age, behaviour and dropout."""
    if encoded.items is None:
        raise ValueError("The trunk compares items, and got a batch without the items of its history.")
    return encoded.items


def from_start(encoded: Encoded) -> tuple[Tensor, Tensor]:
    """Each history from its first event, (B, M, D), and (B, M) bool where there is one; M is the longest.

    What reads it in order needs no mask: padding comes behind all events.
    """
    history, mask = events_of(encoded)
    packed = Packed(mask)
    return packed.padded(packed.tokens(history)), packed.there()


def items_from_start(encoded: Encoded) -> Tensor:
    """The items alone of the events that `from_start` gives: (B, M, D)."""
    return from_start(replace(encoded, history=items_of(encoded)))[0]


def softmax(scores: Tensor, there: Tensor) -> Tensor:
    """Over the last axis, of those scores that are ``there``; zeros for the others, and for all where there is none."""
    return scores.masked_fill(~there, torch.finfo(scores.dtype).min).softmax(-1) * there


def weighted(weights: Tensor, events: Tensor) -> Tensor:
    """Sum of events (B, M, D), each times its weight (B, M): (B, D)."""
    return torch.bmm(weights[:, None], events).squeeze(1)


class Activation(nn.Module):
    """w_j = MLP([x_j; q; x_j - q; x_j * q]): events (B, M, D) and a query (B, D) -> (B, M).

    The activation unit of DIN (G. Zhou et al., KDD 2018, https://arxiv.org/abs/1706.06978, figure 2), see `DIN`.

    Args:
        width: D. attention: widths of the MLP before its last layer, at least one, each at least 1.

    Raises:
        ValueError: no width, or one below 1.
    """

    def __init__(self, width: int, attention: Sequence[int]) -> None:
        super().__init__()
        if not attention or min(attention) < 1:
            raise ValueError(f"attention should be a list of widths of at least 1. Found {list(attention)}.")
        self.net = nn.Sequential(*mlp(4 * width, attention), nn.Linear(attention[-1], 1))

    def forward(self, events: Tensor, query: Tensor) -> Tensor:
        q = query[:, None].expand_as(events)
        weights: Tensor = self.net(torch.cat([events, q, events - q, events * q], 2))
        return weights.squeeze(2)


class Attention(nn.Module):
    """sum_j a_j x_j, a = softmax_j(activation(W x_j, q)); zeros for an empty history.

    The attention of SLi-Rec (Z. Yu et al., IJCAI 2019, https://doi.org/10.24963/ijcai.2019/585) and of CLSR (Y. Zheng
    et al., WWW 2022, https://arxiv.org/abs/2202.13090).

    Args:
        width: D. attention: see `Activation`.
    """

    def __init__(self, width: int, attention: Sequence[int]) -> None:
        super().__init__()
        self.key = nn.Linear(width, width, bias=False)
        self.activation = Activation(width, attention)

    def forward(self, events: Tensor, query: Tensor, there: Tensor) -> Tensor:
        """(B, M, D), (B, D) and (B, M) -> (B, D)."""
        return weighted(softmax(self.activation(self.key(events), query), there), events)


def last(states: Tensor, there: Tensor) -> Tensor:
    """Of states (B, M, D), from each history's start, the one after its last event; zeros for an empty history."""
    count = there.sum(1)
    at = (count - 1).clamp_min(0)[:, None, None].expand(-1, 1, states.shape[2])
    return states.gather(1, at).squeeze(1) * (count > 0)[:, None]
