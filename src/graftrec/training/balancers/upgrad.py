"""UPGrad."""

from __future__ import annotations

import torch
from torch import Tensor
from torchjd.aggregation import UPGradWeighting

from graftrec.training.balancers.base import GramianBalancer, Place, cosines
from graftrec.training.balancers.solvers import nonnegative

RIDGE = 1e-10  # makes the solution one where gradients depend on each other


class UpGrad(GramianBalancer):
    """Each gradient is projected onto the cone of updates that make no task worse; then the sum.

    P. Quinton, V. Rey, Jacobian Descent for Multi-Objective Optimization, 2024, https://arxiv.org/abs/2406.16232,
    proposition 1: the projection of g_i is sum_t v_t g_t with v = argmin v^T G v over v >= e_i. Computed
    by torchjd with a projector of our own (its needs quadprog). Where we differ: times T (the paper takes the mean), so
    weights are 1 without a conflict and more with one.

    Args:
        at: where gradients are taken: see `GramianBalancer`.
    """

    no_conflict = True

    def __init__(self, at: Place = "layer") -> None:
        super().__init__(at)
        self.solver = UPGradWeighting(projector=projected)

    def weights(self, gramian: Tensor, losses: Tensor, active: Tensor) -> Tensor:
        found: Tensor = self.solver(gramian)
        return len(gramian) * found


def projected(rows: Tensor, gramian: Tensor) -> Tensor:
    """For each u in ``rows`` (M, T) the argmin of v^T G v over v >= u: (M, T)."""
    unit, norms = cosines(gramian)  # in units of each gradient's own norm
    unit = unit + RIDGE * torch.eye(len(unit), dtype=unit.dtype)
    found = []
    for u in rows * norms:
        size = u.abs().max()
        found.append(u + size * nonnegative(unit, -unit @ u / size))
    return torch.stack(found) / norms
