"""FAMO: fast adaptive multitask optimisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from graftrec.training.balancers.base import Balancer, check_not_negative, shares

Look = Literal["again", "next"]
BETAS, EPSILON = (0.9, 0.999), 1e-8  # Adam's own


class Famo(Balancer):
    """sum_t w_t L_t, w_t = T (z_t / L_t) / sum_k (z_k / L_k), z = softmax(x): all losses fall at one relative rate.

    x descends by Adam along J_z^T (log L before the step - log L after it), with ``decay`` * x added: what fell more
    than the mean loses weight. B. Liu et al., FAMO: Fast Adaptive Multitask Optimization, NeurIPS 2023,
    https://arxiv.org/abs/2306.03792, algorithm 1, and Adam as in its experiments; no gradients are needed. As there,
    losses after a step are those of the same batch, which is read a second time, without gradients.

    Where we differ: dropout and drawn negatives are the same in both readings, so that only the step moves a loss;
    weights add up to T, not to 1. torchjd's FAMO is not taken: its Adam is lost with a checkpoint, and the model's
    optimizer would train its x as well.

    Args:
        tasks: names in the order of the losses (completed by the program).
        lr: of x, above 0. decay: of x, at least 0.
        look: where losses after a step are read. ``again``: on the same batch; a step takes 1.2 to 1.5 times as long.
            ``next``: they are the next batch's, which costs nothing. How much two batches differ is then most of what
            x sees: Adam divides by it, so that weights hardly leave those of equal z, which are 1 / L_t up to a factor.

    Raises:
        ValueError: lr not above 0, decay below 0, another look, a negative loss.
    """

    scale_invariant = True

    def __init__(self, tasks: Sequence[str], lr: float = 0.025, decay: float = 0.001, look: Look = "again") -> None:
        super().__init__()
        if lr <= 0:
            raise ValueError(f"lr should be above 0. Found {lr}.")
        if decay < 0:
            raise ValueError(f"decay should be at least 0. Found {decay}.")
        if look not in get_args(Look):
            raise ValueError(f"look should be again or next. Found {look}.")
        self.lr, self.decay, self.looks_again = lr, decay, look == "again" and len(tasks) > 1
        self.register_buffer("logits", torch.zeros(len(tasks)))
        self.register_buffer("before", torch.zeros(len(tasks)))  # losses; 0 as long as there are none
        self.register_buffer("first", torch.zeros(len(tasks)))  # Adam's moments
        self.register_buffer("second", torch.zeros(len(tasks)))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.logits: Tensor
        self.before: Tensor
        self.first: Tensor
        self.second: Tensor
        self.updates: Tensor

    def forward(self, losses: Tensor, gramian: Tensor | None = None) -> Tensor:
        check_not_negative(losses, "FAMO")
        seen = losses.detach().to(self.logits)
        if self.training:
            if not self.looks_again:
                self.look(seen)
            self.before.copy_(torch.where(seen.isfinite(), seen, 0))
        present = seen != 0
        pull = torch.where(present, shares(self.logits, present) / seen, 0)
        weights = pull * (present.sum() / pull.sum()) if present.any() else pull
        return (weights.to(losses) * losses).sum()

    def look(self, losses: Tensor) -> None:
        """One step of the logits, by how far each loss has fallen."""
        losses = losses.to(self.logits)
        both = (losses != 0) & (self.before != 0) & losses.isfinite()
        if both.sum() < 2:
            return
        z = shares(self.logits, both) / both.sum()
        fallen = torch.where(both, self.before / losses, 1).log()
        gradient = z * (fallen - (z * fallen).sum()) + self.decay * self.logits
        self.updates += 1
        self.first.lerp_(gradient, 1 - BETAS[0])
        self.second.lerp_(gradient**2, 1 - BETAS[1])
        first, second = (
            moment / (1 - beta**self.updates) for moment, beta in zip((self.first, self.second), BETAS, strict=True)
        )
        self.logits -= self.lr * first / (second.sqrt() + EPSILON)
