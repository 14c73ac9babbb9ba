"""IMTL-G: impartial multi-task learning, its balance of gradients."""

from __future__ import annotations

import torch
from torch import Tensor
from torchjd.aggregation import IMTLGWeighting

from graftrec.training.balancers.base import GramianBalancer, Place, cosines

RIDGE = 1e-9  # exactly opposed tasks have no projection in common but 0


class ImtlG(GramianBalancer):
    """The update whose projections on all gradients are equal: <d, g_t / |g_t|> is the same for every t.

    With C the cosines of the gradients, C x = 1 and w_t ~ x_t / |g_t|. L. Liu et al., Towards Impartial Multi-task
    Learning, ICLR 2021, https://openreview.net/forum?id=IMPnRXEWpvr, section 3.1; x is computed by torchjd, on unit
    gradients, where it is well conditioned and the update never turns around. Where we differ: weights add up to T, not
    to 1; negative ones count as 0 (see `GramianBalancer`), and the projections are then no longer equal.

    Args:
        at: where gradients are taken: see `GramianBalancer`.
    """

    scale_invariant = True

    def __init__(self, at: Place = "layer") -> None:
        super().__init__(at)
        self.solver = IMTLGWeighting()

    def weights(self, gramian: Tensor, losses: Tensor, active: Tensor) -> Tensor:
        unit, norms = cosines(gramian)
        x: Tensor = self.solver(unit + RIDGE * torch.eye(len(unit), dtype=unit.dtype))
        w = (x / norms).clamp_min(0)
        return w * (len(w) / w.sum())
