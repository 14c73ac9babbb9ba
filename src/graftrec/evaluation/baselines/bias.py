"""Which user and which item: what a user would pick instead of a network for a number of both."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from graftrec.data.batch import Batch
from graftrec.data.streams.rows import TableRows

GRID = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
ROUNDS = 30


class Bias:
    """r = mean + b_u + b_i: least squares of the rows, each by its weight, and penalty * (sum b_u^2 + sum b_i^2).

    Y. Koren, R. Bell, C. Volinsky, Matrix Factorization Techniques for Recommender Systems, 2009,
    https://doi.org/10.1109/MC.2009.263, equation 3; the mean is that of the weighted rows. b_u and b_i are solved in
    turns, each exactly, ``ROUNDS`` times; of whom there is no row the bias is 0.

    Args:
        user, item: (n,) int64. label: (n,), none missing. weight: (n,), at least 0. penalty: at least 0.
    """

    def __init__(self, user: Tensor, item: Tensor, label: Tensor, weight: Tensor, penalty: float) -> None:
        label, weight = label.double(), weight.double()
        self.mean = (weight * label).sum() / weight.sum()
        rest = label - self.mean
        known = [torch.bincount(ids, weight) + penalty for ids in (user, item)]
        self.item = torch.zeros(len(known[1]), dtype=torch.float64)
        for _ in range(ROUNDS):
            self.user = _sums(user, weight * (rest - self.item[item]), len(known[0])) / known[0].clamp_min(1e-9)
            self.item = _sums(item, weight * (rest - self.user[user]), len(known[1])) / known[1].clamp_min(1e-9)

    def __call__(self, user: Tensor, item: Tensor) -> Tensor:
        """(n,) float32."""
        return (self.mean + _of(self.user, user) + _of(self.item, item)).float()


def bias(
    stream: TableRows,
    labels: Callable[[Batch], Tensor],
    weights: Callable[[Tensor, Batch], Tensor],
    error: Callable[[Tensor, Tensor], float],
) -> tuple[Tensor, float]:
    """What `Bias` says of the test rows (n,), and the penalty of `GRID` that has the least ``error`` on validation.

    It is fitted on what the model sees: training rows, and what is known of new users where rows have a history.

    Args:
        labels: the labels (B,) of a batch, NaN where missing (left out of the fit). weights: of labels and their batch,
            what the squared error of each row is multiplied with, see `Task.row_weights`. error: of predictions and
            labels.
    """
    user, item, label, weight = _columns(stream.shown(), labels, weights)
    kept = ~label.isnan()
    judged = _columns(stream.evaluation("val"), labels, weights)
    found = []
    for penalty in GRID:
        fitted = Bias(user[kept], item[kept], label[kept], weight[kept], penalty)
        found.append((error(fitted(*judged[:2]), judged[2]), penalty, fitted))
    _, penalty, best = min(found, key=lambda each: each[0])
    asked = _columns(stream.evaluation("test"), labels, weights)
    return best(*asked[:2]), penalty


def _columns(
    batches: Iterable[Batch], labels: Callable[[Batch], Tensor], weights: Callable[[Tensor, Batch], Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """User, item, label and weight (n,) of the rows of all batches."""
    parts = [(b["user"], b["item"], label, weights(label, b)) for b in batches for label in [labels(b)]]
    user, item, label, weight = zip(*parts, strict=True)
    return torch.cat(user), torch.cat(item), torch.cat(label), torch.cat(weight)


def _sums(ids: Tensor, values: Tensor, size: int) -> Tensor:
    return torch.bincount(ids, values, minlength=size)


def _of(values: Tensor, ids: Tensor) -> Tensor:
    """``values[ids]``, 0 where an id is beyond them."""
    return torch.where(ids < len(values), values[ids.clamp_max(len(values) - 1)], 0.0)
