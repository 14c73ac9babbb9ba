"""Collaborative cross networks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftrec.batch import Aside, Encoded
from graftrec.nn.experts import Experts
from graftrec.trunks.base import Trunk, flat


class CoNet(Trunk):
    """One network per task, and cross connections: h_t = ReLU(W_t h_t + b_t + sum_{s != t} H h_s), H of each layer.

    G. Hu, Y. Zhang, Q. Yang, CoNet: Collaborative Cross Networks for Cross-Domain Recommendation, CIKM 2018,
    https://arxiv.org/abs/1804.06769, equations 6 and 7: H is one matrix in both directions. With ``sparse`` above 0 it
    is SCoNet: sparse * sum |H| is added to the loss (section 3.3).

    Where we differ: any number of tasks; each row runs through all networks (there a user's items of both domains run
    through their own), and W_t h_t of a task reads the fields of all that the encoder gives.

    Args:
        sparse: weight of the sum of all |H|, at least 0.
    """

    def __init__(
        self,
        fields: int,
        width: int,
        history: bool,
        tasks: Sequence[str],
        hidden: Sequence[int] = (128, 64),
        sparse: float = 0.0,
    ) -> None:
        super().__init__()
        if sparse < 0:
            raise ValueError(f"sparse should be at least 0. Found {sparse}.")
        self.tasks, self.sparse = list(tasks), sparse
        in_dim = (fields + history) * width
        self.networks = Experts(max(1, len(self.tasks)), in_dim, hidden)
        sizes = itertools.pairwise([in_dim, *hidden])
        self.crossings = nn.ParameterList(nn.Parameter(torch.randn(out, given) * 0.01) for given, out in sizes)
        self.out_dim = hidden[-1]

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        x = flat(encoded)
        h = x.expand(len(self.networks.layers[0].weight), *x.shape)  # type: ignore[arg-type]
        for layer, crossing in zip(self.networks.layers, self.crossings, strict=True):
            others = h.sum(0) - h  # what all other tasks have, for each
            h = F.relu(layer(h) + F.linear(others, crossing))
        if encoded.aside is not None and self.sparse:
            total = torch.stack([crossing.abs().sum() for crossing in self.crossings]).sum()
            encoded.aside.append(Aside(self.sparse * total, torch.ones((), device=x.device)))
        return {task: h[self.tasks.index(task)] for task in tasks}

    def meeting(self) -> nn.Module:
        return self.networks.layers[-1]
