"""One linear layer."""

from __future__ import annotations

from torch import Tensor, nn

from graftrec.models.heads.base import Head


class Linear(Head):
    """logits = W z + b, and with candidates + V c + U x, each candidate on its own.

    W z + b is the same for all candidates of a row, so only the cross columns x tell rows apart when candidates are
    ranked: without them everybody would get the same ranking.

    Args:
        in_dim, item_dim, cross_dim, classes: see `Head`.
    """

    def __init__(self, in_dim: int, item_dim: int = 0, cross_dim: int = 0, classes: int = 1) -> None:
        super().__init__()
        self.z = nn.Linear(in_dim, classes)
        self.candidate = nn.Linear(item_dim, 1, bias=False) if item_dim else None
        self.cross = nn.Linear(cross_dim, 1, bias=False) if cross_dim else None

    def forward(self, z: Tensor, candidate: Tensor | None = None, cross: Tensor | None = None) -> Tensor:
        logits: Tensor = self.z(z)
        if self.candidate is None or candidate is None:
            return logits.squeeze(-1)
        logits = logits + self.candidate(candidate).squeeze(-1)
        return logits if self.cross is None or cross is None else logits + self.cross(cross).squeeze(-1)
