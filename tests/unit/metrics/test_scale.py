"""Which values a metric can have, and errors row by row."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from graftrec.metrics.pointwise import BINARY, NUMBERS, errors_of_rows, numbers
from graftrec.metrics.scale import bounds, sign


def test_directions_and_ranges() -> None:
    assert [sign(name) for name in ("ndcg@10", "auc/cold_user", "rmse", "mae/cold_both", "log_loss")] == [
        1, 1, -1, -1, -1,
    ]  # fmt: skip
    assert bounds("recall@5/warm") == bounds("recall_macro") == bounds("auc") == (0.0, 1.0)
    assert bounds("spearman") == (-1.0, 1.0)
    assert bounds("rmse/cold_item") == (0.0, math.inf)
    assert bounds("novelty@10") == (-math.inf, math.inf)
    for name in (*BINARY, *NUMBERS):
        least, most = bounds(name)
        assert least < most


def test_errors_of_rows_have_the_metric_as_their_mean() -> None:
    random = torch.Generator().manual_seed(0)
    label, prediction = torch.randn(50, generator=random), torch.randn(50, generator=random)
    label[7] = torch.nan
    found = errors_of_rows(prediction, label)
    expected = numbers(prediction, label)
    for name, values in found.items():
        assert values[7].isnan()
        assert float(values.nanmean()) == pytest.approx(expected[name].value)
    exact = errors_of_rows(torch.ones(3), torch.ones(3))
    assert exact["rmse"].tolist() == exact["mae"].tolist() == [0, 0, 0]


def test_their_spread_is_that_of_the_rmse() -> None:
    """The standard error of the values' mean, against RMSEs of 4,000 fresh samples of the same law."""
    random, n = np.random.default_rng(1), 200
    errors = random.standard_gamma(2.0, (4000, n))
    seen = np.sqrt((errors**2).mean(1)).std()
    zero = torch.zeros(n)
    said = [float(errors_of_rows(torch.from_numpy(own), zero)["rmse"].std()) / math.sqrt(n) for own in errors[:200]]
    assert np.mean(said) == pytest.approx(seen, rel=0.05)
