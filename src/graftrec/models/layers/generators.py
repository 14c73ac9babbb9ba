"""What stands in the place of a new id's own vector."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from graftrec.data.schema import Table


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


class Decoded(Generator):
    """v' = decode(z, n): z is drawn from what the attributes say, n is how often an entity was chosen; see
    `graftrec.transfer.cvar`.

    While it learns, ``terms`` gets of each call the sum over entities that are known of reconstruct * |v'' - v|^2 +
    align * W, and how many they are: v is the entity's own vector, v'' what is decoded of a z that v is encoded as, and
    W the distance of both distributions of z.

    Args:
        table: of the entities. width: D. latent: K, numbers of z. noise: what deviations are multiplied with in a draw,
            at least 0. reconstruct, align: at least 0.

    Attributes:
        own: (rows, D), vectors that were learnt. frequency: (E,), n in [0, 1]. rare: (E,) bool, entities that are new
            though they have a row.
    """

    def __init__(self, table: Table, width: int, latent: int, noise: float, reconstruct: float, align: float) -> None:
        super().__init__()
        self.noise, self.reconstruct, self.align = noise, reconstruct, align
        self.of_id, self.of_attributes = nn.Linear(width, 2 * latent), nn.Linear(width, 2 * latent)
        self.decode = nn.Linear(latent + 1, width)
        for part in self.parameters():
            nn.init.uniform_(part, -0.01, 0.01)
        self.register_buffer("frequency", torch.zeros(table.entities))
        self.register_buffer("rare", torch.zeros(table.entities, dtype=torch.bool))
        self.register_buffer("own", torch.zeros(table.size, width), persistent=False)
        rows = torch.arange(table.size) if table.rows is None else table.rows
        self.register_buffer("rows", rows, persistent=False)
        self.terms: list[tuple[Tensor, Tensor]] = []

    frequency: Tensor
    rare: Tensor
    own: Tensor
    rows: Tensor

    def new(self, own: Tensor, ids: Tensor) -> Tensor:
        return super().new(own, ids) | self.rare[ids]

    def forward(self, known: Tensor, ids: Tensor) -> Tensor:
        prior = _gaussian(self.of_attributes(known))
        made = self._decoded(prior, ids)
        if self.training:
            own = self.own[self.rows[ids]]
            posterior = _gaussian(self.of_id(own))
            away = (self._decoded(posterior, ids) - own).square().sum(1)
            values = self.reconstruct * away + self.align * wasserstein(posterior, prior)
            counted = (self.rows[ids] > 0) & ~self.rare[ids]
            self.terms.append(((values * counted).sum(), counted.sum()))
        return made

    def _decoded(self, gaussian: tuple[Tensor, Tensor], ids: Tensor) -> Tensor:
        """Vectors (n, D) of z drawn from means and deviations (n, K); in evaluation of the means."""
        mean, deviation = gaussian
        z = mean + self.noise * deviation * torch.randn_like(mean) if self.training else mean
        return self.decode(torch.cat([z, self.frequency[ids, None]], 1)).float()  # type: ignore[no-any-return]


def _gaussian(both: Tensor) -> tuple[Tensor, Tensor]:
    """Means and deviations (n, K) of means and logarithms of variances (n, 2 K)."""
    mean, log_variance = both.float().chunk(2, 1)
    return mean, (log_variance / 2).exp()


def wasserstein(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
    """W_2^2 (n,) of two diagonal Gaussians, each by its means and deviations (n, K): |m - m'|^2 + |s - s'|^2."""
    return (one[0] - other[0]).square().sum(1) + (one[1] - other[1]).square().sum(1)


def _network(width: int, hidden: int, start: float) -> nn.Sequential:
    """One hidden layer, (n, D) -> (n, D), which says ``start`` everywhere before it learns."""
    last = nn.Linear(hidden, width)
    nn.init.zeros_(last.weight)
    nn.init.constant_(last.bias, start)
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), last)
