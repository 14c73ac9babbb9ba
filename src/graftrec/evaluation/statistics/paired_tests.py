"""Paired tests of two lists of numbers: Student's t and Wilcoxon's signed ranks."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from graftrec.evaluation.statistics.intervals import t_two_sided

Array = npt.NDArray[np.float64]


EXACT = 50  # differences; as many as scipy counts out


class Paired(NamedTuple):
    """A statistic and its two-sided p, 1 where nothing differs or there are fewer than two pairs."""

    statistic: float
    p: float


def t_test(difference: Array) -> Paired:
    """Student's paired t of differences (n,): mean / (sd / sqrt n), n - 1 degrees of freedom (Student 1908)."""
    n = len(difference)
    spread = float(difference.std(ddof=1)) if n > 1 else 0.0
    mean = float(difference.mean()) if n else 0.0
    if n < 2 or (spread == 0 and mean == 0):
        return Paired(0.0, 1.0)
    if spread == 0:
        return Paired(math.copysign(math.inf, mean), 0.0)
    t = mean / (spread / math.sqrt(n))
    return Paired(t, t_two_sided(t, n - 1))


def _share_up_to(w: int, n: int) -> float:
    """The share of all 2^n choices of the numbers 1..n whose sum is at most ``w``."""
    ways = np.zeros(w + 1)
    ways[0] = 1.0
    for rank in range(1, min(n, w) + 1):
        ways[rank:] += ways[: len(ways) - rank].copy()
    return float(ways.sum() / 2.0**n)


def signed_ranks(difference: Array) -> Paired:
    """Wilcoxon's signed-rank test of differences (n,): exact up to `EXACT` of them without ties and zeros, else by the
    normal law, with the correction for ties and no other.

    W is the smaller of the rank sums of positive and negative differences; zeros are left out.
    F. Wilcoxon, Individual Comparisons by Ranking Methods, 1945, https://doi.org/10.2307/3001968.
    """
    kept = difference[difference != 0]
    n = len(kept)
    if n < 1:
        return Paired(0.0, 1.0)
    _, at, ties = np.unique(np.abs(kept), return_inverse=True, return_counts=True)
    ranks = (ties.cumsum() - (ties - 1) / 2)[at]
    positive = float(ranks[kept > 0].sum())
    w = min(positive, n * (n + 1) / 2 - positive)
    if n == len(difference) == len(ties) and n <= EXACT:
        return Paired(w, min(1.0, 2 * _share_up_to(int(w), n)))
    variance = n * (n + 1) * (2 * n + 1) / 24 - float((ties**3 - ties).sum()) / 48
    z = (w - n * (n + 1) / 4) / math.sqrt(variance)
    return Paired(w, min(1.0, math.erfc(abs(z) / math.sqrt(2))))
