"""Adaptive task-to-task fusion."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftrec.data.batch import Encoded
from graftrec.models.layers.experts import BatchedLinear, Experts
from graftrec.models.trunks.base import Trunk, flat


class Fusion(nn.Module):
    """One level: each unit u, a task's or the shared one, reads the experts of all units, and its own once more.

    Args:
        tasks: how many. in_dim: of what is read.
        experts: of each task's unit, at least 1. shared: of the shared unit; 0 means that there is none.
        hidden: widths of an expert's layers, at least one, each at least 1. dropout: behind each of them, in [0, 1).
        last: True: the shared unit fuses nothing, but its experts are read.
    """

    def __init__(
        self,
        tasks: int,
        in_dim: int,
        experts: int,
        shared: int,
        hidden: Sequence[int],
        dropout: float = 0.0,
        last: bool = True,
    ) -> None:
        super().__init__()
        unit = torch.tensor([*(t for t in range(tasks) for _ in range(experts)), *[tasks] * shared])
        self.units = tasks + (shared > 0 and not last)
        self.even = shared in (0, experts)  # units of one size are blocks of experts, and read what is theirs uncopied
        self.experts = Experts(len(unit), in_dim, hidden, dropout)
        self.gates = BatchedLinear(self.units, in_dim, len(unit))
        self.native: nn.Parameter | None = None  # one weight per expert, in the unit that it belongs to
        if experts > 1 or shared > 1:  # the only expert of a unit is added as it is
            bound = torch.tensor([experts**-0.5] * (tasks * experts) + [max(1, shared) ** -0.5] * shared)[
                unit < self.units
            ]
            self.native = nn.Parameter((2 * torch.rand(len(bound)) - 1) * bound)
        self.register_buffer("unit", unit, persistent=False)
        self.register_buffer("belongs", (torch.arange(self.units)[:, None] == unit).float(), persistent=False)
        self.unit: Tensor  # (E,)
        self.belongs: Tensor  # (U, E)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_dim), read by all, or (U, B, in_dim), to each unit its own -> (U, B, hidden[-1])."""
        h = self.experts(x if x.ndim == 2 or self.even else x[self.unit])  # (E, B, d)
        gates = self.gates(x if x.ndim == 2 else x[: self.units]).softmax(-1)  # (U, B, E)
        own = self.belongs
        if self.native is not None:
            own = own * F.pad(self.native, (0, len(h) - len(self.native)))
        return torch.einsum("ube,ebd->ubd", (gates + own[:, None]).to(h.dtype), h)


class AdaTT(Trunk):
    """Levels of units, one per task and an optional shared one, that fuse the experts of all.

        z_u^l = sum_e g_u^l(z_u^(l-1))_e h_e^l over all experts + sum_e v_e^l h_e^l over the experts of unit u

    with z^0 = x, g = softmax(W z) (AllExpG) and v learnt (NativeExpLF), or 1 where every unit has a single expert; the
    experts of u are fed z_u. The last level fuses for the tasks only. Without shared experts it is AdaTT-sp.

    D. Li et al., AdaTT: Adaptive Task-to-Task Fusion Network for Multitask Learning in Recommendations, KDD 2023,
    https://arxiv.org/abs/2304.04959.

    x is all fields side by side and the mean of the history, (B, F * D) or (B, (F + 1) * D); z_t is (B, hidden[-1]).

    Where we differ: gates have a bias, and v starts uniform in +-1/sqrt(experts of its unit), both as in the authors'
    code.

    Args:
        levels: of fusion, at least 1.
        experts: of each task, at each level, at least 1.
        shared: experts of the shared unit, at each level, 0 for no such unit.
        hidden: widths of an expert's layers, at each level, at least one, each at least 1.
        dropout: behind each of these layers, in [0, 1).
    """

    def __init__(
        self,
        fields: int,
        width: int,
        history: bool,
        tasks: Sequence[str],
        levels: int = 2,
        experts: int = 1,
        shared: int = 1,
        hidden: Sequence[int] = (64,),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        for name, count, least in (("levels", levels, 1), ("experts", experts, 1), ("shared", shared, 0)):
            if count < least:
                raise ValueError(f"{name} should be at least {least}. Found {count}.")
        self.tasks, in_dim, below = list(tasks), (fields + history) * width, []
        for _ in range(levels - 1):
            below.append(Fusion(len(self.tasks), in_dim, experts, shared, hidden, dropout, last=False))
            in_dim = hidden[-1]
        self.below = nn.Sequential(*below)
        self.last = Fusion(len(self.tasks), in_dim, experts, shared, hidden, dropout)
        self.out_dim = hidden[-1]

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        z = self.last(self.below(flat(encoded)))
        return {task: z[self.tasks.index(task)] for task in tasks}

    def meeting(self) -> nn.Module:
        return self.last.experts.layers[-1]  # every task reads all of them, whoever they belong to
