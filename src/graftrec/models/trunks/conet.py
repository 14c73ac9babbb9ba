"""Collaborative cross networks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftrec.data.batch import Encoded
from graftrec.models.layers.experts import Experts
from graftrec.models.trunks.base import Trunk, flat


class CoNet(Trunk):
    """One network per task, and cross connections: h_t = ReLU(W_t h_t + b_t + sum_{s != t} H h_s), H of each layer.

    G. Hu, Y. Zhang, Q. Yang, CoNet: Collaborative Cross Networks for Cross-Domain Recommendation, CIKM 2018,
    https://arxiv.org/abs/1804.06769, equations 6 and 7: H is one matrix in both directions. With ``sparse`` above 0 it
    is SCoNet: sparse * sum |H| is added to the loss (section 3.3).

    h_t starts, for all tasks, as all fields side by side and the mean of the history, (B, F * D) or (B, (F + 1) * D);
    z_t is (B, hidden[-1]).

    Where we differ: any number of tasks; each row runs through all networks (there a user's items of both domains run
    through their own). So what others have in the first layer is what a task has itself, T - 1 times: H says nothing
    there that W_t could not, and tasks tell each other something from the second layer on.

    Args:
        hidden: widths of a network's layers, at least one, each at least 1; with one alone nothing crosses.
        sparse: weight of the sum of all |H|, at least 0.
        dropout: behind every layer, in [0, 1).
    """

    def __init__(
        self,
        fields: int,
        width: int,
        history: bool,
        tasks: Sequence[str],
        hidden: Sequence[int] = (128, 64),
        sparse: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if sparse < 0:
            raise ValueError(f"sparse should be at least 0. Found {sparse}.")
        self.tasks, self.sparse = list(tasks), sparse
        in_dim = (fields + history) * width
        self.networks = Experts(max(1, len(self.tasks)), in_dim, hidden, dropout)
        sizes = itertools.pairwise([in_dim, *hidden])
        self.crossings = nn.ModuleList(nn.Linear(i, o, bias=False) for i, o in sizes)
        for crossing in self._h():
            nn.init.normal_(crossing, std=0.01)
        self.out_dim = hidden[-1]

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        h = flat(encoded)  # (B, in_dim), the same for all, then (T, B, d)
        for layer, crossing in zip(self.networks.layers, self.crossings, strict=True):
            others = h.sum(0) - h if h.ndim == 3 else h * (len(self.tasks) - 1)  # what all other tasks have, for each
            h = self.networks.dropout(F.relu(layer(h) + crossing(others)))
        return {task: h[self.tasks.index(task)] for task in tasks}

    def penalty(self) -> Tensor | None:
        """``sparse`` times the sum of all |H|."""
        if not self.sparse:
            return None
        return self.sparse * torch.stack([crossing.abs().sum() for crossing in self._h()]).sum()

    def _h(self) -> list[Tensor]:
        """H of each layer as it is read, with what a transfer strategy adds to it."""
        return [crossing.weight for crossing in self.crossings if isinstance(crossing, nn.Linear)]

    def meeting(self) -> nn.Module:
        return self.networks.layers[-1]
