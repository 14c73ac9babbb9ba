"""Task-specific and shared experts, and the gates that read them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from graftrec.models.layers.experts import BatchedLinear, Experts


class Extraction(nn.Module):
    """One level of experts: task t's gate g_t reads its own and the shared experts, the shared gate g_s reads all.

        z_t = sum_e g_t(x_t)_e h_e, e in own_t and shared;  z_s = sum_e g_s(x_s)_e h_e, e in all

    where own_t are fed x_t and shared experts x_s, and a gate is softmax(W x + b). The last level has no shared gate.
    It is the level of H. Tang et al., RecSys 2020, https://doi.org/10.1145/3383313.3412236, of which `CGC` has one and
    `PLE` several.

    Args:
        tasks: T. in_dim: of what is read.
        experts: of each task, at least 1. shared: experts that every task reads, at least 1.
        hidden: widths of an expert's layers, at least one, each at least 1. dropout: behind each of them, in [0, 1).
        last: whether it is the last level.

    Raises:
        ValueError: no expert of either kind, no layer, a width below 1, or a dropout outside [0, 1).
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
        for name, count in (("experts", experts), ("shared", shared)):
            if count < 1:
                raise ValueError(f"{name} should be at least 1. Found {count}.")
        self.sizes = [experts, shared]
        self.own = Experts(tasks * experts, in_dim, hidden, dropout)
        self.shared = Experts(shared, in_dim, hidden, dropout)
        self.gates = BatchedLinear(tasks, in_dim, experts + shared)
        self.shared_gate = None if last else nn.Linear(in_dim, tasks * experts + shared)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_dim), read by all, or (T + 1, B, in_dim), x_s last -> z (T, B, hidden[-1]), or (T + 1, ...), z_s last.

        z_s comes with it unless the level is the last.
        """
        x_t, x_s = (x, x) if x.ndim == 2 else (x[:-1], x[-1])
        own: Tensor = self.own(x_t)  # (T * experts, B, d)
        shared = self.shared(x_s)  # (S, B, d)
        to_own, to_shared = self.gates(x_t).softmax(-1).to(own.dtype).split(self.sizes, -1)
        by_task = own.view(len(to_own), self.sizes[0], *own.shape[1:])
        z = torch.einsum("tbe,tebd->tbd", to_own, by_task) + torch.einsum("tbs,sbd->tbd", to_shared, shared)
        if self.shared_gate is None:
            return z
        to_all = self.shared_gate(x_s).softmax(-1).to(own.dtype)
        z_s = torch.einsum("be,ebd->bd", to_all, torch.cat([own, shared]))
        return torch.cat([z, z_s[None]])
