"""Multi-gate mixture of experts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftrec.batch import Encoded
from graftrec.trunks.base import Trunk, flat


class MMoE(Trunk):
    """z_t = sum_e g_t(x)_e f_e(x), g_t(x) = softmax(W_t x).

    J. Ma et al., Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts, KDD 2018,
    https://doi.org/10.1145/3219819.3220007, equations 6 and 7. Experts are MLPs with ReLU after every layer; experts
    and all gates are computed as batched matrix products. Where we differ: gates have a bias.
    """

    def __init__(
        self,
        fields: int,
        width: int,
        history: bool,
        tasks: Sequence[str],
        experts: int = 4,
        hidden: Sequence[int] = (128, 64),
    ) -> None:
        super().__init__()
        if experts < 1:
            raise ValueError(f"experts should be at least 1. Found {experts}.")
        if not hidden or min(hidden) < 1:
            raise ValueError(f"hidden should be a list of widths of at least 1. Found {list(hidden)}.")
        in_dim = (fields + history) * width
        self.experts, self.tasks, self.out_dim = experts, list(tasks), hidden[-1]
        self.first = nn.Linear(in_dim, experts * hidden[0])  # all first layers at once: they read the same x
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for i, o in itertools.pairwise(hidden):
            self.weights.append(nn.Parameter(torch.empty(experts, i, o).uniform_(-(i**-0.5), i**-0.5)))
            self.biases.append(nn.Parameter(torch.zeros(experts, 1, o)))
        self.gates = nn.Linear(in_dim, experts * len(self.tasks))

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        x = flat(encoded)
        h = F.relu(self.first(x)).view(len(x), self.experts, -1).transpose(0, 1)  # (E, B, hidden)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            h = F.relu(torch.baddbmm(bias, h, weight))
        gates = self.gates(x).view(len(x), len(self.tasks), self.experts).softmax(-1).to(h.dtype)
        z = torch.bmm(gates, h.transpose(0, 1))  # (B, T, out_dim)
        return {task: z[:, self.tasks.index(task)] for task in tasks}

    def meeting(self) -> list[nn.Parameter]:
        return [self.weights[-1], self.biases[-1]] if len(self.weights) else list(self.first.parameters())
