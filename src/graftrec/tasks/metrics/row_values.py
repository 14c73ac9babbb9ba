"""Values per row whose mean is a metric of all rows, and whose spread is the metric's: what a paired test compares.

Of a metric that is a mean over rows they are what is averaged; of another one the metric and the row's influence on it
(the delta method). Every value is NaN where the row does not count, and all of them are where the metric is undefined.
Arguments are those of the metrics in `pointwise`, which check them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graftrec.data.schema import UNSEEN
from graftrec.tasks.metrics.pointwise import (
    auc_of_groups,
    below_in_both,
    first_five,
    is_yes,
    log_losses,
    mean_ranks,
    middle,
)

NAN = torch.nan


def spread(values: Tensor, inside: Tensor) -> Tensor:
    """Values (k,) of the rows ``inside`` (n,) bool at their places: (n,), NaN elsewhere."""
    return values.new_full(inside.shape, NAN).masked_scatter_(inside, values)


def ratio_of_rows(above: Tensor, below: Tensor) -> Tensor:
    """Values (n,) whose mean is R, the sum of ``above`` over that of ``below``: R + (above - R below) / mean below."""
    ratio = above.nansum() / below.nansum()
    return torch.where(below.nansum() > 0, ratio + (above - ratio * below) / below.nanmean(), NAN)


def answers_of_rows(prob: Tensor, label: Tensor) -> dict[str, Tensor]:
    """The ``log_loss`` and the ``accuracy`` of each probability of a yes, in the shape of ``label``, NaN if missing."""
    answer = label.double()
    right = (is_yes(prob.double()) == (answer == 1)).double()
    return {"log_loss": log_losses(prob.double(), answer), "accuracy": right.masked_fill(answer.isnan(), NAN)}


def binary_of_rows(prob: Tensor, label: Tensor) -> dict[str, Tensor]:
    """Values (n,) of `binary`'s metrics, but for ``ece``, ``ap`` and ``copc``; ``recall`` is of the positives alone."""
    missing, positive = label.isnan(), (label == 1).double()
    yes = is_yes(prob.double()).double()
    hit, said, either = ((each.masked_fill(missing, NAN)) for each in (yes * positive, yes, yes + positive))
    recall = yes.masked_fill(label != 1, NAN)
    found = {"auc": auc_of_rows(prob, label), **answers_of_rows(prob, label), "recall": recall}
    f1 = ratio_of_rows(2 * hit, either)
    return found | {"precision": ratio_of_rows(hit, said), "f1": torch.where(positive.any(), f1, NAN)}


def grouped_auc_of_rows(prob: Tensor, label: Tensor, group: Tensor) -> dict[str, Tensor]:
    """``gauc`` (n,): the AUC of each row's group, NaN where that has one class or nobody knows it."""
    kept = ~label.isnan() & (group != 0)
    found = torch.full(label.shape, NAN, dtype=torch.float64)
    if bool(kept.any()):
        auc, own = auc_of_groups(prob[kept], label[kept], group[kept])
        found[kept] = auc[own]
    return {"gauc": found}


def auc_of_rows(prediction: Tensor, label: Tensor) -> Tensor:
    """Values (n,) whose mean is the AUC, and whose spread is that of the AUC: a paired test of rows is DeLong's.

    With V_i the share of rows of the other class that row i stands on the right side of, ties half, a positive's value
    is AUC + (V_i - AUC) / share of positives, and a negative's the same with the share of negatives (E. DeLong et al.,
    Comparing the Areas under Two or More Correlated Receiver Operating Characteristic Curves, Biometrics 1988,
    https://doi.org/10.2307/2531595). NaN where the label is missing, and everywhere if one class is.
    """
    found = torch.full(label.shape, NAN, dtype=torch.float64)
    kept = ~label.isnan()
    score, positive = prediction[kept].double(), label[kept] == 1
    counts = torch.stack([(~positive).sum(), positive.sum()]).double()
    if not bool((counts > 0).all()):
        return found
    among = mean_ranks(score)
    inside = torch.empty_like(among)
    for own in (positive, ~positive):
        inside[own] = mean_ranks(score[own])
    below = among - inside  # rows of the other class below, ties half
    side = torch.where(positive, below / counts[0], 1 - below / counts[1])
    auc = side[positive].mean()
    found[kept] = auc + (side - auc) / (counts[positive.long()] / counts.sum())
    return found


def mean_auc_of_rows(each: Tensor) -> Tensor:
    """Values (n,) whose mean is the mean AUC of those labels that have one, from each label's `auc_of_rows` (n, M).

    A row counts if one of these labels is known, n such rows; n_m are those of label m, A_m is its AUC. The value is
    the mean over m of A_m + (n / n_m) (the row's own - A_m), where the second term is 0 if m is not known.
    """
    known = ~each.isnan()
    each, known = (values[:, known.any(0)] for values in (each, known))
    rows, auc = known.any(1), each.nanmean(0)
    own = auc + rows.sum().double() / known.sum(0) * (each - auc).nan_to_num(0.0)
    return own.mean(1).masked_fill(~rows, NAN)


def classes_of_rows(prob: Tensor, label: Tensor) -> dict[str, Tensor]:
    """Values (n,) of ``accuracy``, and of ``recall@5`` if there are more than five classes."""
    kept, count = label != -1, prob.shape[1]
    own, answer = prob[kept].double(), label[kept].long()
    found = {"accuracy": (own.argmax(1) == answer).double()} if count > 1 else {}
    if count > 5:
        found["recall@5"] = first_five(own, answer.clamp_min(0)).masked_fill(answer == UNSEEN, 0.0)
    return {name: spread(values, kept) for name, values in found.items()}


def ordered_of_rows(prob: Tensor, label: Tensor) -> dict[str, Tensor]:
    """Values (n,) of ``mae`` in classes and ``accuracy``."""
    distance = (middle(prob.double()) - label).abs().double()
    right = (distance == 0).double().masked_fill(label == UNSEEN, 0.0)
    return {"mae": distance.masked_fill(label < 0, NAN), "accuracy": right.masked_fill(label == -1, NAN)}


def numbers_of_rows(prediction: Tensor, label: Tensor) -> dict[str, Tensor]:
    """Values (n,) of ``mae``, ``rmse`` and ``r2``: of the last one by the ratio of two sums of squares.

    A row's |e| for the first. For the second RMSE + (e^2 - MSE) / (2 RMSE), the row's influence on the root, so that
    the spread of the values is that of the RMSE, as those of `auc_of_rows` have the AUC's.
    """
    error = (prediction.double() - label.double()).abs()
    square, aside = error.square(), (label.double() - label.double().nanmean()).square()
    mean = square.nanmean()
    root = mean.sqrt()
    influence = (square - mean) / (2 * root) if float(root) > 0 else square * 0
    known = label[~label.isnan()]
    constant = bool((known == known[:1]).all())
    r2 = torch.full_like(square, NAN) if constant else 1 - ratio_of_rows(square, aside)
    return {"rmse": root + influence, "mae": error, "r2": r2}


def xauc_of_rows(prediction: Tensor, label: Tensor) -> Tensor:
    """Values (n,) whose mean is the XAUC; of a label 0 or 1 they are those of `auc_of_rows`.

    With c_i of the p_i pairs that row i is in being in order, ties half: XAUC + 2 (c_i - XAUC p_i) / mean p, as every
    pair has two rows (W. Hoeffding, A Class of Statistics with Asymptotically Normal Distribution, 1948,
    https://doi.org/10.1214/aoms/1177730196).
    """
    kept = ~label.isnan()
    found = torch.full(label.shape, NAN, dtype=torch.float64)
    if not bool(kept.any()):
        return found
    y, p = (torch.unique(values[kept], return_inverse=True)[1] for values in (label, prediction))
    right = below_in_both(p, y) + below_in_both(p.max() - p, y.max() - y)
    alike, tied, both = (_as_many(values) for values in (y, p, y * (p.max() + 1) + p))
    once = ratio_of_rows(right + (tied - both).double() / 2, (len(y) - alike).double())
    found[kept] = 2 * once - once.mean()
    return found


def _as_many(values: Tensor) -> Tensor:
    """How many rows have the value of each (n,)."""
    _, inverse, counts = torch.unique(values, return_inverse=True, return_counts=True)
    found: Tensor = counts[inverse]
    return found
