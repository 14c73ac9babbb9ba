"""The differences of many cells at once, with intervals over users and seeds, and what a family of them says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt

from graftrec.analysis.statistics import t_quantile

Array = npt.NDArray[np.float64]
Verdict = Literal["helps", "hurts", "no evidence"]

AT_ONCE = 8_000_000  # weights held at once (32 MB)


@dataclass(frozen=True)
class Measured:
    """A mean difference with its marginal interval, in the metric's unit."""

    delta: float  # NaN without users
    low: float
    high: float
    p: float  # two-sided, in (0, 1]
    n: int  # users that count
    seeds: int
    minimum_detectable: float  # the difference that would have been found with 80 % power


def measure(
    differences: Sequence[npt.ArrayLike], draws: int = 10_000, level: float = 0.95, seed: int = 0
) -> list[Measured]:
    """Mean over users and seeds of each array of differences (seeds, users), with an interval that counts both levels.

    All arrays have the same users, in the same order; a user with a NaN in any seed is left out of that array.

      delta* - delta = (1/n) sum_u (w_u - 1) (d_u - delta) sqrt(n / (n - 1)) k + t e,     w_u ~ Poisson(1)

    d_u is a user's mean over the seeds, e the standard error of the seeds' means, t Student's with seeds - 1 degrees of
    freedom (0 with one seed, which says nothing of another one). The first term is the bootstrap over users (Poisson
    weights: J. Hanley, B. MacGibbon, 2006, https://doi.org/10.1016/j.cmpb.2006.04.006), k = t quantile / normal
    quantile for few of them. Seeds are not resampled: a bootstrap of 5 is far too short; drawing t instead gives the
    fiducial interval of Behrens and Fisher (R. Fisher, 1935, https://doi.org/10.1111/j.1469-1809.1935.tb02120.x),
    which errs to the wide side. low and high are delta less the quantiles of delta* - delta, p the share of draws at
    least as far from 0 as delta.
    """
    if not 0 < level < 1 or draws < 1:
        raise ValueError(f"level should be in (0, 1) and draws at least 1. Found {level} and {draws}.")
    arrays = [np.atleast_2d(np.asarray(values, dtype=np.float64)) for values in differences]
    if not arrays:
        return []
    if len({values.shape[1] for values in arrays}) > 1:
        raise ValueError("differences should all be of the same users.")
    kept = [~np.isnan(values).any(0) for values in arrays]
    sizes = [int(mask.sum()) for mask in kept]
    columns = np.zeros((arrays[0].shape[1], len(arrays)))
    deltas = [
        float(values[:, mask].mean()) if n else math.nan for values, mask, n in zip(arrays, kept, sizes, strict=True)
    ]
    for at, (values, mask, n) in enumerate(zip(arrays, kept, sizes, strict=True)):
        if n > 1:
            few = _few(n - 1, level)
            columns[mask, at] = (values[:, mask].mean(0) - deltas[at]) * few / math.sqrt(n * (n - 1))
    random = np.random.default_rng(seed)
    moved = _poisson(columns, draws, random)  # (draws, arrays)
    found = []
    for at, (values, mask, n) in enumerate(zip(arrays, kept, sizes, strict=True)):
        own = values[:, mask]
        if n < 2:  # no interval from one user
            found.append(Measured(deltas[at], -math.inf, math.inf, 1.0, n, len(own), math.inf))
            continue
        error = math.sqrt(float(own.mean(1).var(ddof=1)) / len(own)) if len(own) > 1 else 0.0
        t = random.standard_t(len(own) - 1, draws) if len(own) > 1 else np.zeros(draws)
        found.append(_measured(deltas[at], moved[:, at] + t * error, own, level))
    return found


def _measured(delta: float, moved: Array, own: Array, level: float) -> Measured:
    tail = (1 - level) / 2
    low, high = np.quantile(moved, (tail, 1 - tail))
    slack = 1e-12 * float(np.abs(own).max())  # all differences the same, up to rounding
    extreme = int((np.abs(moved) >= abs(delta) - slack).sum())
    p = 1.0 if abs(delta) <= slack else (1 + extreme) / (1 + len(moved))
    return Measured(delta, delta - float(high), delta - float(low), p, own.shape[1], len(own), detectable(own, level))


def detectable(difference: Array, level: float = 0.95, power: float = 0.8) -> float:
    """The true difference that a two-sided test at ``1 - level`` finds with this power: (t_level + t_power) e.

    e is the standard error of the mean of ``difference`` (seeds, users) over both levels, with Satterthwaite's degrees
    of freedom (1946, https://doi.org/10.2307/3002019).
    """
    seeds, n = difference.shape
    if n < 2:
        return math.inf
    users = float(difference.mean(0).var(ddof=1)) / n
    of_seeds = float(difference.mean(1).var(ddof=1)) / seeds if seeds > 1 else 0.0
    variance = users + of_seeds
    if variance <= 0:
        return 0.0
    degrees = variance**2 / (users**2 / (n - 1) + (of_seeds**2 / (seeds - 1) if seeds > 1 else 0.0))
    return (t_quantile((1 + level) / 2, degrees) + t_quantile(power, degrees)) * math.sqrt(variance)


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p values of one family: the i-th smallest of m times m - i + 1, never below a smaller one's, at most 1.

    S. Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979, https://www.jstor.org/stable/4615733.
    """
    order = sorted(range(len(p)), key=lambda at: p[at])
    found, least = [1.0] * len(p), 0.0
    for rank, at in enumerate(order):
        least = max(least, min(1.0, p[at] * (len(p) - rank)))
        found[at] = least
    return found


def verdict(delta: float, p_holm: float, level: float = 0.95) -> Verdict:
    """What an adjusted p value says of a difference that is above 0 where the first arm is better."""
    if not p_holm < 1 - level:
        return "no evidence"
    return "helps" if delta > 0 else "hurts"


def by_user(values: npt.ArrayLike, users: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], Array]:
    """Values (n,) of rows as values of their users (U,), whose mean is the rows' and whose spread is that of users.

    v_u = m + (U / n) sum_{r of u} (v_r - m), m the mean over rows: rows of one user are not independent, and a user
    with many of them counts for as much as before. Missing values (NaN) are left out, and a user who has no other is
    NaN. Users are sorted; rows of nobody known (0) are their own users.
    """
    rows = np.asarray(values, dtype=np.float64)
    who = np.where(users == 0, -1 - np.arange(len(users)), users)
    names, at = np.unique(who, return_inverse=True)
    there = ~np.isnan(rows)
    count = np.bincount(at[there], minlength=len(names))
    if not there.any():
        return names, np.full(len(names), np.nan)
    mean = rows[there].mean()
    sums = np.bincount(at[there], rows[there] - mean, minlength=len(names))
    found: Array = np.where(count > 0, mean + sums * (count > 0).sum() / there.sum(), np.nan)
    return names, found


def _poisson(columns: Array, draws: int, random: np.random.Generator) -> Array:
    """sum_u (w_u - 1) c_u of each column (users, k) for each draw: (draws, k)."""
    users, found = len(columns), np.zeros((draws, columns.shape[1]))
    step = max(1, AT_ONCE // max(1, users))
    for low in range(0, draws, step):
        rows = min(step, draws - low)
        found[low : low + rows] = (random.poisson(1.0, (rows, users)) - 1.0) @ columns
    return found


@cache
def _few(degrees: int, level: float) -> float:
    """How much wider an interval of few users is than the normal one."""
    return t_quantile((1 + level) / 2, degrees) / NormalDist().inv_cdf((1 + level) / 2)
