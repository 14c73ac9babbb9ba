"""Several labels, ordered classes, times and quantiles by hand; and calibration against a step before."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics as sk
import torch
from torch import nn

from graftrec.data.schema import Label
from graftrec.models.heads.linear import Linear
from graftrec.tasks.base import Task, joint, prior_of, spread_of
from graftrec.tasks.binary import Binary
from graftrec.tasks.classification import Classification
from graftrec.tasks.losses.absolute import Absolute
from graftrec.tasks.losses.base import Loss
from graftrec.tasks.losses.bce import Bce
from graftrec.tasks.losses.bpr import Bpr
from graftrec.tasks.losses.cross_entropy import CrossEntropy
from graftrec.tasks.losses.huber import Huber
from graftrec.tasks.losses.log_squared import LogSquared
from graftrec.tasks.losses.ordinal import Ordinal as OrdinalLoss
from graftrec.tasks.losses.quantile import Quantile
from graftrec.tasks.losses.squared import Squared
from graftrec.tasks.losses.weighted_logistic import WeightedLogistic
from graftrec.tasks.metrics.pointwise import Value
from graftrec.tasks.multi_label import MultiLabel
from graftrec.tasks.ordinal import Ordinal
from graftrec.tasks.quantiles import Quantiles
from graftrec.tasks.recommendation import Recommendation
from graftrec.tasks.regression import Regression
from graftrec.tasks.watch_time import WatchTime

NAN = math.nan
YES, NUMBER, STARS = Label("y", "binary"), Label("y", "number"), Label("y", "category", 4)


def task(cls: type[Any], label: Label, loss: Loss, **settings: Any) -> Any:
    return cls(Linear(2, classes=cls.outputs(label)), loss, "s", "y", label, **settings)


def silent(given: Any) -> Any:
    for parameter in given.head.parameters():
        nn.init.zeros_(parameter)
    return given


# --- several labels

PAIR = {"a": torch.tensor([1.0, 0.0, NAN, 1.0]), "b": torch.tensor([0.0, 0.0, 0.0, NAN])}
LOGITS = torch.tensor([[0.5, -1.0], [1.0, 2.0], [9.0, 0.0], [2.0, 9.0]])


def several(**settings: Any) -> Any:
    label = joint([Label("a", "binary"), Label("b", "binary")])
    return MultiLabel(Linear(2, classes=MultiLabel.outputs(label)), Bce(), "s", ["a", "b"], label, **settings)


def test_each_known_label_counts() -> None:
    logits = LOGITS.clone().requires_grad_(True)
    loss = several().loss(logits, PAIR)
    cells = [(0.5, 1), (1.0, 0), (2.0, 1), (-1.0, 0), (2.0, 0), (0.0, 0)]
    expected = sum(math.log(1 + math.exp(-x if y else x)) for x, y in cells) / 6
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.ne(0).tolist() == [[True, True], [True, True], [False, True], [True, False]]


def test_metrics_of_several_labels() -> None:
    given = several()
    for row in range(4):
        given.update(LOGITS[row : row + 1], {name: values[row : row + 1] for name, values in PAIR.items()})
    found = given.compute()
    assert found["auc/a"].value == pytest.approx(0.5)  # 0.5 and 2 against 1
    assert found["auc/b"] == Value(None, "0 positives of 3 rows")
    assert found["auc"].value == found["auc/a"].value  # over those that are defined
    p = 1 / (1 + np.exp([-0.5, -1.0, -2.0, 1.0, -2.0, 0.0]))
    assert found["log_loss"].value == pytest.approx(sk.log_loss([1, 0, 1, 0, 0, 0], p), rel=1e-5)
    assert set(found) == {"auc", "log_loss", "accuracy", "ece", "auc/a", "auc/b"}
    given.update(LOGITS, {name: torch.zeros(4) for name in PAIR})
    assert given.compute()["auc"] == Value(None, "no label with both classes")


def test_a_joint_label_and_its_priors() -> None:
    a, b = Label("a", "binary"), Label("b", "binary")
    assert joint([a]) is a
    both = joint([a, b])
    assert (both.kind, both.classes) == ("binary", 2)
    prior = prior_of(both, torch.stack(list(PAIR.values()), -1))
    torch.testing.assert_close(prior, torch.stack([prior_of(a, PAIR["a"]), prior_of(b, PAIR["b"])]))
    given = silent(several(prior=prior))
    torch.testing.assert_close(given.predict(given(torch.ones(1, 2)))[0], torch.tensor([3 / 5, 1 / 5]))
    with pytest.raises(ValueError, match=r"of one kind\. Found binary and number"):
        joint([a, Label("n", "number")])


@pytest.mark.parametrize("columns", [["a"], ["a", "a"], []])
def test_several_labels_are_at_least_two(columns: list[str]) -> None:
    with pytest.raises(ValueError, match="columns should be at least 2, each once"):
        MultiLabel(Linear(2), Bce(), "s", columns, Label("a", "binary"))


def test_columns_of_a_task() -> None:
    assert several().columns == ("a", "b")
    assert task(Binary, YES, Bce()).columns == ("y",)


def test_a_space_hides_all_labels_of_a_row() -> None:
    given = several(space="seen")
    batch = {**PAIR, "seen": torch.tensor([1.0, 0.0, NAN, 1.0])}
    assert given.labels(batch).isnan().tolist() == [[False, False], [True, True], [True, True], [False, True]]


# --- ordered classes


def test_ordered_biases_start_at_the_shares_and_fall() -> None:
    answers = torch.tensor([0, 0, 0, 1, 3, 3, -1])
    stars = silent(task(Ordinal, STARS, OrdinalLoss(), prior=prior_of(STARS, answers)))
    logits = stars(torch.ones(2, 2))
    assert logits.shape == (2, 3)
    expected = torch.tensor([4, 2, 1, 3]) / 10  # one of each class is added
    torch.testing.assert_close(stars.predict(logits)[0], expected)
    nn.init.constant_(stars.gaps, -8.0)  # however they are learnt
    assert (stars.biases.diff() < 0).all()
    assert (stars.predict(stars(torch.randn(50, 2))) >= 0).all()


def test_without_a_prior_all_classes_are_alike() -> None:
    stars = silent(task(Ordinal, STARS, OrdinalLoss()))
    torch.testing.assert_close(stars.predict(stars(torch.ones(1, 2)))[0], torch.full((4,), 0.25))
    two = silent(task(Ordinal, Label("y", "category", 2), OrdinalLoss()))
    torch.testing.assert_close(two.predict(two(torch.ones(1, 2)))[0], torch.full((2,), 0.5))


def test_the_probability_of_a_class_is_a_difference() -> None:
    above = torch.tensor([[0.9, 0.5, 0.2]])
    torch.testing.assert_close(task(Ordinal, STARS, OrdinalLoss()).predict(above.logit()),
                               torch.tensor([[0.1, 0.4, 0.3, 0.2]]))  # fmt: skip


def test_every_parameter_of_the_ordered_classes_learns() -> None:
    stars = task(Ordinal, STARS, OrdinalLoss())
    loss = stars.loss(stars(torch.randn(8, 2)), {"y": torch.tensor([0, 1, 2, 3, 0, 1, 2, -1])})
    gradients = torch.autograd.grad(loss, list(stars.parameters()))
    assert all(gradient.any() for gradient in gradients)


def test_metrics_of_ordered_classes() -> None:
    stars = task(Ordinal, STARS, OrdinalLoss())
    generator = np.random.default_rng(0)
    g = torch.tensor(generator.normal(size=60) * 3, dtype=torch.float32)
    answer = torch.tensor(generator.integers(0, 4, 60))
    logits = g[:, None] + stars.biases.detach()
    stars.update(logits, {"y": torch.cat((answer[:-1], torch.tensor([-1])))})
    found = stars.compute()
    guess, true = (logits.sigmoid() > 0.5).sum(1).numpy()[:-1], answer.numpy()[:-1]
    assert found["accuracy"].value == pytest.approx(sk.accuracy_score(true, guess))
    assert found["mae"].value == pytest.approx(sk.mean_absolute_error(true, guess))
    assert found["kappa"].value == pytest.approx(sk.cohen_kappa_score(true, guess, weights="quadratic"), abs=1e-5)
    expected = scipy.stats.spearmanr(g.numpy()[:-1], true).statistic  # more of g, more of the expected class
    assert found["spearman"].value == pytest.approx(expected, abs=0.02)
    units = stars.units()["accuracy"]
    assert units[:-1].tolist() == (guess == true).astype(float).tolist()
    assert units[-1].isnan()


# --- times and quantiles


def test_a_time_is_the_exponential_of_the_logit() -> None:
    watch = task(WatchTime, NUMBER, WeightedLogistic(), prior=torch.tensor(12.0))
    assert watch.predict(torch.tensor([0.0, math.log(5)])).tolist() == pytest.approx([1.0, 5.0])
    assert silent(watch).predict(watch(torch.ones(1, 2))).item() == pytest.approx(12.0, rel=1e-5)
    assert watch.predict(torch.tensor([1e4])).isfinite().all()
    with pytest.raises(ValueError, match=r"should be at least 0\. Found a mean of -1"):
        task(WatchTime, NUMBER, WeightedLogistic(), prior=torch.tensor(-1.0))


def test_metrics_of_a_time() -> None:
    watch = task(WatchTime, NUMBER, WeightedLogistic())
    watch.update(torch.tensor([1.0, 4.0, 2.0, 8.0]).log(), {"y": torch.tensor([0.0, 3.0, 5.0, NAN])})
    found = watch.compute()
    assert found["mae"].value == pytest.approx((1 + 1 + 3) / 3, rel=1e-5)
    assert found["xauc"].value == pytest.approx(2 / 3)
    assert {"rmse", "spearman", "r2"} < set(found)


def test_a_time_by_the_error_of_its_logarithm() -> None:
    watch = task(WatchTime, NUMBER, LogSquared())
    loss = watch.loss(torch.tensor([3.0, 1.0]).log(), {"y": torch.tensor([1.0, 1.0])})
    assert loss.item() == pytest.approx(math.log(2) ** 2 / 2, rel=1e-5)


def test_the_expectation_is_the_mean_of_the_quantiles() -> None:
    given = task(Quantiles, NUMBER, Quantile())
    assert given(torch.ones(3, 2)).shape == (3, 20)
    assert given.predict(torch.tensor([[1.0, 2.0, 6.0]])).tolist() == pytest.approx([3.0])
    uneven = task(Quantiles, NUMBER, Quantile([0.1, 0.5, 0.7]))
    assert uneven.predict(torch.tensor([[1.0, 2.0, 6.0]])).tolist() == pytest.approx([0.3 + 0.6 + 2.4])
    # quantiles of an exponential distribution of mean 5, at the middles of many parts
    levels = (np.arange(2000) + 0.5) / 2000
    quantiles = torch.tensor(scipy.stats.expon(scale=5).ppf(levels))[None]
    assert given.predict(quantiles).item() == pytest.approx(5, rel=1e-3)


def test_metrics_of_quantiles() -> None:
    given = task(Quantiles, NUMBER, Quantile())
    given.update(torch.tensor([[1.0, 3.0], [4.0, 4.0]]), {"y": torch.tensor([1.0, 4.0])})
    found = given.compute()
    assert found["mae"].value == pytest.approx(0.5)
    assert found["xauc"].value == 1.0


# --- a step and the one before


def test_calibration_adds_what_is_above_the_step_before() -> None:
    buy = task(Binary, YES, Bce(), given="click", calibration=0.6)
    logits, given = torch.tensor([0.0, 2.0, 1.0, 3.0], requires_grad=True), torch.tensor([1.0, 0.0, -1.0, 0.0])
    given.requires_grad_(True)
    batch = {"y": torch.tensor([0.0, 1.0, 0.0, NAN])}
    plain = task(Binary, YES, Bce()).loss(logits, batch)
    s = [1 / (1 + math.exp(-x)) for x in (2.0, 0.0, 1.0, -1.0)]
    expected = 0.6 * ((s[0] - s[1]) + (s[2] - s[3])) / 3
    loss = buy.loss(logits, batch, given)
    assert loss.item() == pytest.approx(plain.item() + expected, rel=1e-5)
    pulls = torch.autograd.grad(loss - plain, [logits, given])
    assert pulls[0].ne(0).tolist() == pulls[1].ne(0).tolist() == [False, True, True, False]


def test_calibration_needs_the_step_before() -> None:
    with pytest.raises(ValueError, match="given should name the task of the step before"):
        task(Binary, YES, Bce(), calibration=0.5)
    with pytest.raises(ValueError, match="calibration should be at least 0"):
        task(Binary, YES, Bce(), given="click", calibration=-0.5)
    with pytest.raises(ValueError, match=r"same phases\. Found 'click'"):
        task(Binary, YES, Bce(), given="click", calibration=0.5).loss(torch.zeros(1), {"y": torch.zeros(1)})


# --- losses that do not fit


@pytest.mark.parametrize(
    ("cls", "label", "loss", "words"),
    [
        (Binary, YES, Bpr(), "cannot learn by the loss Bpr: it compares"),
        (Regression, NUMBER, WeightedLogistic(), "it learns odds"),
        (Regression, NUMBER, Quantile(), "several quantiles"),
        (Classification, STARS, OrdinalLoss(), "ordered classes"),
        (Ordinal, STARS, CrossEntropy(), "cannot learn by the loss CrossEntropy"),
        (Quantiles, NUMBER, Absolute(), "cannot learn by the loss Absolute"),
        (Recommendation, YES, Absolute(), "Absolute is a loss for number"),
        (Classification, STARS, CrossEntropy(class_weights=[1.0, 2.0]), "should be 4, one for each"),
    ],
)
def test_a_loss_of_another_form_is_refused(cls: type[Task], label: Label, loss: Loss, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        task(cls, label, loss)


def test_a_ranking_may_learn_by_lists() -> None:
    logits = torch.tensor([[2.0, 0.0, 1.0]])
    recommend = task(Recommendation, YES, Bpr())
    loss = recommend.loss(logits, {"y": torch.tensor([[1.0, 0.0, NAN]])})
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-6)
    moved = recommend.loss(logits, {"y": torch.tensor([[1.0, 0.0, NAN]]), "log_q": torch.tensor([[2.0, 0.0, 0.0]])})
    assert moved.item() == pytest.approx(math.log(2), rel=1e-6)  # the correction is of the logits


def test_the_plain_squared_error_still_fits_what_it_did() -> None:
    for cls, label in ((Binary, YES), (Regression, NUMBER), (Recommendation, YES), (WatchTime, NUMBER)):
        assert task(cls, label, Squared()).criterion.form == "one"


# --- the unit of a number


@pytest.mark.parametrize(
    ("cls", "loss"), [(Regression, Squared()), (Regression, Absolute()), (Quantiles, Quantile())], ids=str
)
@pytest.mark.parametrize("unit", [1e6, 1e-4, 1e-20])
def test_a_number_learns_the_same_in_every_unit(cls: type[Any], loss: Loss, unit: float) -> None:
    """The loss and every step are the same; what is predicted is in the label's unit."""
    draws = torch.Generator().manual_seed(0)
    z, label = torch.randn(50, 2, generator=draws), 3 + torch.randn(50, generator=draws)
    found = []
    for scale in (1.0, unit):
        y = label * scale
        torch.manual_seed(0)
        own = task(cls, NUMBER, loss, prior=prior_of(NUMBER, y), spread=spread_of(NUMBER, y))
        value = own.loss(own(z), {"y": y})
        value.backward()
        found.append((value, own.head.z.weight.grad, own.predict(own(z)) / scale))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_loss_with_a_unit_of_its_own_sees_the_label_as_it_is() -> None:
    y = torch.tensor([100.0, 300.0])
    own = silent(task(Regression, NUMBER, Huber(delta=10.0), prior=prior_of(NUMBER, y), spread=spread_of(NUMBER, y)))
    torch.testing.assert_close(own.predict(own(torch.zeros(2, 2))), torch.tensor([200.0, 200.0]))
    assert own.loss(own(torch.zeros(2, 2)), {"y": y}).item() == pytest.approx(10 * (100 - 5))


def test_the_spread_of_what_does_not_differ_is_1() -> None:
    assert [float(spread_of(NUMBER, torch.tensor(values))) for values in ([], [NAN], [2.0], [2.0, 2.0])] == [1.0] * 4
    assert float(spread_of(YES, torch.tensor([0.0, 1.0]))) == 1
    assert float(spread_of(NUMBER, torch.tensor([1.0, 3.0, NAN]))) == pytest.approx(2**0.5)
