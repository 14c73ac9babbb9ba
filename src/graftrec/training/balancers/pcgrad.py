"""PCGrad: gradient surgery."""

from __future__ import annotations

import torch
from torch import Tensor

from graftrec.training.balancers.base import GramianBalancer, Place, generator


class PcGrad(GramianBalancer):
    """Each gradient loses its component against every other that it conflicts with, in random order; then the sum.

    g_i <- g_i - min(0, <g_i, g_j>) / |g_j|^2 g_j for all j != i. T. Yu et al., Gradient Surgery for Multi-Task
    Learning, NeurIPS 2020, https://arxiv.org/abs/2001.06782, algorithm 1, in coefficients of the g_j, for all i at
    once. Weights are the paper's: 1 without a conflict, more with one. torchjd's PCGradWeighting is not taken, as it
    draws from the global generator.

    Args:
        seed: of the orders that are drawn (completed by the program).
        at: where gradients are taken: see `GramianBalancer`.
    """

    permutation_equivariant = False

    def __init__(self, seed: int = 0, at: Place = "layer") -> None:
        super().__init__(at)
        self.seed = seed
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.steps: Tensor

    def forward(self, losses: Tensor, gramian: Tensor | None = None) -> Tensor:
        total = super().forward(losses, gramian)
        if self.training:
            self.steps += 1
        return total

    def weights(self, gramian: Tensor, losses: Tensor, active: Tensor) -> Tensor:
        count = len(gramian)
        draws = torch.rand(count, count, generator=generator(self.seed, int(self.steps)))
        coefficients, rows = torch.eye(count, dtype=gramian.dtype), torch.arange(count)
        for j in draws.argsort(1).T:  # row i meets j[i]
            inner = (coefficients * gramian[j]).sum(1)
            inner = torch.where(j == rows, 0.0, inner)  # not itself
            coefficients[rows, j] -= inner.clamp_max(0) / gramian.diagonal()[j]
        return coefficients.sum(0)
