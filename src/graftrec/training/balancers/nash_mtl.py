"""Nash-MTL."""

from __future__ import annotations

import torch
from torch import Tensor

from graftrec.training.balancers.base import GramianBalancer, cosines

RIDGE = 1e-9  # a bargain of exactly opposed tasks has no end


class NashMtl(GramianBalancer):
    """G a = 1 / a with a > 0: the bargain between tasks whose utility is the gradient's part in the update.

    A. Navon et al., Multi-Task Learning as a Bargaining Game, ICML 2022, https://arxiv.org/abs/2202.01017, claim 3.1.
    The solution is the minimum of a^T G a / 2 - sum_t log a_t, which is convex, found by damped Newton steps on unit
    gradients. Where we differ: weights are a, scaled to add up to T, since the paper's norm of the update is a choice
    (there sqrt(T), cut at max_norm); solved anew and exactly in every step. torchjd's NashMTL needs cvxpy and explicit
    gradients.

    Args:
        at: where gradients are taken: see `GramianBalancer`.
    """

    scale_invariant = True
    no_conflict = True

    def weights(self, gramian: Tensor, losses: Tensor, active: Tensor) -> Tensor:
        unit, norms = cosines(gramian)
        a = bargain(unit + RIDGE * torch.eye(len(unit), dtype=unit.dtype)) / norms
        return a * (len(a) / a.sum())


def bargain(gramian: Tensor) -> Tensor:
    """a > 0 with G a = 1 / a, for a positive definite G (T, T)."""
    a = torch.ones(len(gramian), dtype=gramian.dtype)
    for _ in range(500):
        gradient = gramian @ a - 1 / a
        step = torch.linalg.solve(gramian + torch.diag(a**-2), gradient)
        decrement = float((gradient @ step).clamp_min(0).sqrt())
        # the objective is self-concordant: these steps stay above 0 and converge from anywhere
        a = a - step / (1 + decrement if decrement > 0.25 else 1)
        if decrement < 1e-12:
            break
    return a
