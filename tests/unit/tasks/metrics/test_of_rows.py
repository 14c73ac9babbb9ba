"""Values per row: their mean is the metric, their spread what the metric would vary by."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from torch import Tensor

from graftrec.tasks.metrics.pointwise import Value, binary, numbers, ordered, xauc
from graftrec.tasks.metrics.row_values import (
    answers_of_rows,
    auc_of_rows,
    binary_of_rows,
    classes_of_rows,
    grouped_auc_of_rows,
    mean_auc_of_rows,
    numbers_of_rows,
    ordered_of_rows,
    ratio_of_rows,
    xauc_of_rows,
)

torch.set_num_threads(1)
NAN = math.nan


def drawn(rows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Probabilities with ties, and labels that they say something of."""
    random = np.random.default_rng(seed)
    prob = random.integers(1, 20, rows) / 20
    return torch.from_numpy(prob), torch.from_numpy((random.random(rows) < prob).astype(float))


# --- AUC


def test_the_rows_of_an_auc_are_delongs() -> None:
    random = np.random.default_rng(0)
    label = (random.random(400) < 0.3).astype(float)
    label[:7] = np.nan
    one = np.round(random.normal(size=400) + np.nan_to_num(label), 1)  # with ties
    other = one + random.normal(size=400)
    found = [auc_of_rows(torch.from_numpy(score), torch.from_numpy(label)).numpy() for score in (one, other)]
    kept = ~np.isnan(label)
    assert np.isnan(found[0][~kept]).all()
    for score, rows in zip((one, other), found, strict=True):
        assert rows[kept].mean() == pytest.approx(sk.roc_auc_score(label[kept], score[kept]))
    # DeLong's variance of the difference, from its definition: S10 / m + S01 / n
    parts = []
    for score in (one, other):
        high, low = score[label == 1], score[label == 0]
        wins = (high[:, None] > low) + 0.5 * (high[:, None] == low)
        parts.append((wins.mean(1), wins.mean(0)))
    variance = sum(np.var(parts[0][side] - parts[1][side], ddof=0) / len(parts[0][side]) for side in (0, 1))
    difference = (found[0] - found[1])[kept]
    assert difference.var() / len(difference) == pytest.approx(variance, rel=1e-6)


def test_an_auc_of_one_class_has_no_rows() -> None:
    assert auc_of_rows(torch.tensor([0.2, 0.8]), torch.tensor([1.0, torch.nan])).isnan().all()


def test_the_rows_of_a_mean_of_aucs_by_hand() -> None:
    """Of 4 rows that count label a is known in 3; b has one class, and row 4, which knows only it, does not count."""
    a = torch.tensor([1.0, 0.0, NAN, 1.0, NAN])
    b = torch.tensor([1.0, NAN, 1.0, NAN, 1.0])
    c = torch.tensor([0.0, 1.0, 0.0, 1.0, NAN])
    prob = torch.tensor([[0.2, 0.5, 0.1], [0.6, 0.5, 0.4], [0.5, 0.5, 0.9], [0.8, 0.5, 0.3], [0.1, 0.2, 0.3]])
    each = torch.stack([auc_of_rows(p, y) for p, y in zip(prob.unbind(1), (a, b, c), strict=True)], 1)
    found = mean_auc_of_rows(each)
    own = [float(each[:, label].nanmean()) for label in (0, 2)]
    assert own == pytest.approx([0.5, 0.5])  # of a: 0.8 above 0.6 above 0.2; of c: 0.4 and 0.3 between 0.1 and 0.9
    for row in range(4):
        terms = [auc + (4 / rows * (float(each[row, label]) - auc) if not each[row, label].isnan() else 0)
                 for label, auc, rows in zip((0, 2), own, (3, 4), strict=True)]  # fmt: skip
        assert float(found[row]) == pytest.approx(sum(terms) / 2)
    assert found[4].isnan()
    assert float(found.nanmean()) == pytest.approx(sum(own) / 2)
    assert mean_auc_of_rows(each[:, 1:2]).isnan().all()


def test_a_row_of_gauc_has_its_users_auc() -> None:
    prob, label = torch.tensor([0.1, 0.9, 0.5, 0.4, 0.4, 0.3, 0.7]), torch.tensor([0.0, 1, 0, 1, 0, 1, NAN])
    user = torch.tensor([7, 7, 7, 3, 3, 0, 7])
    found = grouped_auc_of_rows(prob, label, user)["gauc"]
    expected = torch.tensor([1, 1, 1, 0.5, 0.5, NAN, NAN], dtype=torch.float64)
    torch.testing.assert_close(found, expected, equal_nan=True)
    assert grouped_auc_of_rows(prob, label, user * 0)["gauc"].isnan().all()


# --- answers


def test_a_probability_of_a_half_is_no_yes() -> None:
    """One rule for the metric and its rows: seven of ten labels are 0, and 0.5 says no."""
    half, label = torch.full((10,), 0.5), torch.tensor([1.0] * 3 + [0.0] * 7)
    found = binary_of_rows(half, label)
    assert binary(half, label)["accuracy"].value == pytest.approx(0.7)
    assert float(found["accuracy"].mean()) == pytest.approx(0.7)
    assert found["recall"][:3].tolist() == [0, 0, 0]
    assert found["recall"][3:].isnan().all()
    assert found["precision"].isnan().all()  # nothing was said


def test_a_log_loss_of_a_row() -> None:
    found = answers_of_rows(torch.tensor([0.2, 0.9, 0.0, 0.4]), torch.tensor([0.0, 1.0, 1.0, NAN]))["log_loss"]
    assert found[:2].tolist() == pytest.approx([-math.log(0.8), -math.log(0.9)])
    assert found[2].isfinite()
    assert found[3].isnan()


def test_classes_of_rows() -> None:
    prob = torch.tensor([0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1]).expand(4, -1)
    found = classes_of_rows(prob, torch.tensor([0, 1, 6, -1]))
    assert found["accuracy"].tolist()[:3] == [1, 0, 0]
    assert found["recall@5"].tolist()[:3] == pytest.approx([1, 1, 3 / 5])  # three of five that are alike
    assert found["accuracy"][3].isnan()
    assert found["recall@5"][3].isnan()
    assert set(classes_of_rows(prob[:, :5], torch.tensor([0, 1, 2, -1]))) == {"accuracy"}
    assert classes_of_rows(prob[:, :1], torch.zeros(4, dtype=torch.int64)) == {}
    assert all(values.isnan().all() for values in classes_of_rows(prob, torch.full((4,), -1)).values())


def test_the_middle_class_is_the_metrics_own() -> None:
    """P(y > 0) of a half exactly, made of parts that single precision adds up to more."""
    prob = torch.rand(20_000, 6, generator=torch.Generator().manual_seed(0))
    prob = prob / prob.sum(1, keepdim=True)
    prob[:, 0] = 0.5
    prob[:, 1:] *= 0.5 / prob[:, 1:].sum(1, keepdim=True)
    label = torch.zeros(20_000, dtype=torch.int64)
    found = ordered_of_rows(prob, label)
    assert float(found["mae"].mean()) == ordered(prob, label)["mae"].value


# --- numbers


def test_errors_of_rows_have_the_metric_as_their_mean() -> None:
    random = torch.Generator().manual_seed(0)
    label, prediction = torch.randn(50, generator=random), torch.randn(50, generator=random)
    label[7] = torch.nan
    found = numbers_of_rows(prediction, label)
    expected = numbers(prediction, label)
    for name, values in found.items():
        assert values[7].isnan()
        assert float(values.nanmean()) == pytest.approx(expected[name].value)
    exact = numbers_of_rows(torch.ones(3), torch.ones(3))
    assert exact["rmse"].tolist() == exact["mae"].tolist() == [0, 0, 0]
    assert exact["r2"].isnan().all()


def test_their_spread_is_that_of_the_rmse() -> None:
    """The standard error of the values' mean, against RMSEs of 4,000 fresh samples of the same law."""
    random, n = np.random.default_rng(1), 200
    errors = random.standard_gamma(2.0, (4000, n))
    seen = np.sqrt((errors**2).mean(1)).std()
    zero = torch.zeros(n)
    said = [float(numbers_of_rows(torch.from_numpy(own), zero)["rmse"].std()) / math.sqrt(n) for own in errors[:200]]
    assert np.mean(said) == pytest.approx(seen, rel=0.05)


@pytest.mark.parametrize("sizes", [(1, 1), (5, 3), (3, 50), (1000, 1000), (2, 2)])
def test_the_rows_of_an_xauc_by_pairs(sizes: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    prediction, label = (random.integers(0, size, 300) / 7 for size in sizes)
    label[:5] = np.nan
    found = xauc_of_rows(torch.from_numpy(prediction), torch.from_numpy(label))
    assert found[:5].isnan().all()
    p, y = prediction[5:], label[5:]
    other = y[:, None] != y
    right = (other & ((p[:, None] < p) == (y[:, None] < y)) & (p[:, None] != p)) + 0.5 * (other & (p[:, None] == p))
    if not other.any():
        assert found.isnan().all()
        return
    share = right.sum() / other.sum()
    expected = share + 2 * (right.sum(1) - share * other.sum(1)) / other.sum(1).mean()
    np.testing.assert_allclose(found[5:].numpy(), expected, atol=1e-12)
    assert float(found.nanmean()) == pytest.approx(xauc(torch.from_numpy(prediction), torch.from_numpy(label)).value)


def test_the_rows_of_an_xauc_of_yes_and_no_are_those_of_the_auc() -> None:
    prob, label = drawn(300)
    torch.testing.assert_close(xauc_of_rows(prob, label), auc_of_rows(prob, label))


# --- the spread of all that are no plain means, against the jackknife


def test_a_ratio_by_hand() -> None:
    found = ratio_of_rows(torch.tensor([1.0, 2.0, NAN]).double(), torch.tensor([4.0, 2.0, NAN]).double())
    assert found[:2].tolist() == pytest.approx([0.5 + (1 - 2) / 3, 0.5 + (2 - 1) / 3])
    assert found[2].isnan()
    assert ratio_of_rows(torch.zeros(2).double(), torch.zeros(2).double()).isnan().all()


Rows = Callable[[Tensor, Tensor], dict[str, Tensor]]
Metrics = Callable[[Tensor, Tensor], dict[str, Value]]
Case = tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor, Tensor], Value]]


def case(of_rows: Rows, metrics: Metrics, name: str) -> Case:
    return lambda p, y: of_rows(p, y)[name], lambda p, y: metrics(p, y)[name]


CASES = {name: case(binary_of_rows, binary, name) for name in ("auc", "log_loss", "accuracy", "precision", "f1")}
CASES |= {name: case(numbers_of_rows, numbers, name) for name in ("rmse", "mae", "r2")}
CASES["xauc"] = xauc_of_rows, xauc


@pytest.mark.parametrize("name", CASES)
def test_values_are_what_leaving_a_row_out_says(name: str) -> None:
    """n T - (n - 1) T without row i, where T is the metric (J. Tukey 1958), is the value up to 1 / n of it."""
    rows, (of_rows, metric) = 400, CASES[name]
    prob, label = drawn(rows)
    if name in ("rmse", "mae", "r2", "xauc"):
        label = label + drawn(rows, 1)[0]
    whole, left = metric(prob, label).value, []
    assert whole is not None
    for row in range(rows):
        kept = torch.arange(rows) != row
        without = metric(prob[kept], label[kept]).value
        assert without is not None
        left.append(rows * whole - (rows - 1) * without)
    values, said = of_rows(prob, label).numpy(), np.array(left)
    assert values.mean() == pytest.approx(whole, abs=1e-6)
    assert np.corrcoef(said, values)[0, 1] > 0.999
    assert values.std() == pytest.approx(said.std(), rel=0.03)
