"""Filters that look at all rows of a table: they only mark rows, and say so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from graftrec.data.table import Interactions


def deduplicated(data: Interactions) -> Interactions:
    """One row for each user, item and time, the one with the largest labels; the others are marked and counted."""
    columns: list[npt.NDArray[Any]] = [data.keys[kind].codes for kind in ("user", "item") if data.has(kind)]
    if data.time is not None:
        columns.append(np.unique(data.time, return_inverse=True)[1])
    if not columns:
        return data
    order = np.lexsort([*(-np.nan_to_num(column, nan=-1.0) for column in data.answers.T[::-1]), *columns])
    same = np.zeros(data.size, dtype=bool)
    same[order[1:]] = np.logical_and.reduce([column[order][1:] == column[order][:-1] for column in columns])
    if not same.any():
        return data
    return _without(data, same, "repeats a user, item and time")


def cored(data: Interactions, k: int) -> Interactions:
    """Rows whose user and item both have at least ``k`` rows among those that are left (k-core)."""
    kept = np.ones(data.size, dtype=bool) if data.kept is None else data.kept.copy()
    first = kept.copy()
    while True:
        before = int(kept.sum())
        for kind in ("user", "item"):
            codes = data.keys[kind].codes
            counts = np.bincount(codes[kept], minlength=len(data.keys[kind].keys))
            kept &= counts[codes] >= k
        if int(kept.sum()) == before:
            break
    stamped = replace(data, stamps=(*data.stamps, f"{k}-core counted over all rows, also those that test"))
    return _without(stamped, first & ~kept, f"outside the {k}-core")


def _without(data: Interactions, bad: npt.NDArray[np.bool_], reason: str) -> Interactions:
    kept = ~bad if data.kept is None else data.kept & ~bad
    return replace(data, kept=kept, refused={**data.refused, reason: int(bad.sum())})
