"""Adaptive information transfer along a chain of tasks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftrec.data.batch import Encoded
from graftrec.models.layers.experts import Experts
from graftrec.models.layers.global_mean import Scale
from graftrec.models.trunks.base import Trunk, flat


class AITM(Trunk):
    """z_1 = q_1, z_t = sum_u w_u h1(u) over u in {p_{t-1}, q_t}, w = softmax_u(<h2(u), h3(u)> / sqrt(k)).

    D. Xi et al., Modeling the Sequential Dependence among Audience Multi-step Conversions with Multi-task Learning in
    Targeted Display Advertising, KDD 2021, https://arxiv.org/abs/2105.08489, equations 4 to 7. q_t = f_t(x) is a task's
    own network (B, k), p_{t-1} = g_{t-1}(z_{t-1}) what the task before tells it, g a linear layer with ReLU; h1, h2 and
    h3 are linear and the same in every step. The paper's behavioural expectation calibrator belongs to the loss:
    ``Binary(given=..., calibration=...)`` is it.

    x is all fields side by side and the mean of the history, (B, F * D) or (B, (F + 1) * D); z_t is (B, k), and k is
    hidden[-1].

    Where we differ: the paper shares embeddings alone. Here one scale per element of x, 1 at the start, stands before
    the tasks' networks: it adds nothing that their first layers could not do, and lets gradients be compared there.
    The authors' code hides .1, .3 and .3 of the outputs of its three layers; here one share serves all, 0 by default.

    Args:
        hidden: widths of a task's own layers, at least one, each at least 1.
        order: the chain, each task once (default: as the tasks are given). Names of tasks that rest are passed over.
        dropout: behind each of a task's own layers, in [0, 1).
    """

    def __init__(
        self,
        fields: int,
        width: int,
        history: bool,
        tasks: Sequence[str],
        hidden: Sequence[int] = (128, 64),
        order: Sequence[str] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        # a phase or the twin builds the trunk with some of the tasks, from the same settings
        self.order = [task for task in (tasks if order is None else order) if task in tasks]
        if sorted(self.order) != sorted(tasks):
            raise ValueError(f"order should name each of {list(tasks)} once. Found {list(order or [])}.")
        in_dim = (fields + history) * width
        self.scale = Scale(in_dim)
        self.towers = Experts(len(tasks), in_dim, hidden, dropout)
        self.out_dim = k = hidden[-1]
        self.transfers = nn.ModuleList(nn.Linear(k, k) for _ in self.order[1:])
        # h1, h2 and h3; one task alone attends to nothing, and a parameter without a use stops distributed training
        self.attention = nn.Linear(k, 3 * k) if len(tasks) > 1 else nn.Identity()

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        q = self.towers(self.scale(flat(encoded)))  # (T, B, k)
        z, own = {self.order[0]: q[0]}, self.attention(q[1:])
        last = max(self.order.index(task) for task in tasks)
        for t in range(1, last + 1):
            told = F.relu(self.transfers[t - 1](z[self.order[t - 1]]))
            value, query, key = torch.stack([self.attention(told), own[t - 1]]).chunk(3, -1)  # each (2, B, k)
            weight = ((query * key).sum(-1) / self.out_dim**0.5).softmax(0).to(value.dtype)
            z[self.order[t]] = (weight[..., None] * value).sum(0)
        return {task: z[task] for task in tasks}

    def meeting(self) -> nn.Module:
        return self.scale
