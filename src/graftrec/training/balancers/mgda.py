"""MGDA: multiple-gradient descent."""

from __future__ import annotations

import torch
from torch import Tensor

from graftrec.training.balancers.base import GramianBalancer
from graftrec.training.balancers.solvers import nonnegative

RIDGE = 1e-9  # makes the solution one where gradients depend on each other


class Mgda(GramianBalancer):
    """w = T argmin over the simplex of w^T G w: the shortest vector in the convex hull of the gradients.

    O. Sener, V. Koltun, Multi-Task Learning as Multi-Objective Optimization, NeurIPS 2018,
    https://arxiv.org/abs/1810.04650, equation 3. Where we differ: weights add up to T, not to 1; solved exactly, as the
    w ~ x >= 0 with the least x^T G x / 2 + (sum x - 1)^2 / 2. torchjd's MGDAWeighting is not taken: its Frank-Wolfe
    steps zigzag with three tasks or more, and 250 of them are ten times slower and still short of the solution.

    Args:
        at: where gradients are taken: see `GramianBalancer`.
    """

    no_conflict = True

    def weights(self, gramian: Tensor, losses: Tensor, active: Tensor) -> Tensor:
        ones = torch.ones(len(gramian), dtype=gramian.dtype)
        x = nonnegative(gramian + 1 + RIDGE * torch.diag(gramian.diagonal()), ones)
        return x * (len(x) / x.sum())
