"""Multi-gate mixture of experts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from graftrec.data.batch import Encoded
from graftrec.models.layers.experts import Experts
from graftrec.models.trunks.base import Trunk, flat


class MMoE(Trunk):
    """z_t = sum_e g_t(x)_e f_e(x), g_t(x) = softmax(W_t x).

    J. Ma et al., Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts, KDD 2018,
    https://doi.org/10.1145/3219819.3220007, equations 6 and 7. Experts are MLPs with ReLU after every layer; experts
    and all gates are computed as batched matrix products.

    x is all fields side by side and the mean of the history, (B, F * D) or (B, (F + 1) * D); z_t is (B, hidden[-1]).

    Where we differ: gates have a bias.

    Args:
        experts: f_e in all, at least 1.
        hidden: widths of an expert's layers, at least one, each at least 1. dropout: behind each of them, in [0, 1).
    """

    def __init__(
        self,
        fields: int,
        width: int,
        history: bool,
        tasks: Sequence[str],
        experts: int = 4,
        hidden: Sequence[int] = (128, 64),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        in_dim = (fields + history) * width
        self.tasks, self.each = list(tasks), experts
        self.experts = Experts(experts, in_dim, hidden, dropout)
        self.out_dim = hidden[-1]
        self.gates = nn.Linear(in_dim, experts * len(self.tasks))

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        x = flat(encoded)
        h = self.experts(x)  # (E, B, hidden)
        gates = self.gates(x).view(len(x), len(self.tasks), self.each).softmax(-1).to(h.dtype)
        z = torch.bmm(gates, h.transpose(0, 1))  # (B, T, out_dim)
        return {task: z[:, self.tasks.index(task)] for task in tasks}

    def meeting(self) -> nn.Module:
        return self.experts.layers[-1]
