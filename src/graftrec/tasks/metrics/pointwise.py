"""Metrics of whole arrays of predictions: a number, or the reason why there is none."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torchmetrics.functional as tm
import torchmetrics.functional.classification as tmc
from torch import Tensor

from graftrec.data.schema import UNSEEN
from graftrec.tasks.metrics.ranking import ranking_metrics


class Value(NamedTuple):
    """A metric's value, or None and the reason why it is undefined."""

    value: float | None
    reason: str | None = None


BINARY = ("auc", "log_loss", "accuracy", "ece", "ap", "precision", "recall", "f1", "copc")
NUMBERS = ("rmse", "mae", "spearman", "r2")


def binary(prob: Tensor, label: Tensor) -> dict[str, Value]:
    """Return `BINARY`: ``log_loss`` in nats; ``accuracy``, ``precision``, ``recall`` and ``f1`` of a probability > 0.5.

    ``prob`` is (n,) in [0, 1], never logits (ValueError); ``label`` is (n,) 0 or 1, NaN where missing (left out).
    ``auc`` needs both classes. ``ece`` is the mean |frequency - probability| of 15 equal bins of the probability of a
    positive, weighted by their rows (Guo et al. 2017, https://arxiv.org/abs/1706.04599). ``ap`` is the average
    precision; ``copc`` positives over the sum of probabilities, 1 where they are right on average.
    """
    _check_rows(prob, label)
    kept = ~label.isnan()
    prob, label = _probabilities(prob[kept]), label[kept].double()
    if bool(((label != 0) & (label != 1)).any()):
        raise ValueError("a binary label is 0, 1 or NaN")
    rows, positives = label.numel(), int(label.sum())
    if rows == 0:
        return dict.fromkeys(BINARY, Value(None, "0 rows"))
    target = label.long()
    none = Value(None, f"0 positives of {rows} rows") if positives == 0 else None
    auc = none or (Value(None, f"0 negatives of {rows} rows") if positives == rows else None)
    yes = is_yes(prob)
    hits, said, expected = int(label[yes].sum()), int(yes.sum()), float(prob.sum())
    return {
        "auc": auc or _value(tmc.binary_auroc(prob, target, validate_args=False)),
        "log_loss": _value(log_losses(prob, label).mean()),
        "accuracy": _value(tmc.binary_accuracy(yes.long(), target, validate_args=False)),
        "ece": _value(tmc.binary_calibration_error(prob, target, n_bins=15, norm="l1", validate_args=False)),
        "ap": none or _value(tmc.binary_average_precision(prob, target, validate_args=False)),
        "precision": Value(hits / said) if said else Value(None, f"0 of {rows} probabilities above 0.5"),
        "recall": none or Value(hits / positives),
        "f1": none or Value(2 * hits / (said + positives)),
        "copc": Value(positives / expected) if expected > 0 else Value(None, f"{rows} probabilities of 0"),
    }


def is_yes(prob: Tensor) -> Tensor:
    """Which probabilities stand for a yes: those above 0.5."""
    return prob > 0.5


def log_losses(prob: Tensor, label: Tensor) -> Tensor:
    """The log loss of each probability, in nats and finite also where a probability of 0 or 1 is wrong."""
    epsilon = torch.finfo(prob.dtype).eps
    clipped = prob.clamp(epsilon, 1 - epsilon)
    return -(label * clipped.log() + (1 - label) * (1 - clipped).log())


def grouped_auc(prob: Tensor, label: Tensor, group: Tensor) -> dict[str, Value]:
    """Return ``gauc``, the mean of each group's AUC weighted by its rows, and ``gauc_coverage``.

    A group is a user, ``group`` (n,) int64, 0 where nobody knows who (left out). Groups of one class have no AUC;
    ``gauc_coverage`` is the share of rows that are in the others. G. Zhou et al., Deep Interest Network, 2017,
    https://arxiv.org/abs/1706.06978, section 6.3. ``prob`` and ``label`` are as in `binary`.
    """
    _check_rows(prob, label)
    kept = ~label.isnan() & (group != 0)
    if not bool(kept.any()):
        return dict.fromkeys(("gauc", "gauc_coverage"), Value(None, "0 rows with a user"))
    auc, group = auc_of_groups(prob[kept], label[kept], group[kept])
    rows, defined = torch.bincount(group), ~auc.isnan()
    weight = rows[defined].double()
    coverage = Value(float(weight.sum() / rows.sum()))
    if not len(weight):
        return {"gauc": Value(None, f"0 of {len(rows)} users have both classes"), "gauc_coverage": coverage}
    return {"gauc": _value((auc[defined] * weight).sum() / weight.sum()), "gauc_coverage": coverage}


def auc_of_groups(prob: Tensor, label: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    """The AUC of each group (G,), NaN where it has one class, and which of these each row is in: (n,).

    At least one row; ``label`` is 0 or 1, none missing.
    """
    label = label.double()
    _, group, rows = torch.unique(group, return_inverse=True, return_counts=True)
    rank = torch.unique(prob, return_inverse=True)[1]
    # ranks inside of each group at once: those among all pairs (group, probability), less the rows of groups before
    inside = mean_ranks(group * (int(rank.max()) + 1) + rank) - (rows.cumsum(0) - rows)[group]
    zero = torch.zeros(len(rows), dtype=torch.float64)
    positives = zero.index_add(0, group, label)
    above = zero.index_add(0, group, label * inside) - positives * (positives + 1) / 2
    pairs = positives * (rows - positives)
    return torch.where(pairs > 0, above / pairs, torch.nan), group


def classes(prob: Tensor, label: Tensor) -> dict[str, Value]:
    """Return ``accuracy``, ``recall_macro``, ``f1_macro``, ``precision_macro`` and ``recall@5`` of a category task.

    ``prob`` is (n, C) in [0, 1], never logits (ValueError); ``label`` is (n,) int64 in [0, C), -1 where missing (left
    out), `UNSEEN` where it is a class that training never saw, which is one more that is never predicted. Macro means
    are over the classes that occur among the labels; the precision of a class that is never predicted is 0.
    ``recall@5`` is the share of rows whose class is among the five likeliest, ties in random order.
    """
    if prob.ndim != 2:
        raise ValueError(f"prob has shape {tuple(prob.shape)}, (n, C) is needed")
    _check_rows(prob[:, 0] if prob.shape[1] else prob.sum(1), label)
    kept = label != -1
    prob, label = _probabilities(prob[kept]), label[kept].long()
    if bool((label == UNSEEN).any()):
        label = torch.where(label == UNSEEN, prob.shape[1], label)
        prob = torch.cat((prob, prob.new_full((len(prob), 1), -1.0)), 1)
    rows, count = prob.shape
    if bool(((label < 0) | (label >= count)).any()):
        raise ValueError(f"a label is -1 or in [0, {count})")
    names = ("accuracy", "recall_macro", "f1_macro", "precision_macro", "recall@5")
    if rows == 0 or count < 2:
        return dict.fromkeys(names, Value(None, "0 rows" if rows == 0 else "only 1 class"))
    predicted = prob.argmax(1)
    present = torch.bincount(label, minlength=count) > 0

    values = {"accuracy": _value(tmc.multiclass_accuracy(predicted, label, count, "micro", validate_args=False))}
    for name, metric in (
        ("recall_macro", tmc.multiclass_recall),
        ("f1_macro", tmc.multiclass_f1_score),
        ("precision_macro", tmc.multiclass_precision),
    ):
        each = metric(predicted, label, num_classes=count, average="none", validate_args=False)  # (C,)
        values[name] = _value(each[present].double().mean())
    if count <= 5:
        values["recall@5"] = Value(None, f"only {count} classes: every one is among the first 5")
    else:
        values["recall@5"] = _value(first_five(prob, label).mean())
    return values


def first_five(prob: Tensor, label: Tensor) -> Tensor:
    """The chance (n,) that each row's class is among its five likeliest of more than five: 0 or 1 without ties."""
    hit = torch.nn.functional.one_hot(label, prob.shape[1]).bool()
    return ranking_metrics(prob, hit, k=5)["hr@5"]


def ordered(prob: Tensor, label: Tensor) -> dict[str, Value]:
    """Return ``accuracy``, ``mae`` in classes, ``kappa`` and ``spearman`` of a category whose classes have an order.

    ``prob`` and ``label`` are as in `classes`. The predicted class is the median; ``spearman`` compares the expected
    class. A class that training never saw (`UNSEEN`) has no place in the order: it counts for ``accuracy`` alone, as
    wrong. ``kappa`` is Cohen's with quadratic weights (1968, https://doi.org/10.1037/h0026256): 1 - the squared
    distance of predicted and true class over that of the same classes paired at random.
    """
    if prob.ndim != 2:
        raise ValueError(f"prob has shape {tuple(prob.shape)}, (n, C) is needed")
    _check_rows(prob[:, 0], label)
    strangers = int((label == UNSEEN).sum())
    kept = (label != -1) & (label != UNSEEN)
    prob, label = _probabilities(prob[kept]), label[kept].long()
    rows, count = prob.shape
    if bool(((label < 0) | (label >= count)).any()):
        raise ValueError(f"a label is -1 or in [0, {count})")
    if rows == 0:
        return dict.fromkeys(("mae", "accuracy", "kappa", "spearman"), Value(None, "0 rows"))
    predicted = middle(prob)
    expected = prob @ torch.arange(count, dtype=prob.dtype)
    if bool((predicted == label[0]).all()) and bool((label == label[0]).all()):
        kappa = Value(None, f"one and the same class predicted and true in {rows} rows")
    else:
        kappa = _value(tmc.multiclass_cohen_kappa(predicted, label, count, "quadratic", validate_args=False))
    return {
        "mae": _value((predicted - label).abs().double().mean()),
        "accuracy": _value((predicted == label).double().sum() / (rows + strangers)),
        "kappa": kappa,
        "spearman": numbers(expected, label.double())["spearman"],
    }


def middle(prob: Tensor) -> Tensor:
    """The median class (n,) int64 of probabilities (n, C): how many k have P(y > k) > 0.5."""
    above = prob.flip(-1).cumsum(-1).flip(-1)[:, 1:]
    return (above > 0.5).sum(-1)


def numbers(prediction: Tensor, label: Tensor) -> dict[str, Value]:
    """Return ``rmse`` and ``mae`` in the label's unit, ``spearman`` in [-1, 1] and ``r2``, at most 1.

    ``prediction`` is (n,) finite (ValueError), ``label`` is (n,), NaN where missing (left out). Tied values share their
    mean rank, in float64: torchmetrics 1.9.0 adds ranks up in int32, which overflows from some 65,000 equal values on.
    ``r2`` is 1 - squared errors over those of the labels' own mean, whatever their size: torchmetrics takes sums below
    1e-4 for 0.
    """
    _check_rows(prediction, label)
    kept = ~label.isnan()
    prediction, label = prediction[kept].double(), label[kept].double()
    if not bool(prediction.isfinite().all()):
        raise ValueError(f"{int((~prediction.isfinite()).sum())} of {prediction.numel()} predictions are not finite")
    rows = label.numel()
    if rows == 0:
        return dict.fromkeys(NUMBERS, Value(None, "0 rows"))
    constant = Value(None, f"constant label in {rows} rows") if bool((label == label[0]).all()) else None
    if constant is None and bool((prediction == prediction[0]).all()):
        spearman = Value(None, f"constant prediction in {rows} rows")
    else:
        spearman = constant or _value(torch.corrcoef(torch.stack((mean_ranks(prediction), mean_ranks(label))))[0, 1])
    return {
        "rmse": _value(tm.mean_squared_error(prediction, label, squared=False)),
        "mae": _value(tm.mean_absolute_error(prediction, label)),
        "spearman": spearman,
        "r2": constant or _value(1 - ((prediction - label) ** 2).sum() / ((label - label.mean()) ** 2).sum()),
    }


def xauc(prediction: Tensor, label: Tensor) -> Value:
    """The share of pairs of rows with different labels whose predictions are in the same order, ties counting half.

    ``prediction`` and ``label`` are as in `numbers`. Of n rows there are n^2 / 2 pairs; this takes n log n steps.
    """
    _check_rows(prediction, label)
    kept = ~label.isnan()
    label, prediction = (torch.unique(values[kept], return_inverse=True)[1] for values in (label, prediction))
    rows = len(label)
    if rows == 0:
        return Value(None, "0 rows")
    pairs = rows * (rows - 1) // 2 - _equal_pairs(label)
    if pairs == 0:
        return Value(None, f"constant label in {rows} rows")
    tied = _equal_pairs(prediction) - _equal_pairs(label * (int(prediction.max()) + 1) + prediction)
    return Value((int(below_in_both(prediction, label).sum()) + tied / 2) / pairs)


def _equal_pairs(values: Tensor) -> int:
    count = torch.unique(values, return_counts=True)[1]
    return int((count * (count - 1) // 2).sum())


def below_in_both(prediction: Tensor, label: Tensor) -> Tensor:
    """How many rows have both a lower prediction and a lower label than each row (n,): whole numbers from 0."""
    size = int(prediction.max()) + 1
    # by label, and inside of a label from the highest prediction down, so that no pair of equal labels rises
    order = torch.argsort(label * size - prediction)
    return torch.empty_like(label).index_copy_(0, order, _smaller_before(prediction[order], size))


def _smaller_before(values: Tensor, size: int) -> Tensor:
    """How many smaller values stand before each (n,) of whole numbers in [0, size).

    Two values part at their highest different bit. Rows are grouped by the bits above it, in their order; a row with
    the bit set rises above the rows of its group that came before without it. Each bit is one pass over the rows.
    """
    below = torch.bincount(values, minlength=size).cumsum(0)
    below = torch.cat((below.new_zeros(1), below))  # (size + 1,): rows with a smaller value
    place = torch.arange(len(values))
    found, origin = torch.zeros_like(values), place  # origin: where a row stood at first
    for bit in reversed(range((size - 1).bit_length())):
        start = below[values >> (bit + 1) << (bit + 1)]  # where the row's group begins
        high = values >> bit & 1
        low = torch.cat((high.new_zeros(1), (1 - high).cumsum(0)))
        before = low[:-1] - low[start]  # rows of the group before this one without the bit
        found.index_add_(0, origin, before * high)
        # next, the rows without the bit come first in their group, each kind in its order
        upper = below[((values >> bit | 1) << bit).clamp_max(size)]
        target = torch.where(high == 1, upper + (place - start - before), start + before)
        values, origin = (torch.empty_like(each).scatter_(0, target, each) for each in (values, origin))
    return found


def _value(metric: Tensor) -> Value:
    return Value(float(metric))


def _check_rows(prediction: Tensor, label: Tensor) -> None:
    if prediction.ndim != 1 or prediction.shape != label.shape:
        raise ValueError(f"{tuple(prediction.shape)} predictions for {tuple(label.shape)} labels")


def _probabilities(prob: Tensor) -> Tensor:
    """Return ``prob`` as float64; ValueError where a value is no probability (a NaN, a logit)."""
    outside = ~((prob >= 0) & (prob <= 1))
    if bool(outside.any()):
        raise ValueError(f"{int(outside.sum())} of {prob.numel()} values are outside [0, 1]: probabilities, not logits")
    return prob.double()


def mean_ranks(values: Tensor) -> Tensor:
    """Return the ranks (n,) float64 from 1; equal values share the mean of theirs."""
    _, inverse, counts = torch.unique(values, sorted=True, return_inverse=True, return_counts=True)
    mean = counts.cumsum(0).double() - (counts.double() - 1) / 2  # (distinct,): last rank minus half the group
    ranks: Tensor = mean[inverse]
    return ranks
