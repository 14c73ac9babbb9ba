"""CAGrad: conflict-averse gradient descent."""

from __future__ import annotations

from torch import Tensor

from graftrec.training.balancers.base import GramianBalancer, Place
from graftrec.training.balancers.solvers import mixture

SHORTEST = 1e-4  # of |g_w|, where gradients have a root mean square norm of 1


class CaGrad(GramianBalancer):
    """The direction within c |g_0| of the mean gradient g_0 that helps the worst-off task most.

    d = g_0 + c |g_0| g_w / |g_w|, g_w = sum_t w_t g_t, w = argmin over the simplex of <g_w, g_0> + c |g_0| |g_w|.
    c = 0 is the plain sum, and the closer to 1, the more like MGDA. B. Liu et al., Conflict-Averse Gradient Descent for
    Multi-task Learning, NeurIPS 2021, https://arxiv.org/abs/2110.14048, algorithm 1. Where we differ: d times
    T / (1 + c), which is the plain sum where tasks are equal; |g_w| counts as at least 1e-4 of the gradients' size:
    below it tasks cannot be improved together any more. torchjd's CAGradWeighting needs cvxpy; here w is found by a few
    Newton steps.

    Args:
        c: in [0, 1), how far from the mean gradient. at: where gradients are taken: see `GramianBalancer`.

    Raises:
        ValueError: c outside [0, 1), where the paper's convergence ends.
    """

    def __init__(self, c: float = 0.4, at: Place = "layer") -> None:
        super().__init__(at)
        if not 0 <= c < 1:
            raise ValueError(f"c should be in [0, 1). Found {c}.")
        self.c = c

    def weights(self, gramian: Tensor, losses: Tensor, active: Tensor) -> Tensor:
        towards_mean = gramian.mean(1)  # <g_t, g_0>
        radius = self.c * towards_mean.mean().clamp_min(0).sqrt()
        w = mixture(gramian, towards_mean, float(radius), SHORTEST)
        length = (w @ gramian @ w).clamp_min(0).sqrt().clamp_min(SHORTEST)
        return (1 + len(gramian) * radius / length * w) / (1 + self.c)
