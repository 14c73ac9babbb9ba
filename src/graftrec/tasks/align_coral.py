"""Representations of domains that vary together in the same way: correlation alignment."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from graftrec.data.batch import View
from graftrec.tasks.alignment import Alignment, everybodys, nothing


class AlignCoral(Alignment):
    """|C_a - C_b|_F^2 / (4 D^2), where C_a (D, D) is the covariance of the rows z of a stream, and C_b of another's.

    B. Sun, K. Saenko, Deep CORAL: Correlation Alignment for Deep Domain Adaptation, ECCV 2016 workshops,
    https://arxiv.org/abs/1607.01719, equations 1 to 3. Means are not compared. More than two streams: the sum over
    pairs of streams.
    """

    additive = False

    def compare(self, views: Sequence[View], strength: float = 1.0) -> Tensor:
        parts = [everybodys(view.z.float()) for view in views]
        if min(map(len, parts)) < 2:
            return nothing(views)
        return strength * torch.stack([coral(a, b) for a, b in itertools.combinations(parts, 2)]).sum()


def coral(a: Tensor, b: Tensor) -> Tensor:
    """Of rows (n, D) and (m, D), at least 2 of each; a scalar."""
    return (_covariance(a) - _covariance(b)).pow(2).sum() / (4 * a.shape[1] ** 2)


def _covariance(rows: Tensor) -> Tensor:
    centred = rows - rows.mean(0)
    return centred.T @ centred / (len(rows) - 1)
