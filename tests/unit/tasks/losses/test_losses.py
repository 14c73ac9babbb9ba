"""Every loss against its equation, in plain Python on small numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import scipy.special
import sklearn.linear_model
import torch
from torch import Tensor

from graftrec.data.schema import Label
from graftrec.tasks.losses.absolute import Absolute
from graftrec.tasks.losses.base import Loss, masked_mean
from graftrec.tasks.losses.bce import Bce
from graftrec.tasks.losses.bpr import Bpr
from graftrec.tasks.losses.cross_entropy import CrossEntropy
from graftrec.tasks.losses.gbce import Gbce
from graftrec.tasks.losses.huber import Huber
from graftrec.tasks.losses.info_nce import InfoNce
from graftrec.tasks.losses.log_squared import LogSquared
from graftrec.tasks.losses.ordinal import Ordinal
from graftrec.tasks.losses.quantile import Quantile
from graftrec.tasks.losses.weighted_logistic import WeightedLogistic


def sigmoid(x: float) -> float:
    return float(scipy.special.expit(x))


def values(loss: Loss, output: list[Any], label: list[Any]) -> list[float]:
    found: list[float] = loss(torch.tensor(output), torch.tensor(label)).tolist()
    return found


@pytest.mark.parametrize(
    ("loss", "output", "label", "expected"),
    [
        (Absolute(), [1.0, -2.0, 3.0], [3.0, 1.0, 3.0], [2.0, 3.0, 0.0]),
        (Huber(), [1.5, 4.0], [1.0, 1.0], [0.125, 2.5]),
        (Huber(delta=2.0), [1.5, 4.0], [1.0, 1.0], [0.125, 2 * (3 - 1)]),
        (LogSquared(), [0.0, 9.0], [math.e - 1, 0.0], [1.0, math.log(10) ** 2]),
        (LogSquared(), [-1.0, -3.0], [1.0, -1.0], [math.log(4) ** 2, math.log(2) ** 2]),
        (Bce(), [0.0, 2.0], [1.0, 0.0], [math.log(2), -math.log(1 - sigmoid(2))]),
        (Bce(positive_weight=3.0), [0.0, 2.0], [1.0, 0.0], [3 * math.log(2), -math.log(1 - sigmoid(2))]),
        (WeightedLogistic(), [0.5, 0.5], [7.0, 0.0], [-7 * math.log(sigmoid(0.5)), -math.log(1 - sigmoid(0.5))]),
        (WeightedLogistic(True), [0.5], [7.0], [-7 * math.log(sigmoid(0.5)) - math.log(1 - sigmoid(0.5))]),
        (Quantile(), [[1.0, 3.0]], [2.0], [(0.25 * 1 + 0.25 * 1) / 2]),
        (Quantile(), [[1.0, 3.0]], [5.0], [(0.25 * 4 + 0.75 * 2) / 2]),
        (Quantile([0.1, 0.5, 0.9]), [[0.0, 0.0, 0.0]], [-10.0], [(9 + 5 + 1) / 3]),
        (Ordinal(), [[0.3, -1.0]], [0], [-math.log(1 - sigmoid(0.3)) - math.log(1 - sigmoid(-1.0))]),
        (Ordinal(), [[0.3, -1.0]], [1], [-math.log(sigmoid(0.3)) - math.log(1 - sigmoid(-1.0))]),
        (Ordinal(), [[0.3, -1.0]], [2], [-math.log(sigmoid(0.3)) - math.log(sigmoid(-1.0))]),
        (CrossEntropy(class_weights=[1.0, 0.0, 5.0]), [[0.0] * 3] * 3, [0, 1, 2], [math.log(3), 0, 5 * math.log(3)]),
    ],
)
def test_by_hand(loss: Loss, output: list[Any], label: list[Any], expected: list[float]) -> None:
    assert values(loss, output, label) == pytest.approx(expected, rel=1e-5)


def test_the_logarithms_have_a_slope_everywhere() -> None:
    number = torch.tensor([-5.0, -1e-6, 0.0, 3.0], requires_grad=True)
    (slope,) = torch.autograd.grad(LogSquared()(number, torch.full((4,), 9.0)).sum(), number)
    assert (slope < 0).all()


@pytest.mark.parametrize("every_row", [False, True])
def test_odds_of_a_time(every_row: bool) -> None:
    """The best constant logit: exp of it is the sum of times over the negatives, or the mean of all times."""
    time = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 5.0])
    logit = torch.zeros((), requires_grad=True)
    best = torch.tensor(7 / 8 if every_row else 7 / 6).log()
    (slope,) = torch.autograd.grad(WeightedLogistic(every_row)(best + logit.expand(8), time).sum(), logit)
    assert slope.item() == pytest.approx(0, abs=1e-6)


def test_the_best_quantiles_are_those_of_the_labels() -> None:
    label = torch.arange(101.0)
    loss, levels = Quantile(), torch.tensor([0.125, 0.375, 0.625, 0.875])
    best = torch.quantile(label, levels)
    torch.testing.assert_close(loss.levels(best[None]), levels)
    at_best = loss(best.expand(101, 4), label).mean()
    fitted = [
        sklearn.linear_model.QuantileRegressor(quantile=q, alpha=0, fit_intercept=True).fit([[0.0]] * 101, label)
        for q in levels.tolist()
    ]
    assert [float(model.intercept_) for model in fitted] == pytest.approx(best.tolist(), abs=0.51)
    for at in range(4):
        for step in (-3.0, 3.0):
            moved = best.clone()
            moved[at] += step
            assert loss(moved.expand(101, 4), label).mean() > at_best


def test_shares_of_quantiles() -> None:
    three = torch.zeros(1, 3)
    assert Quantile().shares(three).tolist() == pytest.approx([1 / 3] * 3)
    assert Quantile([0.1, 0.5, 0.7]).shares(three).tolist() == pytest.approx([0.3, 0.3, 0.4])


# --- lists: one row with everything, one without a negative, one without a positive, one with unknown candidates
SCORES = [[0.5, -1.0, 2.0, 0.0], [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0], [3.0, -2.0, 1.0, 0.25]]
NAN = math.nan
LABELS = [[1.0, 0.0, 1.0, 0.0], [1.0, 1.0, 1.0, NAN], [0.0, 0.0, NAN, 0.0], [NAN, 1.0, 0.0, NAN]]


def of_pairs(score: float, others: list[float]) -> float:
    return sum(-math.log(sigmoid(score - other)) for other in others) / len(others)


def of_softmax(temperature: float) -> Callable[[float, list[float]], float]:
    def loss(score: float, others: list[float]) -> float:
        own = math.exp(score / temperature)
        return -math.log(own / (own + sum(math.exp(other / temperature) for other in others)))

    return loss


def of_gbce(t: float, rate: float) -> Callable[[float, list[float]], float]:
    power = rate * (t * (1 - 1 / rate) + 1 / rate)

    def loss(score: float, others: list[float]) -> float:
        found = math.log(sigmoid(score) ** power) + sum(math.log(1 - sigmoid(other)) for other in others)
        return -found / (1 + len(others))

    return loss


LISTS = [(Bpr(), of_pairs), (InfoNce(), of_softmax(1.0)), (InfoNce(temperature=0.4), of_softmax(0.4))]
LISTS += [(Gbce(rate=0.1), of_gbce(0.75, 0.1)), (Gbce(0.0, 0.1), of_gbce(0, 1)), (Gbce(), of_gbce(0.5, 1.0))]


@pytest.mark.parametrize(("loss", "of"), LISTS)
def test_lists_by_naive_loops(loss: Loss, of: Callable[[float, list[float]], float]) -> None:
    score, label = torch.tensor(SCORES, requires_grad=True), torch.tensor(LABELS)
    found, counted = loss.measure(score, label.nan_to_num(0.0), ~label.isnan())
    expected = []
    for row, (scores, labels) in enumerate(zip(SCORES, LABELS, strict=True)):
        others = [s for s, y in zip(scores, labels, strict=True) if y == 0]
        for place, y in enumerate(labels):
            counts = y == 1 and bool(others)
            assert bool(counted[row, place]) == counts
            if counts:
                expected.append(of(scores[place], others))
                assert found[row, place].item() == pytest.approx(expected[-1], rel=1e-5)
    assert len(expected) == 3
    mean = masked_mean(found, counted)
    assert mean.item() == pytest.approx(sum(expected) / 3, rel=1e-5)
    (gradient,) = torch.autograd.grad(mean, score)
    assert gradient.isfinite().all()
    assert not gradient[1:3].any()  # one without negatives, one without positives
    assert gradient[3, [0, 3]].tolist() == [0, 0]  # unknown candidates


def test_gbce_takes_the_rate_that_it_is_told_unless_it_is_set() -> None:
    loss, fixed = Gbce(t=1.0), Gbce(t=1.0, rate=0.5)
    assert loss.power == 1
    for one in (loss, fixed):
        one.sampled(0.2)
    assert (loss.power, fixed.power) == (pytest.approx(0.2), 0.5)


@pytest.mark.parametrize("t", [0.0, 0.5, 1.0])
def test_gbce_calibrates(t: float) -> None:
    """With chances p and a rate a of drawing each other item, the best odds of sigmoid(s) are b p / (a (1 - p)).

    Which is p / (1 - p), so sigmoid(s) = p, where t is 1; the gradient of the exact mean over all draws is 0 there.
    """
    chance, count = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64), 1
    rate = count / (len(chance) - 1)
    loss = Gbce(t)
    loss.sampled(rate)
    odds = loss.power * chance / (rate * (1 - chance))
    score = odds.log().requires_grad_(True)
    total = torch.zeros(())
    for positive in range(4):
        for negative in range(4):
            if negative != positive:
                row = torch.stack([score[positive], score[negative]])[None]
                total = total + chance[positive] / 3 * loss(row, torch.tensor([[1.0, 0.0]])).sum()
    (slope,) = torch.autograd.grad(total, score)
    assert slope.tolist() == pytest.approx([0] * 4, abs=1e-7)
    if t == 1:
        assert score.sigmoid().tolist() == pytest.approx(chance.tolist())


@pytest.mark.parametrize("loss", [Bpr(), InfoNce(), Gbce()])
def test_nothing_to_compare_is_an_exact_zero(loss: Loss) -> None:
    score = torch.tensor([[3.0, 4.0]], requires_grad=True)
    values, counted = loss.measure(score, torch.ones(1, 2), torch.ones(1, 2, dtype=torch.bool))
    zero = masked_mean(values, counted)
    assert zero == 0
    (gradient,) = torch.autograd.grad(zero, score)
    assert not gradient.any()


@pytest.mark.parametrize("loss", [Bpr(), InfoNce()])
def test_lists_need_rows_of_candidates(loss: Loss) -> None:
    with pytest.raises(ValueError, match="one for each candidate"):
        loss(torch.zeros(3), torch.zeros(3))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Huber(delta=0.0), "delta should be positive"),
        (lambda: Bce(positive_weight=0.0), "positive_weight should be positive"),
        (lambda: InfoNce(temperature=-1.0), "temperature should be positive"),
        (lambda: Gbce(t=1.5), "t should be in"),
        (lambda: Gbce(rate=0.0), "rate should be above 0"),
        (lambda: Quantile([]), "quantiles should be rising"),
        (lambda: Quantile([0.5, 0.5]), "quantiles should be rising"),
        (lambda: Quantile([0.0, 0.5]), "quantiles should be rising"),
        (lambda: CrossEntropy(class_weights=[]), "class_weights should be"),
        (lambda: CrossEntropy(class_weights=[1.0, -1.0]), "class_weights should be"),
        (lambda: CrossEntropy(class_weights=[1.0, 2.0]).check(Label("y", "category", 3)), "should be 3, one for each"),
        (lambda: Quantile([0.1, 0.9])(torch.zeros(2, 3), torch.zeros(2)), "head.classes"),
        (lambda: Quantile()(torch.zeros(2), torch.zeros(2)), "output should be"),
    ],
)
def test_wrong_values_are_refused(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_weights_of_classes_are_no_part_of_a_checkpoint() -> None:
    assert not CrossEntropy(class_weights=[1.0, 2.0]).state_dict()


def test_bce_is_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    logits: Tensor = torch.randn(50, generator=generator) * 20
    label = (torch.rand(50, generator=generator) > 0.5).float()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, label, reduction="none")
    torch.testing.assert_close(Bce()(logits, label), expected, atol=1e-6, rtol=1e-5)
