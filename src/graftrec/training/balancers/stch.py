"""Smooth Tchebycheff scalarisation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchjd.scalarization import STCH

from graftrec.training.balancers.base import Balancer, check_not_negative


class Stch(Balancer):
    """c mu log sum_t exp(L_t / (N_t mu)): the largest of the losses over their first values, smoothly.

    X. Lin et al., Smooth Tchebycheff Scalarization for Multi-Objective Optimization, ICML 2024,
    https://arxiv.org/abs/2402.19078, with the ideal point 0; computed by torchjd. N_t is a task's mean loss
    over its first ``warmup`` steps, and until every task has it, this is the plain sum. A small ``mu`` comes close to
    the maximum, a large one to equal weights of L_t / N_t. Where we differ: preferences are 1 / N_t, as losses of
    recommenders have different units; c = T^2 / sum_t (1 / N_t) makes weights add up to T where all L_t / N_t are
    equal. Only L_t / N_t counts once there is N_t, so that weights of tasks and lambda_shared cancel.

    Args:
        tasks: names in the order of the losses (completed by the program).
        mu: how smooth, above 0. warmup: steps with rows of a task that N_t is the mean of, at least 1.

    Raises:
        ValueError: mu not above 0, warmup below 1, a negative loss.
    """

    scale_invariant = True

    def __init__(self, tasks: Sequence[str], mu: float = 0.1, warmup: int = 200) -> None:
        super().__init__()
        if mu <= 0:
            raise ValueError(f"mu should be above 0. Found {mu}.")
        if warmup < 1:
            raise ValueError(f"warmup should be at least 1. Found {warmup}.")
        self.mu, self.warmup = mu, warmup
        self.register_buffer("total", torch.zeros(len(tasks)))  # of the warm-up
        self.register_buffer("count", torch.zeros(len(tasks)))
        self.total: Tensor
        self.count: Tensor

    def forward(self, losses: Tensor, gramian: Tensor | None = None) -> Tensor:
        check_not_negative(losses, "The smooth Tchebycheff scalarisation")
        present = losses != 0
        ready = (self.count >= self.warmup)[present].all()
        scales = (self.count / self.total).to(losses)[present]
        if self.training:
            new = present & losses.isfinite() & (self.count < self.warmup)
            self.total += torch.where(new, losses.detach(), 0).to(self.total)
            self.count += new
        if not ready or not present.any():
            return losses.sum()
        highest: Tensor = STCH(self.mu, weights=scales)(losses[present])
        return highest * len(scales) ** 2 / scales.sum()
