"""What stands in the place of a new id's own vector."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from graftrec.schema import Table


class Generator(nn.Module, ABC):
    """Vectors of new entities of one table."""

    def new(self, own: Tensor, ids: Tensor) -> Tensor:
        """Which of ``ids`` (n,) get one: those whose row ``own`` (n,) is the unknown id's; (n,) bool."""
        return (own == 0) & (ids > 0)

    @abstractmethod
    def forward(self, known: Tensor, ids: Tensor) -> Tensor:
        """Vectors (n, D) of ``ids`` (n,), of which ``known`` (n, D) is the mean vector of the attributes."""


class FromAttributes(Generator):
    """tanh(W known + b); see `graftrec.transfer.meta_embedding`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, known: Tensor, ids: Tensor) -> Tensor:
        found: Tensor = self.linear(known).tanh()
        return found


class Warmed(Generator):
    """cold * scale(known) + shift(users), where both networks have one hidden layer; see `graftrec.transfer.mwuf`.

    While it learns, each id is drawn to be the cold vector itself, which then learns, or the warm one, where the
    networks do.

    Args:
        table: of the entities. width: D. hidden: width of the hidden layers.

    Attributes:
        cold: (rows, D). users: (E, D), the mean vector of those who chose an entity, zeros where nobody did.
        rare: (E,) bool, entities that are new though they have a row.
    """

    def __init__(self, table: Table, width: int, hidden: int) -> None:
        super().__init__()
        self.cold = nn.Parameter(torch.zeros(table.size, width))
        self.scale, self.shift = _network(width, hidden, 1.0), _network(width, hidden, 0.0)
        self.register_buffer("users", torch.zeros(table.entities, width))
        self.register_buffer("rare", torch.zeros(table.entities, dtype=torch.bool))
        rows = torch.arange(table.size) if table.rows is None else table.rows
        self.register_buffer("rows", rows, persistent=False)

    users: Tensor
    rare: Tensor
    rows: Tensor

    def new(self, own: Tensor, ids: Tensor) -> Tensor:
        return super().new(own, ids) | self.rare[ids]

    def forward(self, known: Tensor, ids: Tensor) -> Tensor:
        cold = self.cold[self.rows[ids]]
        warm: Tensor = cold.detach() * self.scale(known) + self.shift(self.users[ids])
        if not self.training:
            return warm
        return torch.where(torch.rand(len(ids), 1, device=ids.device) < 0.5, warm, cold)


def _network(width: int, hidden: int, start: float) -> nn.Sequential:
    """One hidden layer, (n, D) -> (n, D), which says ``start`` everywhere before it learns."""
    last = nn.Linear(hidden, width)
    nn.init.zeros_(last.weight)
    nn.init.constant_(last.bias, start)
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), last)
