"""The tensors of one stream's rows, and what the encoder makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

Batch = dict[str, Tensor]
"""Column name -> tensor whose first axis is the row. Names and shapes are said by the stream's schema."""


class Aside(NamedTuple):
    """A trunk's own loss, weighted, as a sum over ``cases`` of this process: the mean is over all processes."""

    total: Tensor
    cases: Tensor


@dataclass(frozen=True)
class Encoded:
    """Vectors of one batch: B rows, F fields, width D, history length L, C candidates, K cross columns."""

    fields: Tensor  # (B, F, D)
    history: Tensor | None = None  # (B, L, D), newest last
    mask: Tensor | None = None  # (B, L) bool, True where there is an event
    candidate: Tensor | None = None  # (B, C, D), or (1, N, D) when a whole catalogue is ranked
    cross: Tensor | None = None  # (B, C, K)
    stream: str = ""  # whose rows these are
    times: Tensor | None = None  # (B, L) int64 milliseconds, when the events of a sequence were
    hidden: Tensor | None = None  # (B, L) bool, True where an event is to be guessed and not to be read
    last: bool = False  # whether only what follows the last event is asked for
    # of the attribute that a trunk asks for (`Trunk.by`), 0 is none: ids of the events (B, L) or several (B, L, A), and
    # of each id field of their table (B,) or (B, A), by its name
    attributes: tuple[Tensor, Mapping[str, Tensor]] | None = None
    items: Tensor | None = None  # (B, L, D) of the events: their items alone, without age, behaviour and dropout
    kinds: Tensor | None = None  # (B, L) int64 behaviours of the events, a bit for each, if there are several
    plain: Tensor | None = None  # (B, F, D) the fields before dropout, where there is any
    aside: list[Aside] | None = None  # where a trunk puts losses of its own; None where nothing is learned


class Read(NamedTuple):
    """What a task's head gets to see: z (B, D), or (B, L, D) of positions; candidates and their cross columns."""

    z: Tensor
    candidate: Tensor | None = None
    cross: Tensor | None = None


class View(NamedTuple):
    """What a task that compares streams sees of one: z (B, D), the fields (B, F, D) before the trunk, and the batch."""

    stream: str
    z: Tensor
    fields: Tensor
    batch: Batch
