"""Geometric mean."""

from __future__ import annotations

from torch import Tensor
from torchjd.scalarization import GeometricMean

from graftrec.training.balancers.base import Balancer, check_not_negative


class Geometric(Balancer):
    """T (prod_t L_t)^(1/T): weights are the mean over L_t, so that every task pulls in proportion to its own loss.

    S. Chennupati et al., MultiNet++: Multi-Stream Feature Aggregation and Geometric Loss Strategy for Multi-Task
    Learning, CVPR Workshops 2019, https://arxiv.org/abs/1904.08492; computed by torchjd. Where we differ:
    times T, which is the plain sum where losses are equal; the mean is over tasks with rows, since one 0 makes it 0.

    Raises:
        ValueError: a negative loss.
    """

    scale_invariant = True

    def __init__(self) -> None:
        super().__init__()
        self.mean = GeometricMean()

    def forward(self, losses: Tensor, gramian: Tensor | None = None) -> Tensor:
        check_not_negative(losses, "The geometric mean")
        present = losses[losses != 0]
        mean: Tensor = self.mean(present) if len(present) else losses.sum()
        return len(present) * mean
