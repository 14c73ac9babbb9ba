"""Metrics of whole arrays of predictions: a number, or the reason why there is none."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torchmetrics.functional as tm
import torchmetrics.functional.classification as tmc
from torch import Tensor

from graftrec.metrics.ranking import ranking_metrics


class Value(NamedTuple):
    """A metric's value, or None and the reason why it is undefined."""

    value: float | None
    reason: str | None = None


def binary(prob: Tensor, label: Tensor) -> dict[str, Value]:
    """Return ``auc``, ``log_loss`` (nats), ``accuracy`` (at 0.5) and ``ece`` of a binary task.

    ``prob`` is (n,) in [0, 1], never logits (ValueError); ``label`` is (n,) 0 or 1, NaN where missing (left out).
    ``auc`` needs both classes. ``ece`` is the mean |frequency - probability| of 15 equal bins of the probability of a
    positive, weighted by their rows (Guo et al. 2017, https://arxiv.org/abs/1706.04599).
    """
    _check_rows(prob, label)
    kept = ~label.isnan()
    prob, label = _probabilities(prob[kept]), label[kept].double()
    if bool(((label != 0) & (label != 1)).any()):
        raise ValueError("a binary label is 0, 1 or NaN")
    rows, positives = label.numel(), int(label.sum())
    if rows == 0:
        return dict.fromkeys(("auc", "log_loss", "accuracy", "ece"), Value(None, "0 rows"))
    target = label.long()
    if positives == 0:
        auc = Value(None, f"0 positives of {rows} rows")
    elif positives == rows:
        auc = Value(None, f"0 negatives of {rows} rows")
    else:
        auc = _value(tmc.binary_auroc(prob, target, validate_args=False))
    epsilon = torch.finfo(prob.dtype).eps
    clipped = prob.clamp(epsilon, 1 - epsilon)
    loss = -(label * clipped.log() + (1 - label) * (1 - clipped).log()).mean()
    return {
        "auc": auc,
        "log_loss": _value(loss),
        "accuracy": _value(tmc.binary_accuracy(prob, target, validate_args=False)),
        "ece": _value(tmc.binary_calibration_error(prob, target, n_bins=15, norm="l1", validate_args=False)),
    }


def classes(prob: Tensor, label: Tensor) -> dict[str, Value]:
    """Return ``accuracy``, ``recall_macro``, ``f1_macro``, ``precision_macro`` and ``recall@5`` of a category task.

    ``prob`` is (n, C) in [0, 1], never logits (ValueError); ``label`` is (n,) int64 in [0, C), -1 where missing (left
    out). Macro means are over the classes that occur among the labels; the precision of a class that is never
    predicted is 0. ``recall@5`` is the share of rows whose class is among the five likeliest, ties in random order.
    """
    if prob.ndim != 2:
        raise ValueError(f"prob has shape {tuple(prob.shape)}, (n, C) is needed")
    _check_rows(prob[:, 0] if prob.shape[1] else prob.sum(1), label)
    kept = label != -1
    prob, label = _probabilities(prob[kept]), label[kept].long()
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
        hit = torch.nn.functional.one_hot(label, count).bool()
        values["recall@5"] = _value(ranking_metrics(prob, hit, k=5)["hr@5"].mean())
    return values


def numbers(prediction: Tensor, label: Tensor) -> dict[str, Value]:
    """Return ``rmse`` and ``mae`` in the label's unit and ``spearman`` in [-1, 1].

    ``prediction`` is (n,) finite (ValueError), ``label`` is (n,), NaN where missing (left out). Tied values share their
    mean rank, in float64: torchmetrics 1.9.0 adds ranks up in int32, which overflows from some 65,000 equal values on.
    """
    _check_rows(prediction, label)
    kept = ~label.isnan()
    prediction, label = prediction[kept].double(), label[kept].double()
    if not bool(prediction.isfinite().all()):
        raise ValueError(f"{int((~prediction.isfinite()).sum())} of {prediction.numel()} predictions are not finite")
    rows = label.numel()
    if rows == 0:
        return dict.fromkeys(("rmse", "mae", "spearman"), Value(None, "0 rows"))
    if bool((label == label[0]).all()):
        spearman = Value(None, f"constant label in {rows} rows")
    elif bool((prediction == prediction[0]).all()):
        spearman = Value(None, f"constant prediction in {rows} rows")
    else:
        spearman = _value(torch.corrcoef(torch.stack((_ranks(prediction), _ranks(label))))[0, 1])
    return {
        "rmse": _value(tm.mean_squared_error(prediction, label, squared=False)),
        "mae": _value(tm.mean_absolute_error(prediction, label)),
        "spearman": spearman,
    }


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


def _ranks(values: Tensor) -> Tensor:
    """Return the ranks (n,) float64 from 1; equal values share the mean of theirs."""
    _, inverse, counts = torch.unique(values, sorted=True, return_inverse=True, return_counts=True)
    mean = counts.cumsum(0).double() - (counts.double() - 1) / 2  # (distinct,): last rank minus half the group
    ranks: Tensor = mean[inverse]
    return ranks
