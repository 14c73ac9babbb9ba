"""Filters that look at all rows of a table: they only mark rows, and say so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from graftrec.data.tables.interactions import Interactions
from graftrec.utils.errors import DataError
from graftrec.utils.seeds import hashes


def deduplicated(data: Interactions) -> Interactions:
    """One row for each user, item and time, the one with the largest labels; the others are marked and counted.

    A label that is missing is the smallest; of equal rows their features decide, so that their order does not.
    """
    columns: list[npt.NDArray[Any]] = [data.keys[kind].codes for kind in ("user", "item") if data.has(kind)]
    if data.time is not None:
        columns.append(np.asarray(data.time))
    if not columns:
        return data
    order, same = _grouped(columns)
    if not same.any():
        return data
    rows = order[np.append(same, False) | np.insert(same, 0, False)]  # those that are not alone
    best = [-np.nan_to_num(column[rows], nan=-np.inf) for column in data.answers.T]
    ties = [hashes(keys)[codes[rows]] for keys, codes in zip(data.id_keys, data.codes.T, strict=True) if len(keys)]
    ties += [column[rows] for column in data.values.T]
    again, same = _grouped([column[rows] for column in columns], [*best, *ties])
    bad = np.zeros(data.size, dtype=bool)
    bad[rows[again[1:][same]]] = True
    return _without(data, bad, "repeats a user, item and time")


def _grouped(
    columns: list[npt.NDArray[Any]], then: list[npt.NDArray[Any]] | None = None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Rows (n,) in the order of ``columns`` and ``then``, and where (n - 1,) the next has the same ``columns``."""
    order = np.lexsort([*(then or [])[::-1], *columns[::-1]])
    return order, np.logical_and.reduce([column[order][1:] == column[order][:-1] for column in columns])


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
    if not kept.any():
        raise DataError("DATA-010", f"{data.name}: 0 rows are left in the {k}-core; set a smaller dataset.k_core")
    stamped = replace(data, stamps=(*data.stamps, f"{k}-core counted over all rows, also those that test"))
    return _without(stamped, first & ~kept, f"outside the {k}-core")


def _without(data: Interactions, bad: npt.NDArray[np.bool_], reason: str) -> Interactions:
    kept = ~bad if data.kept is None else data.kept & ~bad
    return replace(data, kept=kept, refused={**data.refused, reason: int(bad.sum())})
