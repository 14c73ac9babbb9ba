"""Cross-stitch networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftrec.data.batch import Encoded
from graftrec.models.layers.experts import Experts
from graftrec.models.trunks.base import Trunk, flat


class CrossStitch(Trunk):
    """One network per task, mixed after every layer: h_t = sum_s A_ts ReLU(W_s h_s + b_s), A (T, T) of each layer.

    I. Misra et al., Cross-stitch Networks for Multi-task Learning, CVPR 2016, https://arxiv.org/abs/1604.03539,
    equation 1, for any number of tasks.

    h starts as all fields side by side and the mean of the history, (B, F * D) or (B, (F + 1) * D); z_t is
    (B, hidden[-1]), what the last unit gives.

    Where we differ: layers are dense and a unit is one number per pair of tasks, not one per channel; networks start at
    random, not from networks trained per task; units learn at the others' rate, without weight decay.

    Args:
        hidden: widths of a network's layers, at least one, each at least 1.
        own: what a unit starts with on a task's own network, in [0, 1]; the rest is shared evenly by the others.
        dropout: behind every layer and before its unit, in [0, 1).
    """

    def __init__(
        self,
        fields: int,
        width: int,
        history: bool,
        tasks: Sequence[str],
        hidden: Sequence[int] = (128, 64),
        own: float = 0.9,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= own <= 1:
            raise ValueError(f"own should be in [0, 1]. Found {own}.")
        self.tasks = list(tasks)
        count = len(self.tasks)
        self.networks = Experts(count, (fields + history) * width, hidden, dropout)
        self.stitches = nn.ModuleList(Stitch(count, own) for _ in hidden)
        self.out_dim = hidden[-1]

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        h = flat(encoded)
        for layer, stitch in zip(self.networks.layers, self.stitches, strict=True):
            h = stitch(self.networks.dropout(F.relu(layer(h))))
        return {task: h[self.tasks.index(task)] for task in tasks}

    def meeting(self) -> nn.Module:
        # not the last unit: each task reads a row of its own there, so gradients of two tasks would never meet
        return self.networks.layers[-1]


class Stitch(nn.Module):
    """A unit A (T, T): h_t = sum_s A_ts h_s.

    Args:
        count: T. own: A_tt at the start; the other T - 1 of a row share the rest.
    """

    no_decay: ClassVar[tuple[str, ...]] = ("weight",)

    def __init__(self, count: int, own: float) -> None:
        super().__init__()
        start = torch.full((count, count), (1 - own) / max(1, count - 1))
        self.weight = nn.Parameter(start.fill_diagonal_(own if count > 1 else 1.0))

    def forward(self, h: Tensor) -> Tensor:
        """(T, B, d) -> (T, B, d)."""
        return torch.einsum("ts,sbd->tbd", self.weight, h)
