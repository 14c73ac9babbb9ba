"""The synthetic data of the MMoE paper: the weights' cosine, the labels by hand, the noise, the split."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graftrec.data.datasets.mmoe_synthetic import MMoESynthetic

SMALL: dict[str, Any] = {"train": 3000, "val": 500, "test": 700}


@pytest.mark.parametrize("correlation", [-1.0, 0.0, 0.3, 0.9, 1.0])
def test_the_cosine_of_the_weights_is_the_setting(correlation: float) -> None:
    w1, w2 = MMoESynthetic(correlation, dimension=20).weights()
    assert np.linalg.norm(w1) == pytest.approx(1)
    assert np.linalg.norm(w2) == pytest.approx(1)
    assert w1 @ w2 == pytest.approx(correlation, abs=1e-12)


def test_labels_by_hand() -> None:
    # two sines: t + sin(2 t + 1) + sin(3 t + 2)
    found = MMoESynthetic(sines=2).signal(np.array([0.0, 0.5, -1.0]))
    by_hand = [0.8414710 + 0.9092974, 0.5 + 0.9092974 - 0.3507832, -1 - 0.8414710 - 0.8414710]
    np.testing.assert_allclose(found, by_hand, atol=1e-6)
    np.testing.assert_array_equal(MMoESynthetic(sines=0).signal(np.array([0.25])), [0.25])


def test_labels_are_the_signal_and_noise_of_the_given_deviation() -> None:
    dataset = MMoESynthetic(0.5, dimension=10, noise=0.3, **SMALL)
    data = dataset.read()
    x, w = data.vectors["x"].astype(np.float64), dataset.weights()
    rest = data.answers - dataset.signal(x @ w.T)
    assert rest.std(axis=0) == pytest.approx([0.3, 0.3], rel=0.05)
    assert abs(np.corrcoef(rest.T)[0, 1]) < 0.05  # each label has noise of its own
    assert np.abs(np.cov(x.T) - np.eye(10)).max() < 0.12


def test_rows_are_split_as_asked_and_paired_over_correlations() -> None:
    first, second = (MMoESynthetic(p, dimension=5, **SMALL).read() for p in (0.0, 1.0))
    assert first.split is not None
    assert [int((first.split == part).sum()) for part in range(3)] == [3000, 500, 700]
    np.testing.assert_array_equal(first.vectors["x"], second.vectors["x"])
    np.testing.assert_array_equal(first.answers[:, 0], second.answers[:, 0])
    other = MMoESynthetic(0.0, dimension=5, seed=1, **SMALL).read()
    assert not np.array_equal(first.vectors["x"], other.vectors["x"])
    quiet = MMoESynthetic(1.0, dimension=5, noise=0.0, **SMALL).read()
    np.testing.assert_allclose(quiet.answers[:, 0], quiet.answers[:, 1], atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"correlation": 1.5}, "correlation should be"),
        ({"dimension": 1}, "dimension should be"),
        ({"noise": -1.0}, "noise at least 0"),
        ({"test": 0}, "train, val and test should be"),
    ],
)
def test_a_wrong_value_is_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        MMoESynthetic(**settings)
