"""Shared and task-specific embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from graftrec.data.batch import Encoded
from graftrec.models.layers.experts import BatchedLinear, Experts
from graftrec.models.trunks.base import Trunk, masked_mean


class STEM(Trunk):
    """z_t = sum over all experts of g_t f_e, where the experts of other tasks enter with a stopped gradient.

    L. Su et al., STEM: Unleashing the Power of Embeddings for Multi-Task Recommendation, AAAI 2024,
    https://arxiv.org/abs/2308.13537. There is one shared embedding and one for each task; shared experts read the
    former, a task's own experts the latter, and g_t = softmax(W_t [e_t; e_shared]) weighs the experts of all: all
    forward, task-specific backward. The embeddings are slices of the encoder's width: rows of one lookup that are cut
    are rows of separate tables. A task's slice has width // (T + 1) elements, the shared one the rest.

    What is read are all fields and the mean of the history, (B, F, D) or (B, F + 1, D); z_t is (B, hidden[-1]).

    Where we differ: the gate reads both embeddings side by side, as they may differ in width, and is one layer; there
    is one layer of experts, with ReLU behind their last layer too, which the authors' code leaves linear. An
    interaction in front mixes the slices, so gradients are then stopped at its output only.

    Args:
        experts: of each task, at least 1. shared_experts: that all tasks read, at least 1.
        hidden: widths of an expert's layers, at least one, each at least 1.
        dropout: behind each of these layers, in [0, 1); the authors' code has it, off by default.
    """

    def __init__(
        self,
        fields: int,
        width: int,
        history: bool,
        tasks: Sequence[str],
        experts: int = 1,
        shared_experts: int = 1,
        hidden: Sequence[int] = (128, 64),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        count = len(tasks)
        self.tasks, self.own = list(tasks), width // (count + 1)
        if self.own < 1:
            raise ValueError(
                f"encoder.width should be at least {count + 1}, a slice for each task and a shared one. Found {width}."
            )
        if shared_experts < 1:
            raise ValueError(f"shared_experts should be at least 1. Found {shared_experts}.")
        parts, rest = fields + history, width - count * self.own
        self.shared = Experts(shared_experts, parts * rest, hidden, dropout)
        self.specific = Experts(experts * count, parts * self.own, hidden, dropout)
        self.gates = BatchedLinear(count, parts * (self.own + rest), experts * count + shared_experts)
        self.out_dim = hidden[-1]
        mine = torch.eye(count, dtype=torch.bool).repeat_interleave(experts, 1)
        self.register_buffer("mine", mine[:, None], persistent=False)  # (T, 1, T * experts)

    mine: Tensor

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        shared, own = self.slices(encoded)
        h = self.specific(own)  # (T * experts, B, out_dim)
        together = self.shared(shared)
        gates = self.gates(torch.cat([own, shared.expand(len(own), -1, -1)], -1)).softmax(-1).to(h.dtype)
        specific, common = gates.split([len(h), len(together)], -1)
        z = torch.einsum("tbe,ebh->tbh", common, together)
        # over all experts, of which a mask hides some: two products are faster than smaller ones of each task's own
        z = z + torch.einsum("tbe,ebh->tbh", specific * self.mine, h)
        if len(own) > 1:
            z = z + torch.einsum("tbe,ebh->tbh", specific * ~self.mine, h.detach())
        return {task: z[self.tasks.index(task)] for task in tasks}

    def slices(self, encoded: Encoded) -> tuple[Tensor, Tensor]:
        """The shared embedding (B, parts * rest) and those of the tasks (T, B, parts * own)."""
        x = encoded.fields
        if encoded.history is not None and encoded.mask is not None:
            x = torch.cat([x, masked_mean(encoded.history, encoded.mask)[:, None]], 1)
        rest = x.shape[-1] - len(self.tasks) * self.own
        own = x[..., rest:].view(*x.shape[:2], len(self.tasks), self.own)
        return x[..., :rest].flatten(1), own.movedim(2, 0).flatten(2)

    def meeting(self) -> nn.Module:
        return self.shared.layers[-1]
