"""Ranking baselines: what a user would pick instead of a network. Each scores the whole catalogue from the past."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import torch

Scores = npt.NDArray[np.float32]
"""(U, N): higher is better."""
Days = npt.NDArray[np.float64]

EASE_ITEMS = 12_000
_COLUMNS = 4_096


@dataclass(frozen=True, eq=False)
class Past:
    """Purchases, one a row, in any order."""

    user: npt.NDArray[np.int64]  # (n,) in [0, n_users)
    item: npt.NDArray[np.int64]  # (n,) in [0, n_items)
    time: npt.NDArray[np.float64]  # (n,) days
    n_users: int
    n_items: int

    def __post_init__(self) -> None:
        if not self.user.shape == self.item.shape == self.time.shape or self.user.ndim != 1:
            raise ValueError(f"user {self.user.shape}, item {self.item.shape}, time {self.time.shape}: (n,) is needed")
        for name, values, size in (("user", self.user, self.n_users), ("item", self.item, self.n_items)):
            if values.size and (values.min() < 0 or values.max() >= size):
                raise ValueError(f"{name} is outside [0, {size})")
        if np.isnan(self.time).any():
            raise ValueError("a time is NaN")


class Baseline(Protocol):
    """A named scorer with at most one hyper-parameter."""

    name: ClassVar[str]
    grid: ClassVar[tuple[float | None, ...]]  # (None,) where there is nothing to choose
    dense: ClassVar[bool]  # whether it needs more than one matrix (U, N)

    def scores(self, past: Past, at: Days, value: float | None) -> Scores:
        """Score (U, N) from all rows of ``past``, as of the day ``at`` (U,) of each user."""
        ...


class Popularity:
    """Number of purchases, the same list for everyone."""

    name: ClassVar[str] = "popularity"
    grid: ClassVar[tuple[float | None, ...]] = (None,)
    dense: ClassVar[bool] = False

    def scores(self, past: Past, at: Days, value: float | None = None) -> Scores:
        """Return (U, N) counts of the rows; ``at`` and ``value`` are not used."""
        counts = np.bincount(past.item, minlength=past.n_items).astype(np.float32)
        return np.broadcast_to(counts, (past.n_users, past.n_items))


class OwnFrequency:
    """The user's own purchases of the item, each worth 2^(-age / half-life).

    A strong baseline in grocery (Hu et al. 2020, https://arxiv.org/abs/2006.00556; Li et al. 2023,
    https://arxiv.org/abs/2109.14233).
    """

    name: ClassVar[str] = "own_frequency"
    grid: ClassVar[tuple[float | None, ...]] = (None, 15.0, 30.0, 60.0, 90.0, 120.0, 180.0)  # days; None: unweighted
    dense: ClassVar[bool] = True

    def scores(self, past: Past, at: Days, value: float | None) -> Scores:
        """Return (U, N) weighted counts of the rows with a half-life of ``value`` days before ``at``."""
        if value is not None and value <= 0:
            raise ValueError(f"a half-life of {value} days is not positive")
        weight = None if value is None else np.exp2((past.time - at[past.user]) / value)
        cell = past.user * past.n_items + past.item
        counts = np.bincount(cell, weights=weight, minlength=past.n_users * past.n_items)
        return counts.astype(np.float32).reshape(past.n_users, past.n_items)


class ItemKnn:
    """Sum of the cosines to the items that the user bought, of the binary user x item matrix.

    The cosine is shrunk, x_i . x_j / (|x_i| |x_j| + shrink), as in Ferrari Dacrema et al. 2019
    (https://arxiv.org/abs/1907.06902); an item is no neighbour of itself. All neighbours count.
    """

    name: ClassVar[str] = "item_knn"
    grid: ClassVar[tuple[float | None, ...]] = (0.0, 2.0, 5.0, 10.0)  # users
    dense: ClassVar[bool] = True

    def scores(self, past: Past, at: Days, value: float | None) -> Scores:
        """Return (U, N) with a shrink of ``value`` users (None: 0); ``at`` is not used."""
        x = _binary(past)
        norm = np.sqrt(x.sum(0))
        result = np.empty_like(x)
        for low in range(0, past.n_items, _COLUMNS):  # N x 4096 cosines at a time
            block = slice(low, min(low + _COLUMNS, past.n_items))
            denominator = np.outer(norm, norm[block]) + np.float32(value or 0.0)
            cosine = x.T @ x[:, block]
            np.divide(cosine, denominator, out=cosine, where=denominator > 0)
            columns = np.arange(block.start, block.stop)
            cosine[columns, columns - low] = 0.0
            result[:, block] = x @ cosine
        return result


class Ease:
    """Linear item-item model in closed form (Steck 2019, https://arxiv.org/abs/1905.03375).

    B = I - P / diag(P) with P = (X'X + lambda I)^-1, X the binary user x item matrix. With fewer users than items,
    X P = M X and lambda diag(P) = 1 - diag(X' M X) with M = (X X' + lambda I)^-1 (Woodbury), so that the inverse costs
    U^3 and no N x N matrix is ever made. With more than 12,000 items only the 12,000 most popular are modelled and the
    others score -inf: they come last, as ties.
    """

    name: ClassVar[str] = "ease"
    grid: ClassVar[tuple[float | None, ...]] = (50.0, 100.0, 300.0, 1000.0)  # lambda
    dense: ClassVar[bool] = True

    def scores(self, past: Past, at: Days, value: float | None) -> Scores:
        """Return (U, N) with lambda = ``value`` > 0; ``at`` is not used."""
        if value is None or value <= 0:
            raise ValueError(f"lambda is {value}, a positive number is needed")
        rows = past
        if past.n_items <= EASE_ITEMS:
            return _ease(_binary(rows), value)
        counts = np.bincount(rows.item, minlength=past.n_items)
        kept = np.sort(np.argsort(-counts, kind="stable")[:EASE_ITEMS])
        place = np.full(past.n_items, -1, dtype=np.int64)
        place[kept] = np.arange(EASE_ITEMS)
        inside = place[rows.item] >= 0
        few = Past(rows.user[inside], place[rows.item[inside]], rows.time[inside], past.n_users, EASE_ITEMS)
        result = np.full((past.n_users, past.n_items), -np.inf, dtype=np.float32)
        result[:, kept] = _ease(_binary(few), value)
        return result


def choose(baseline: Baseline, past: Past, at: Days, metric: Callable[[Scores], float]) -> float | None:
    """Return the value of the baseline's grid whose scores get the highest ``metric``, the first among equals.

    ``past`` and ``at`` are as validation sees them: the metric looks at what came after.
    A NaN never wins; ValueError where nothing else was seen.
    """
    if len(baseline.grid) == 1:
        return baseline.grid[0]
    best: tuple[float, float | None] | None = None
    for value in baseline.grid:
        quality = float(metric(baseline.scores(past, at, value)))
        if not np.isnan(quality) and (best is None or quality > best[0]):
            best = (quality, value)
    if best is None:
        raise ValueError(f"the metric is NaN for every value of {baseline.name}")
    return best[1]


def _binary(past: Past) -> Scores:
    """Return the matrix (U, N) of who bought what, 0 or 1."""
    x = np.zeros((past.n_users, past.n_items), dtype=np.float32)
    x[past.user, past.item] = 1.0
    return x


def _ease(x: Scores, penalty: float, woodbury: bool | None = None) -> Scores:
    """Return X B (U, N); ``woodbury`` None takes the cheaper of the two equal ways. Co-occurrences are exact."""
    users, items = x.shape
    data = torch.from_numpy(x)
    if users < items if woodbury is None else woodbury:
        factor = _cholesky(data @ data.T, penalty)
        smooth = torch.cholesky_solve(data, factor)  # M X = X P, (U, N)
        diagonal = (1.0 - (data * smooth).sum(0)) / penalty
    else:
        inverse = torch.cholesky_inverse(_cholesky(data.T @ data, penalty))  # P, (N, N)
        smooth = data @ inverse
        diagonal = inverse.diagonal()
    scores: Scores = (data - smooth / diagonal).numpy()
    return scores


def _cholesky(gram: torch.Tensor, penalty: float) -> torch.Tensor:
    """Return the Cholesky factor of ``gram`` + penalty I, both (n, n)."""
    gram.diagonal().add_(penalty)
    factor: torch.Tensor = torch.linalg.cholesky(gram)
    return factor
