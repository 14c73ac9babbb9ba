"""Aligned-MTL."""

from __future__ import annotations

import torch
from torch import Tensor

from graftrec.training.balancers.base import GramianBalancer


class AlignedMtl(GramianBalancer):
    """The gradients' principal components brought to one length, the smallest of them, so that none dominates.

    G = V diag(s^2) V^T, w = B 1 with B = min(s) V diag(1 / s) V^T: the matrix of aligned gradients has condition number
    1. D. Senushkin et al., Independent Component Alignment for Multi-Task Learning, CVPR 2023,
    https://arxiv.org/abs/2305.19000, algorithm 1 with equal preferences. Where we differ: times T (the paper takes the
    mean); components below float32's precision are dropped, as the Gramian comes in it (torchjd's AlignedMTLWeighting
    takes the precision of what it gets, here float64, and would shrink everything to such noise); negative weights
    count as 0 (see `GramianBalancer`).

    Args:
        at: where gradients are taken: see `GramianBalancer`.
    """

    def weights(self, gramian: Tensor, losses: Tensor, active: Tensor) -> Tensor:
        return alignment(gramian).sum(1)


def alignment(gramian: Tensor) -> Tensor:
    """B (T, T), with B G B = min(s)^2 on the span of the gradients."""
    squares, vectors = torch.linalg.eigh(gramian)
    kept = squares > len(gramian) * torch.finfo(torch.float32).eps * squares.max()
    lengths, vectors = squares[kept].sqrt(), vectors[:, kept]
    found: Tensor = vectors * (lengths.min() / lengths) @ vectors.T
    return found
