"""Items that a row did not choose."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from graftrec.data.streams.sampling_config import Drawn


@dataclass(eq=False)
class Negatives:
    """Draws items (B, C) of a catalogue; only training rows have a say in what is drawn.

    Attributes:
        items: (N,) the catalogue. counts: (N,) training rows of each. drawn: see `Candidates`.
        hard: keys user * span + place, sorted, of a user's own negatives, for ``file``. span: above every place.
    """

    items: Tensor
    counts: Tensor
    drawn: Drawn = "uniform"
    hard: Tensor | None = None
    span: int = 0

    def __post_init__(self) -> None:
        total = self.counts.double().cumsum(0)
        self._total = total / total[-1].clamp_min(1e-9)
        share = self.counts.double() / self.counts.double().sum().clamp_min(1.0)
        # relative to a uniform draw, so that what is learned is on the same scale; nobody's item is drawn by nobody
        self._log_q = torch.log(share.clamp_min(0.5 / self.counts.sum().clamp_min(1.0)) * len(self.items)).float()

    @property
    def corrected(self) -> bool:
        """Whether candidates come with a log q."""
        return self.drawn in ("popularity", "batch")

    def log_q(self, place: Tensor) -> Tensor:
        """log(q N) of places in the catalogue, float32: 0 for an item of average popularity."""
        return self._log_q[place]

    def __call__(self, user: Tensor, chosen: Tensor, count: int, random: torch.Generator) -> Tensor:
        """Places (B, count) in the catalogue.

        Args:
            user: (B,). chosen: places (P,) that the rows of this batch chose. random: what it is drawn with.
        """
        shape = (len(user), count)
        if self.drawn == "popularity" and float(self._total[-1]) > 0:
            draw = torch.rand(shape, generator=random, dtype=torch.float64)
            return torch.searchsorted(self._total, draw).clamp_max(len(self.items) - 1)
        if self.drawn == "batch" and len(chosen):
            return chosen[torch.randint(len(chosen), shape, generator=random)]
        place = torch.randint(len(self.items), shape, generator=random)
        if self.drawn == "file" and self.hard is not None and len(self.hard):
            low = torch.searchsorted(self.hard, user * self.span)[:, None]
            own = torch.searchsorted(self.hard, (user + 1) * self.span)[:, None] - low
            draw = (torch.rand(shape, generator=random, dtype=torch.float64) * own).long()
            at = (low + draw).clamp_max(len(self.hard) - 1)
            place = torch.where(own > 0, self.hard[at] % self.span, place)
        return place
