"""Ranking baselines: what a user would pick instead of a network. Each scores the whole catalogue from the past."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from graftrec.data.table import distinct

Scores = npt.NDArray[np.float32]
"""(U, N): higher is better."""
Days = npt.NDArray[np.float64]

Users = npt.NDArray[np.int64]

EASE_ITEMS = 12_500
_COLUMNS = 4_096
_KEPT = 25_000  # items of which all N x N counts are kept: 2.5 GB
_CELLS = 2**28  # of a matrix that is made at once: 1 GB


@dataclass(frozen=True, eq=False)
class Past:
    """Rows of the past, in any order."""

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

    @cached_property
    def pairs(self) -> npt.NDArray[np.int64]:
        """Distinct pairs user * n_items + item, sorted."""
        return distinct(self.user * self.n_items + self.item)

    @cached_property
    def people(self) -> Users:
        """Users that have rows, in order: the others say nothing of items."""
        return np.unique(self.pairs // self.n_items)

    @cached_property
    def gram(self) -> Tensor:
        """How many users have both items (N, N) float32: X'X of the binary matrix X (U, N), which is sparse."""
        found = torch.empty(self.n_items, self.n_items)
        for block in self.blocks():
            found[:, block] = self._gram_of(block)
        return found

    @cached_property
    def few_meet(self) -> bool:
        """Whether less than 5 % of the pairs of items have a user in common: a sparse `gram` is the faster one."""
        size = np.bincount(self.pairs // self.n_items)
        return 20 * int((size**2).sum()) < self.n_items**2

    @cached_property
    def sparse_gram(self) -> Tensor:
        """The same as `gram`, (N, N) in coordinates."""
        matrix = self.transposed.to_sparse(layout=torch.sparse_coo)
        found: Tensor = torch.sparse.mm(matrix, matrix.t()).coalesce()
        return found

    def blocks(self) -> Iterator[slice]:
        """All items, as many at a time as fit beside all others."""
        size = min(_COLUMNS, max(1, _CELLS // self.n_items))
        for low in range(0, self.n_items, size):
            yield slice(low, min(low + size, self.n_items))

    def beside(self, block: slice) -> Tensor:
        """Columns (N, block) of `gram`, which is kept only where there are few items."""
        return self.gram[:, block] if self.n_items <= _KEPT else self._gram_of(block)

    def _gram_of(self, block: slice) -> Tensor:
        return self.transposed @ self.dense(self.people, block)

    @property
    def shared(self) -> Tensor:
        """How many items both of two `people` have (U, U), a new matrix each time."""
        matrix = self.transposed.to_sparse(layout=torch.sparse_coo)
        found: Tensor = torch.sparse.mm(matrix.t(), matrix).to_dense()
        return found

    @cached_property
    def transposed(self) -> Tensor:
        """X' (N, U) of `people`, sparse by rows."""
        user, item = np.divmod(self.pairs, self.n_items)
        place = torch.from_numpy(np.searchsorted(self.people, user))
        return _sparse(torch.from_numpy(item), place, self.n_items, len(self.people))

    def rows(self, users: Users) -> Tensor:
        """Rows (B, N) of the binary matrix, sparse."""
        low, high = (np.searchsorted(self.pairs, users * self.n_items + end) for end in (0, self.n_items))
        size = high - low
        at = np.arange(int(size.sum())) - np.repeat(np.cumsum(size) - size, size) + np.repeat(low, size)
        item = torch.from_numpy(self.pairs[at] % self.n_items)
        starts = torch.from_numpy(np.concatenate([[0], np.cumsum(size)]))
        with warnings.catch_warnings():  # torch says of sparse matrices that they are in beta
            warnings.simplefilter("ignore")
            return torch.sparse_csr_tensor(starts, item, torch.ones(len(item)), (len(users), self.n_items))

    def dense(self, users: Users, block: slice) -> Tensor:
        """Rows of the binary matrix in the columns of ``block``, dense."""
        rows = self.rows(users)
        row = torch.repeat_interleave(torch.arange(len(users)), rows.crow_indices().diff())
        inside = (rows.col_indices() >= block.start) & (rows.col_indices() < block.stop)
        found = torch.zeros(len(users), block.stop - block.start)
        found[row[inside], rows.col_indices()[inside] - block.start] = 1.0
        return found


class Baseline(Protocol):
    """A named scorer with at most one hyper-parameter."""

    name: ClassVar[str]
    grid: ClassVar[tuple[float | None, ...]]  # (None,) where there is nothing to choose
    most: ClassVar[int]  # items of a catalogue that is still scored

    def scores(self, past: Past, at: Days, value: float | None, users: Users) -> Scores:
        """Score (B, N) for ``users`` (B,) from all rows of ``past``, as of the day ``at`` (U,) of each user."""
        ...


class Popularity:
    """Number of rows, the same list for everyone."""

    name: ClassVar[str] = "popularity"
    grid: ClassVar[tuple[float | None, ...]] = (None,)
    most: ClassVar[int] = 10_000_000

    def scores(self, past: Past, at: Days, value: float | None, users: Users) -> Scores:
        """Return (B, N) counts of the rows; ``at`` and ``value`` are not used."""
        counts = np.bincount(past.item, minlength=past.n_items).astype(np.float32)
        return np.tile(counts, (len(users), 1))


class OwnFrequency:
    """The user's own purchases of the item, each worth 2^(-age / half-life).

    A strong baseline in grocery (Hu et al. 2020, https://arxiv.org/abs/2006.00556; Li et al. 2023,
    https://arxiv.org/abs/2109.14233).
    """

    name: ClassVar[str] = "own_frequency"
    grid: ClassVar[tuple[float | None, ...]] = (None, 15.0, 30.0, 60.0, 90.0, 120.0, 180.0)  # days; None: unweighted
    most: ClassVar[int] = 10_000_000

    def scores(self, past: Past, at: Days, value: float | None, users: Users) -> Scores:
        """Return (B, N) weighted counts of the rows with a half-life of ``value`` days before ``at``."""
        if value is not None and value <= 0:
            raise ValueError(f"a half-life of {value} days is not positive")
        row = np.full(past.n_users, -1)
        row[users] = np.arange(len(users))
        own = row[past.user] >= 0
        user, item = past.user[own], past.item[own]
        weight = None if value is None else np.exp2((past.time[own] - at[user]) / value)
        counts = np.bincount(row[user] * past.n_items + item, weights=weight, minlength=len(users) * past.n_items)
        return counts.astype(np.float32).reshape(len(users), past.n_items)


class ItemKnn:
    """Sum of the cosines to the items that the user chose, of the binary user x item matrix.

    The cosine is shrunk, x_i . x_j / (|x_i| |x_j| + shrink), as in Ferrari Dacrema et al. 2019
    (https://arxiv.org/abs/1907.06902); an item is no neighbour of itself. All neighbours count.
    """

    name: ClassVar[str] = "item_knn"
    grid: ClassVar[tuple[float | None, ...]] = (0.0, 2.0, 5.0, 10.0)  # users
    most: ClassVar[int] = 100_000

    def scores(self, past: Past, at: Days, value: float | None, users: Users) -> Scores:
        """Return (B, N) with a shrink of ``value`` users (None: 0); ``at`` is not used."""
        norm = torch.from_numpy(np.bincount(past.pairs % past.n_items, minlength=past.n_items)).float().sqrt()
        rows = past.rows(users)
        if past.few_meet:
            gram = past.sparse_gram
            one, other = gram.indices()
            cosines = gram.values() / (norm[one] * norm[other] + (value or 0.0)).clamp_min(1e-9) * (one != other)
            cosine = torch.sparse_coo_tensor(gram.indices(), cosines, gram.shape)
            summed: Scores = torch.sparse.mm(rows.to_sparse(layout=torch.sparse_coo), cosine).to_dense().numpy()
            return summed
        found = np.empty((len(users), past.n_items), dtype=np.float32)
        for block in past.blocks():
            cosine = past.beside(block) / (torch.outer(norm, norm[block]) + (value or 0.0)).clamp_min(1e-9)
            cosine[block].fill_diagonal_(0.0)
            found[:, block] = (rows @ cosine).numpy()
        return found


class Ease:
    """Linear item-item model in closed form (Steck 2019, https://arxiv.org/abs/1905.03375).

    B = I - P / diag(P) with P = (X'X + lambda I)^-1, X the binary user x item matrix. With few users,
    X P = M X and lambda diag(P) = 1 - diag(X' M X) with M = (X X' + lambda I)^-1 (Woodbury), so that the inverse costs
    U^3, its product with the sparse X little, and no N x N matrix is ever made. With more than 12,500 items and not so
    few users only the 12,500 most popular are modelled, and the others score -inf: they come last, as ties.
    """

    name: ClassVar[str] = "ease"
    grid: ClassVar[tuple[float | None, ...]] = (50.0, 100.0, 300.0, 1000.0)  # lambda
    most: ClassVar[int] = 10_000_000

    def scores(self, past: Past, at: Days, value: float | None, users: Users) -> Scores:
        """Return (B, N) with lambda = ``value`` > 0; ``at`` is not used."""
        if value is None or value <= 0:
            raise ValueError(f"lambda is {value}, a positive number is needed")
        few_users = len(past.people) * past.n_items <= _CELLS and _woodbury_costs(past) < EASE_ITEMS**3
        if past.n_items <= EASE_ITEMS or few_users:
            return _ease(past, value, users)
        counts = np.bincount(past.item, minlength=past.n_items)
        kept = np.sort(np.argsort(-counts, kind="stable")[:EASE_ITEMS])
        place = np.full(past.n_items, -1, dtype=np.int64)
        place[kept] = np.arange(EASE_ITEMS)
        inside = place[past.item] >= 0
        few = Past(past.user[inside], place[past.item[inside]], past.time[inside], past.n_users, EASE_ITEMS)
        result = np.full((len(users), past.n_items), -np.inf, dtype=np.float32)
        result[:, kept] = _ease(few, value, users)
        return result


def choose(baseline: Baseline, past: Past, at: Days, users: Users, metric: Callable[[Scores], float]) -> float | None:
    """Return the value of the baseline's grid whose scores get the highest ``metric``, the first among equals.

    ``past`` and ``at`` are as validation sees them: the metric looks at what came after, for ``users``.
    A NaN never wins; ValueError where nothing else was seen.
    """
    if len(baseline.grid) == 1:
        return baseline.grid[0]
    best: tuple[float, float | None] | None = None
    for value in baseline.grid:
        quality = float(metric(baseline.scores(past, at, value, users)))
        if not np.isnan(quality) and (best is None or quality > best[0]):
            best = (quality, value)
    if best is None:
        raise ValueError(f"the metric is NaN for every value of {baseline.name}")
    return best[1]


def _sparse(row: Tensor, column: Tensor, rows: int, columns: int) -> Tensor:
    """A binary matrix (rows, columns) of distinct pairs."""
    order = torch.argsort(row, stable=True)
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), torch.bincount(row, minlength=rows).cumsum(0)])
    with warnings.catch_warnings():  # torch says of sparse matrices that they are in beta
        warnings.simplefilter("ignore")
        return torch.sparse_csr_tensor(starts, column[order], torch.ones(len(row)), (rows, columns))


def _ease(past: Past, penalty: float, users: Users, woodbury: bool | None = None) -> Scores:
    """Return X B (B, N) of ``users``; ``woodbury`` None takes the cheaper of the two equal ways."""
    own, people = past.dense(users, slice(0, past.n_items)), past.people
    if _woodbury_costs(past) < past.n_items**3 if woodbury is None else woodbury:
        inverse = torch.cholesky_inverse(_cholesky(past.shared, penalty))  # M, (U, U)
        smooth = (past.transposed @ inverse).T  # M X, by the rows that there are
        user, item = np.divmod(past.pairs, past.n_items)
        inside = smooth[torch.from_numpy(np.searchsorted(people, user)), torch.from_numpy(item)]
        diagonal = torch.ones(past.n_items).index_add_(0, torch.from_numpy(item), -inside) / penalty
        known = np.isin(users, people)
        own[known] -= smooth[np.searchsorted(people, users[known])] / diagonal
    else:
        inverse = torch.cholesky_inverse(_cholesky(past.gram.clone(), penalty))  # P, (N, N)
        own -= past.rows(users) @ inverse / inverse.diagonal()
    scores: Scores = own.numpy()
    return scores


def _woodbury_costs(past: Past) -> int:
    """Multiplications; the other way has N^3."""
    return len(past.people) ** 3 + len(past.people) * len(past.pairs)


def _cholesky(gram: Tensor, penalty: float) -> Tensor:
    """Return the Cholesky factor of ``gram`` + penalty I, both (n, n)."""
    gram.diagonal().add_(penalty)
    factor: Tensor = torch.linalg.cholesky(gram)
    return factor
