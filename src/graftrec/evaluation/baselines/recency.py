"""Sums of weights that halve with their age, as of many moments at once: what was popular of late."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Days = npt.NDArray[np.float64]
Sums = npt.NDArray[np.float64]

_CELLS = 2**23  # sums that are made at once: 64 MB
_HALVES = 400  # half-lives that a block of moments spans: 2^-400 and what is far below it are numbers still


def decayed(
    key: Ints, weight: Days, time: Days, keys: int, moments: Days, half_life: float
) -> Iterator[tuple[slice, Sums]]:
    """What each key's rows before a moment are worth, for many moments: decayed counts, a block of moments at a time.

    S_k(m) = sum of w_j 2^((t_j - m) / half-life) over the rows j of key k with t_j < m: a row counts for the moments
    strictly after it. A later moment has S_k(m') = 2^((m - m') / half-life) S_k(m) + what came from m on, so that each
    row is added once, at the first moment that knows it, as of the last moment of the block, and running sums do the
    rest: time grows with rows + moments x keys.

    Args:
        key: (n,) in [0, ``keys``). weight: (n,). time: (n,) days, in any order. moments: (M,) days, sorted.
        half_life: days, positive.

    Yields:
        a slice of the moments, and their sums (B, ``keys``), float64, which is the caller's own.
    """
    if not half_life > 0:
        raise ValueError(f"a half-life of {half_life} days is not positive")
    order = np.argsort(time, kind="stable")
    key, weight, time = key[order], weight[order], time[order]
    before = np.searchsorted(time, moments)  # rows that each moment knows
    kept, last, row = np.zeros(keys), float(moments[0]) if len(moments) else 0.0, 0
    for block in _blocks(moments, _HALVES * half_life, max(1, _CELLS // max(1, keys))):
        own, rows = moments[block], slice(row, int(before[block.stop - 1]))
        now = float(own[-1])
        first = np.searchsorted(own, time[rows], side="right")
        worth = weight[rows] * np.exp2((time[rows] - now) / half_life)
        cell = first * keys + key[rows]
        sums: Sums = np.bincount(cell, worth, len(own) * keys).astype(np.float64).reshape(len(own), keys)
        sums[0] += kept * np.exp2((last - now) / half_life)
        np.cumsum(sums, axis=0, out=sums)
        kept, last, row = sums[-1].copy(), now, rows.stop
        sums *= np.exp2((now - own) / half_life)[:, None]
        yield block, sums


def _blocks(moments: Days, span: float, size: int) -> Iterator[slice]:
    """Moments (M,) in order: at most ``size`` of them and ``span`` days at a time."""
    if not len(moments):
        return
    far = np.flatnonzero(np.diff(np.floor((moments - moments[0]) / span))) + 1
    edges = np.unique(np.concatenate([far, np.arange(0, len(moments), size), [len(moments)]]))
    for low, high in pairwise(edges.tolist()):
        yield slice(low, high)
