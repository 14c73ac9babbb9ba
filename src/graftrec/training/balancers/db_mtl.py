"""DB-MTL: dual-balancing."""

from __future__ import annotations

from torch import Tensor

from graftrec.training.balancers.base import GramianBalancer

EPSILON = 1e-8  # the authors' own, below the logarithm


class DbMtl(GramianBalancer):
    """Gradients of log L_t, each scaled to the norm of the largest: w_t = max_k |grad log L_k| / |g_t|.

    grad log L_t = g_t / L_t; with the scale n / |g_t / L_t| its weight in the sum is n / |g_t|. B. Lin et al.,
    Dual-Balancing for Multi-Task Learning, 2023, https://arxiv.org/abs/2308.12029. Weights are the
    paper's, and do not add up to T: the update has the size of a gradient of log L. Where we differ: gradients of this
    step only (beta = 0), while the paper smooths them over steps, which needs T gradients of the whole trunk in memory;
    heads get w_t, where the paper gives them 1 / L_t.

    Args:
        at: where gradients are taken: see `GramianBalancer`.
    """

    scale_invariant = True

    def weights(self, gramian: Tensor, losses: Tensor, active: Tensor) -> Tensor:
        norms = gramian.diagonal().sqrt()
        return (norms / (losses + EPSILON)).max() / norms
