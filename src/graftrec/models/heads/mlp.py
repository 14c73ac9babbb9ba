"""The DNN of the case study."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from graftrec.models.heads.base import Head
from graftrec.models.layers.mlp import check_layers, mlp


class Mlp(Head):
    """A deep network on the representation, the candidate, their product and the pair's cross columns.

    The first layer is h = relu(W z + V c + P ((Q z) * (R c)) + U x), taken apart: where N candidates are the same for
    all B rows, V c and R c are computed once and not for each row; what is left is a product (B, N, D) and h (B, N,
    hidden[0]). The product is the generalised matrix factorisation of NeuMF (X. He et al., Neural Collaborative
    Filtering, WWW 2017, https://arxiv.org/abs/1708.05031, equation 9). Without candidates: an MLP on z.

    Args:
        in_dim, item_dim, cross_dim, classes: see `Head`.
        hidden: widths of the layers, each at least 1; the first is that of h.
        dropout: after every layer, h included, in [0, 1).

    Raises:
        ValueError: no layer, a width below 1, or a dropout outside [0, 1).
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
        check_layers(hidden, dropout)
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
            return self._logits(self.z(z))
        h = self.z(z)[:, None] + self.candidate(candidate)
        h = h + self.product(self.left(z)[:, None] * self.right(candidate))
        if self.cross is not None and cross is not None:
            h = h + self.cross(cross)
        return self._logits(h)

    def _logits(self, h: Tensor) -> Tensor:
        """From the first layer (..., hidden[0]) before its ReLU to (...,), or (..., classes)."""
        logits: Tensor = self.out(self.rest(self.dropout(F.relu(h)))).squeeze(-1)
        return logits
