"""One-gate mixture of experts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from graftrec.data.batch import Encoded
from graftrec.models.layers.experts import Experts
from graftrec.models.trunks.base import Trunk, flat


class OMoE(Trunk):
    """One gate for all tasks: z = sum_e g(x)_e f_e(x), g(x) = softmax(W x); every task reads the same z.

    J. Ma et al., Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts, KDD 2018,
    https://doi.org/10.1145/3219819.3220007, section 4.1, after R. Jacobs et al., Adaptive Mixtures of Local Experts,
    1991, https://doi.org/10.1162/neco.1991.3.1.79. Experts are MLPs with ReLU after every layer.

    x is all fields side by side and the mean of the history, (B, F * D) or (B, (F + 1) * D); z is (B, hidden[-1]).

    Where we differ: the gate has a bias.

    Args:
        experts: f_e in all, at least 1.
        hidden: widths of an expert's layers, at least one, each at least 1. dropout: behind each of them, in [0, 1).
    """

    def __init__(
        self,
        fields: int,
        width: int,
        history: bool,
        experts: int = 4,
        hidden: Sequence[int] = (128, 64),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        in_dim = (fields + history) * width
        self.experts = Experts(experts, in_dim, hidden, dropout)
        self.gate = nn.Linear(in_dim, experts)
        self.out_dim = hidden[-1]

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        x = flat(encoded)
        h = self.experts(x)  # (E, B, out_dim)
        gate = self.gate(x).softmax(-1).to(h.dtype)
        z = torch.einsum("be,ebd->bd", gate, h)
        return dict.fromkeys(tasks, z)

    def meeting(self) -> nn.Module:
        return self.experts.layers[-1]
