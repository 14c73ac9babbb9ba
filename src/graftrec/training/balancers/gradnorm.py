"""GradNorm."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from graftrec.training.balancers.base import GramianBalancer, Place, check_not_negative

LEAST = 1e-3  # a weight of 0 would never come back


class GradNorm(GramianBalancer):
    """sum_t w_t L_t: w_t |g_t| learns to follow mean_k(w_k |g_k|) r_t^alpha, so that tasks learn at similar rates.

    r_t = (L_t / L_t of the first step) / mean of all. After each step w descends along d/dw sum_t |w_t |g_t| - target|,
    targets held constant, and is rescaled to add up to T. Z. Chen et al., GradNorm: Gradient Normalization for Adaptive
    Loss Balancing in Deep Multitask Networks, ICML 2018, https://arxiv.org/abs/1711.02257, algorithm 1. Where we
    differ: norms are relative to their root mean square, so that ``lr`` does not depend on the unit of the losses;
    plain descent, where the paper takes the model's optimizer; weights stay above 0. Weights of tasks and lambda_shared
    say where w starts, and it learns them away again.

    Args:
        tasks: names in the order of the losses (completed by the program).
        alpha: at least 0; the larger, the more a task that is behind gets. lr: of w, above 0.
        at: where gradients are taken: see `GramianBalancer`.

    Raises:
        ValueError: lr not above 0, alpha below 0, a negative loss.
    """

    def __init__(self, tasks: Sequence[str], alpha: float = 1.5, lr: float = 0.025, at: Place = "layer") -> None:
        super().__init__(at)
        if lr <= 0:
            raise ValueError(f"lr should be above 0. Found {lr}.")
        if alpha < 0:
            raise ValueError(f"alpha should be at least 0. Found {alpha}.")
        self.alpha, self.lr = alpha, lr
        self.register_buffer("learned", torch.ones(len(tasks)))
        self.register_buffer("initial", torch.full((len(tasks),), torch.nan))
        self.learned: Tensor
        self.initial: Tensor

    def weights(self, gramian: Tensor, losses: Tensor, active: Tensor) -> Tensor:
        check_not_negative(losses, "GradNorm")
        weights = self.learned.double().cpu()[active]
        weights *= len(weights) / weights.sum()
        initial = self.initial.double().cpu()[active]
        initial = torch.where(initial.isnan(), losses, initial).clamp_min(torch.finfo(torch.float32).tiny)
        progress = losses / initial
        rates = progress / progress.mean().clamp_min(torch.finfo(torch.float32).tiny)
        norms = gramian.diagonal().sqrt()
        pulls = weights * norms
        gradient = norms * (pulls - pulls.mean() * rates**self.alpha).sign()
        moved = (weights - self.lr * gradient).clamp_min(LEAST)
        if self.training and moved.isfinite().all():
            where = active.to(self.learned.device)
            self.learned[where] = (moved * len(moved) / moved.sum()).to(self.learned)
            self.initial[where] = initial.to(self.initial)
        return weights
