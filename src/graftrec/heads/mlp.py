"""The DNN of the case study."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from graftrec.heads.base import Head
from graftrec.nn.mlp import mlp


class Mlp(Head):
    """A deep network on the representation, the candidate, their product and the pair's cross columns.

    The first layer is h = relu(W z + V c + P ((Q z) * (R c)) + U x), taken apart so that no (B, N, 2D) tensor is ever
    built when a catalogue is ranked; the product is the generalised matrix factorisation of NeuMF (X. He et al., Neural
    Collaborative Filtering, WWW 2017, https://arxiv.org/abs/1708.05031, equation 9). Without candidates: an MLP on z.
    """

    def __init__(
        self,
        in_dim: int,
        item_dim: int = 0,
        cross_dim: int = 0,
        classes: int = 1,
        hidden: Sequence[int] = (64,),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        first = hidden[0]
        self.z = nn.Linear(in_dim, first)
        self.has_candidate = item_dim > 0
        if self.has_candidate:
            self.candidate = nn.Linear(item_dim, first, bias=False)
            self.left, self.right = nn.Linear(in_dim, item_dim), nn.Linear(item_dim, item_dim)
            self.product = nn.Linear(item_dim, first, bias=False)
        self.cross = nn.Linear(cross_dim, first, bias=False) if cross_dim else None
        self.rest = mlp(first, hidden[1:], dropout) if len(hidden) > 1 else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(hidden[-1], classes)

    def forward(self, z: Tensor, candidate: Tensor | None = None, cross: Tensor | None = None) -> Tensor:
        if not self.has_candidate or candidate is None:
            return self.out(self.rest(self.dropout(F.relu(self.z(z))))).squeeze(-1)  # type: ignore[no-any-return]
        h = self.z(z)[:, None] + self.candidate(candidate)
        h = h + self.product(self.left(z)[:, None] * self.right(candidate))
        if self.cross is not None and cross is not None:
            h = h + self.cross(cross)
        return self.out(self.rest(F.relu(h))).squeeze(-1)  # type: ignore[no-any-return]
