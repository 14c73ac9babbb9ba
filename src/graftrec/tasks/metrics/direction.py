"""What the values of a metric can be, and which of two is the better one."""

from __future__ import annotations

import math

LOWER_IS_BETTER = ("rmse", "mae", "log_loss", "ece", "loss")
SHARES = ("auc", "gauc", "xauc", "ap", "accuracy", "precision", "recall", "f1", "ece", "hr", "ndcg", "mrr", "map")
"""Metrics in [0, 1], with or without a length or ``_macro`` behind them."""


def stem(metric: str) -> str:
    """``ndcg`` of ``ndcg@10/cold_user``, ``recall`` of ``recall_macro``."""
    return metric.partition("/")[0].partition("@")[0].removesuffix("_macro")


def sign(metric: str) -> float:
    """1 where a higher value is better, -1 where a lower one is."""
    return -1.0 if stem(metric) in LOWER_IS_BETTER else 1.0


def bounds(metric: str) -> tuple[float, float]:
    """The lowest and the highest value that a metric can have."""
    name = stem(metric)
    if name in SHARES:
        return 0.0, 1.0
    if name in ("spearman", "kappa"):
        return -1.0, 1.0
    if name in LOWER_IS_BETTER:
        return 0.0, math.inf
    return -math.inf, math.inf
