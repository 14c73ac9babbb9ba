"""Shared bottom."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from graftrec.data.batch import Encoded
from graftrec.models.layers.mlp import last_linear, mlp
from graftrec.models.trunks.base import Trunk, flat


class SharedBottom(Trunk):
    """One MLP for all tasks: z = f(x).

    R. Caruana, Multitask Learning, 1997, https://doi.org/10.1023/A:1007379606734. x is all fields side by side and the
    mean of the history, (B, F * D) or (B, (F + 1) * D); z is (B, hidden[-1]), the same for all tasks.

    Args:
        hidden: widths of the layers, at least one, each at least 1. dropout: behind each of them, in [0, 1).
    """

    def __init__(
        self, fields: int, width: int, history: bool, hidden: Sequence[int] = (128, 64), dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.net = mlp((fields + history) * width, hidden, dropout)
        self.out_dim = hidden[-1]

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        z = self.net(flat(encoded))
        return dict.fromkeys(tasks, z)

    def meeting(self) -> nn.Module:
        return last_linear(self.net)
