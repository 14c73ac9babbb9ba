"""Ranking baselines: what a user would pick instead of a network. Each scores the whole catalogue from the past."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from graftrec.data.tables.interactions import distinct
from graftrec.evaluation.baselines.recency import decayed

Scores = npt.NDArray[np.float32]
"""(U, N): higher is better."""
Days = npt.NDArray[np.float64]

Users = npt.NDArray[np.int64]

EASE_ITEMS = 12_500
_COLUMNS = 4_096
_NEAR = 256  # items whose cosines to all others are made at once: what fits into a cache takes half the time
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
        """Rows (block, N) of `gram`, which is kept only where there are few items."""
        return self.gram[block] if self.n_items <= _KEPT else self._gram_of(block).T.contiguous()

    def _gram_of(self, block: slice) -> Tensor:
        """Columns (N, block), which are rows as well: it is symmetric."""
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


class Baseline(ABC):
    """A named scorer, and the settings that validation chooses from."""

    name: ClassVar[str]
    grid: ClassVar[tuple[Any, ...]] = (None,)  # where there is nothing to choose
    most: ClassVar[int] = 10_000_000  # items of a catalogue that is still scored

    @abstractmethod
    def scores(self, past: Past, at: Days, value: Any, users: Users) -> Scores:
        """Score (B, N) for ``users`` (B,) from all rows of ``past``, as of the day ``at`` (U,) of each user."""

    def further(self, best: Any) -> tuple[Any, ...]:
        """What is tried as well once ``best`` is the best of the grid."""
        return ()


class Popularity(Baseline):
    """Number of rows, the same list for everyone."""

    name: ClassVar[str] = "popularity"

    def scores(self, past: Past, at: Days, value: None, users: Users) -> Scores:
        """Return (B, N) counts of the rows; ``at`` and ``value`` are not used."""
        counts = np.bincount(past.item, minlength=past.n_items).astype(np.float32)
        return np.tile(counts, (len(users), 1))


class RecentPopularity(Baseline):
    """Number of rows, each worth 2^(-age / half-life): what was popular of late, the same list for everyone.

    Where users are asked about as of different days, a row counts for those alone whose day is after it. On MovieLens
    popularity at the time that a user is asked about is above that of all time by 70 % or more (Ji et al., A Re-visit
    of the Popularity Baseline in Recommender Systems, SIGIR 2020, https://arxiv.org/abs/2005.13829).
    """

    name: ClassVar[str] = "recent_popularity"
    grid: ClassVar[tuple[Any, ...]] = (1.0, 3.0, 7.0, 14.0, 30.0, 90.0, 365.0)  # days

    def scores(self, past: Past, at: Days, value: float, users: Users) -> Scores:
        """Return (B, N) weighted counts of the rows before ``at`` with a half-life of ``value`` days."""
        moments, asked = np.unique(at[users], return_inverse=True)
        order = np.argsort(asked, kind="stable")
        starts = np.searchsorted(asked[order], np.arange(len(moments) + 1))
        found = np.empty((len(users), past.n_items), dtype=np.float32)
        for block, sums in decayed(past.item, np.ones(len(past.item)), past.time, past.n_items, moments, value):
            who = order[starts[block.start] : starts[block.stop]]
            found[who] = sums[0] if len(sums) == 1 else sums.astype(np.float32)[asked[who] - block.start]
        return found


class OwnFrequency(Baseline):
    """The user's own purchases of the item, each worth 2^(-age / half-life).

    A strong baseline in grocery (Hu et al. 2020, https://arxiv.org/abs/2006.00556; Li et al. 2023,
    https://arxiv.org/abs/2109.14233).
    """

    name: ClassVar[str] = "own_frequency"
    grid: ClassVar[tuple[Any, ...]] = (None, 15.0, 30.0, 60.0, 90.0, 120.0, 180.0)  # days; None: unweighted

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


class Near(NamedTuple):
    """Settings of `ItemKnn`: how many neighbours an item keeps, None for all, and the shrink in users."""

    neighbours: int | None
    shrink: float

    def __str__(self) -> str:
        return f"{'all' if self.neighbours is None else self.neighbours} neighbours, shrink {self.shrink:g}"


class ItemKnn(Baseline):
    """Sum of an item's cosines to those of its nearest items that the user chose, of the binary user x item matrix.

    score(u, i) = sum of cos(i, j) over what u chose among the k items j that are most similar to i, and the cosine is
    shrunk, x_i . x_j / (|x_i| |x_j| + shrink), as in Ferrari Dacrema et al. 2019 (https://arxiv.org/abs/1907.06902),
    where validation chooses k and the shrink as well. An item is no neighbour of itself. Where we differ: all that are
    as similar as the k-th stay, so that no order of items decides.
    """

    name: ClassVar[str] = "item_knn"
    grid: ClassVar[tuple[Any, ...]] = tuple(Near(k, 20.0) for k in (None, 20, 50, 100, 200, 500))
    most: ClassVar[int] = 100_000

    def further(self, best: Near) -> tuple[Near, ...]:
        """The number of neighbours that is best at a middle shrink, with the other ones."""
        return tuple(Near(best.neighbours, shrink) for shrink in (0.0, 5.0, 50.0, 100.0, 200.0))

    def scores(self, past: Past, at: Days, value: Near, users: Users) -> Scores:
        """Return (B, N); ``at`` is not used."""
        kept, shrink = value
        if kept is not None and kept < 1:
            raise ValueError(f"{kept} neighbours are kept, at least 1 is needed")
        norm = torch.from_numpy(np.bincount(past.pairs % past.n_items, minlength=past.n_items)).float().sqrt()
        rows = past.rows(users)
        if past.few_meet:
            return _summed(rows, past.sparse_gram, norm, value)
        found = np.empty((len(users), past.n_items), dtype=np.float32)
        for block in past.blocks():
            gram = past.beside(block)
            for low in range(block.start, block.stop, _NEAR):
                own = slice(low, min(low + _NEAR, block.stop))
                cosine = torch.outer(norm[own], norm).add_(shrink).clamp_min_(1e-9)
                torch.div(gram[low - block.start : own.stop - block.start], cosine, out=cosine)
                cosine[:, own].fill_diagonal_(0.0)
                if kept is not None and kept < past.n_items:
                    least = cosine.topk(kept, dim=1, sorted=False).values.amin(1, keepdim=True)
                    cosine.masked_fill_(cosine < least, 0.0)
                found[:, own] = (rows @ cosine.T).numpy()
        return found


class Ease(Baseline):
    """Linear item-item model in closed form (Steck 2019, https://arxiv.org/abs/1905.03375).

    B = I - P / diag(P) with P = (X'X + lambda I)^-1, X the binary user x item matrix. With few users,
    X P = M X and lambda diag(P) = 1 - diag(X' M X) with M = (X X' + lambda I)^-1 (Woodbury), so that the inverse costs
    U^3, its product with the sparse X little, and no N x N matrix is ever made. With more than 12,500 items and not so
    few users only the 12,500 most popular are modelled, and the others score -inf: they come last, as ties.
    """

    name: ClassVar[str] = "ease"
    grid: ClassVar[tuple[Any, ...]] = (50.0, 100.0, 300.0, 1000.0)  # lambda

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


def choose(baseline: Baseline, past: Past, at: Days, users: Users, metric: Callable[[Scores], float]) -> Any:
    """Return the setting of the baseline whose scores get the highest ``metric``, see `best_of`.

    ``past`` and ``at`` are as validation sees them: the metric looks at what came after, for ``users``.
    """
    if len(baseline.grid) == 1:
        return baseline.grid[0]

    def quality(value: Any) -> float:
        return float(metric(baseline.scores(past, at, value, users)))

    return best_of(baseline.name, baseline.grid, baseline.further, quality)


def best_of(
    name: str, grid: Iterable[Any], further: Callable[[Any], Iterable[Any]], quality: Callable[[Any], float]
) -> Any:
    """The setting with the highest ``quality``, the first among equals.

    First ``grid`` is tried, then what is ``further`` from the best of it. A NaN never wins; ValueError where nothing
    else was seen.
    """
    found: list[tuple[float, Any]] = []

    def best_with(values: Iterable[Any]) -> Any:
        qualities = [(quality(value), value) for value in values]
        found.extend(each for each in qualities if not np.isnan(each[0]))
        if not found:
            raise ValueError(f"the metric is NaN for every value of {name}")
        return max(found, key=lambda each: each[0])[1]

    return best_with(further(best_with(grid)))


def _sparse(row: Tensor, column: Tensor, rows: int, columns: int) -> Tensor:
    """A binary matrix (rows, columns) of distinct pairs."""
    order = torch.argsort(row, stable=True)
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), torch.bincount(row, minlength=rows).cumsum(0)])
    with warnings.catch_warnings():  # torch says of sparse matrices that they are in beta
        warnings.simplefilter("ignore")
        return torch.sparse_csr_tensor(starts, column[order], torch.ones(len(row)), (rows, columns))


def _summed(rows: Tensor, gram: Tensor, norm: Tensor, value: Near) -> Scores:
    """What `ItemKnn` says of sparse ``rows`` (B, N), by a ``gram`` (N, N) of few pairs."""
    one, other = gram.indices()
    cosines = gram.values() / (norm[one] * norm[other] + value.shrink).clamp_min(1e-9) * (one != other)
    stays = cosines > 0
    if value.neighbours is not None:  # of the item that is scored, which is the column; as it is symmetric, the row too
        stays &= cosines >= _kth(one, cosines, value.neighbours, len(norm))[other]
    cosine = torch.sparse_coo_tensor(gram.indices()[:, stays], cosines[stays], gram.shape, is_coalesced=True)
    found: Scores = torch.sparse.mm(rows.to_sparse(layout=torch.sparse_coo), cosine).to_dense().numpy()
    return found


def _kth(row: Tensor, values: Tensor, k: int, rows: int) -> Tensor:
    """The k-th highest value of each row (rows,), 0 where there are fewer; ``row`` (n,) is sorted."""
    count = torch.bincount(row, minlength=rows)
    full = count >= k
    inside = full[row]
    row, values, count = row[inside], values[inside], count[full]
    order = torch.argsort(values, descending=True)
    order = order[torch.argsort(row[order], stable=True)]
    found = torch.zeros(rows)
    found[full] = values[order[count.cumsum(0) - count + k - 1]]
    return found


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
