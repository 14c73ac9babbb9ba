"""Tasks by hand on small numbers: losses, priors, and metrics of users and rows."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graftrec.data.schema import Label
from graftrec.models.heads.base import Head
from graftrec.models.heads.linear import Linear
from graftrec.tasks import base
from graftrec.tasks.base import Task, prior_of
from graftrec.tasks.binary import Binary
from graftrec.tasks.classification import Classification
from graftrec.tasks.losses.base import Loss
from graftrec.tasks.losses.bce import Bce
from graftrec.tasks.losses.cross_entropy import CrossEntropy
from graftrec.tasks.losses.squared import Squared
from graftrec.tasks.metrics.pointwise import Value
from graftrec.tasks.recommendation import Recommendation
from graftrec.tasks.regression import Regression

NAN = math.nan
YES, NUMBER, KIND = Label("y", "binary"), Label("y", "number"), Label("y", "category", 3)


def fitting(label: Label) -> Loss:
    return CrossEntropy() if label.kind == "category" else Squared()


def task(cls: type[Any], label: Label, loss: Loss | None = None, **settings: Any) -> Any:
    return cls(Linear(2, classes=label.classes), loss or fitting(label), "s", "y", label, **settings)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# --- losses

LOSSES = [
    (Binary, YES, Bce(), [0.0, 2.0, 9.0], [1.0, 0.0, NAN], (math.log(2) - math.log(1 - sigmoid(2))) / 2),
    (Binary, YES, Squared(), [0.0, 2.0, 9.0], [1.0, 0.0, NAN], (0.25 + sigmoid(2) ** 2) / 2),
    (Regression, NUMBER, Squared(), [0.5, 3.0, 9.0], [1.0, 1.0, NAN], (0.25 + 4) / 2),
    (Regression, YES, Squared(), [0.5, 3.0, 9.0], [1.0, 1.0, NAN], (0.25 + 4) / 2),
    (
        Classification,
        KIND,
        CrossEntropy(),
        [[0.0, 0.0, 0.0], [0.0, 0.0, math.log(2)], [9.0, 0.0, 0.0]],
        [1, 2, -1],
        (math.log(3) - math.log(2 / 4)) / 2,
    ),
    (
        Recommendation,
        YES,
        Squared(),
        [[0.0, 2.0], [9.0, -1.0]],
        [[1.0, 0.0], [NAN, 1.0]],
        (0.25 + sigmoid(2) ** 2 + (1 - sigmoid(-1)) ** 2) / 3,
    ),
]


@pytest.mark.parametrize(("cls", "label", "loss", "logits", "answers", "expected"), LOSSES)
class TestLoss:
    def test_masked_mean_by_hand(
        self, cls: type[Task], label: Label, loss: Loss, logits: list[Any], answers: list[Any], expected: float
    ) -> None:
        found = task(cls, label, loss).loss(torch.tensor(logits), {"y": torch.tensor(answers)})
        assert found.item() == pytest.approx(expected, rel=1e-6)

    def test_no_label_is_an_exact_zero_with_a_graph(
        self, cls: type[Task], label: Label, loss: Loss, logits: list[Any], answers: list[Any], expected: float
    ) -> None:
        given = torch.tensor(logits, requires_grad=True)
        missing = torch.full_like(torch.tensor(answers), -1 if label.kind == "category" else NAN)
        zero = task(cls, label, loss).loss(given, {"y": missing})
        assert zero.item() == 0
        zero.backward()
        assert given.grad is not None
        assert torch.equal(given.grad, torch.zeros_like(given))

    def test_a_head_learns_nothing_from_no_label(
        self, cls: type[Task], label: Label, loss: Loss, logits: list[Any], answers: list[Any], expected: float
    ) -> None:
        given = task(cls, label, loss)
        z = torch.ones(len(logits), 2)
        missing = torch.full_like(torch.tensor(answers), -1 if label.kind == "category" else NAN)
        candidate = torch.ones(len(logits), len(logits[0]), 2) if cls is Recommendation else None
        if candidate is not None:
            given.head = Linear(2, item_dim=2)
        given.loss(given(z, candidate), {"y": missing}).backward()
        gradients = [parameter.grad for parameter in given.head.parameters()]
        assert gradients
        assert all(g is not None and not g.any() for g in gradients)


def test_the_weight_is_positive_and_kept_out_of_the_loss() -> None:
    """The module multiplies it: a loss that is logged is the loss."""
    batch, logits = {"y": torch.tensor([1.0])}, torch.tensor([0.0])
    assert task(Binary, YES, Bce(), weight=5.0).loss(logits, batch) == task(Binary, YES, Bce()).loss(logits, batch)
    with pytest.raises(ValueError, match="weight should be positive"):
        task(Binary, YES, weight=0.0)


# --- priors


def test_prior_of_a_category_is_its_smoothed_shares() -> None:
    prior = prior_of(KIND, torch.tensor([0, 0, 2, -1]))
    torch.testing.assert_close(prior, torch.tensor([3 / 6, 1 / 6, 2 / 6]).log())
    torch.testing.assert_close(prior.softmax(-1), torch.tensor([3 / 6, 1 / 6, 2 / 6]))
    torch.testing.assert_close(prior_of(KIND, torch.tensor([-1, -1])).softmax(-1), torch.full((3,), 1 / 3))


def test_prior_of_a_binary_label_is_a_logit() -> None:
    prior = prior_of(YES, torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, NAN]]))
    assert prior.item() == pytest.approx(math.log((2 / 7) / (5 / 7)), rel=1e-6)
    assert prior_of(YES, torch.tensor([NAN, NAN])).item() == 0
    assert prior_of(YES, torch.ones(3)).isfinite()


def test_prior_of_a_number_is_its_mean() -> None:
    assert prior_of(NUMBER, torch.tensor([1.0, NAN, 4.0])).item() == 2.5
    assert prior_of(NUMBER, torch.tensor([NAN])).item() == 0


@pytest.mark.parametrize(
    ("cls", "label", "answers"),
    [
        (Binary, YES, torch.tensor([1.0, 0.0, 0.0, NAN])),
        (Regression, NUMBER, torch.tensor([1.0, 5.0, NAN])),
        (Classification, KIND, torch.tensor([2, 2, 1, -1])),
    ],
)
def test_a_silent_head_predicts_the_prior(cls: type[Task], label: Label, answers: Tensor) -> None:
    prior = prior_of(label, answers)
    given = cls(Silent(label), fitting(label), "s", "y", label, prior=prior)
    expected = {"binary": torch.tensor(2 / 5), "number": torch.tensor(3.0), "category": torch.tensor([1, 2, 3]) / 6}
    torch.testing.assert_close(given.predict(given(torch.ones(1, 2)))[0], expected[label.kind])
    assert "prior" in given.state_dict()  # a checkpoint carries it


class Silent(Head):
    """Says 0 whatever comes in."""

    def __init__(self, label: Label) -> None:
        super().__init__()
        self.shape = (label.classes,) if label.kind == "category" else ()
        self.nothing = nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor, candidate: Tensor | None = None, cross: Tensor | None = None) -> Tensor:
        return self.nothing * torch.ones(len(z), *self.shape)


# --- rankings

LOGITS = torch.tensor(
    [
        [4.0, 3.0, 2.0, 1.0],  # user 7: order 0 1 2 3
        [1.0, 2.0, 3.0, 4.0],  # user 3: order 3 2 1 0
        [5.0, 1.0, 4.0, 0.0],  # user 5: nothing relevant
        [0.0, 0.0, 0.0, -2.0],  # user 9: three items tied
    ]
)
BATCH = {
    "query": torch.tensor([7, 3, 5, 9]),
    "relevant": torch.tensor([[0, 1, 0, 1], [1, 0, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]], dtype=torch.bool),
    "fresh": torch.tensor([[1, 0, 1, 1], [1, 1, 0, 0], [1, 1, 1, 1], [0, 1, 1, 1]], dtype=torch.bool),
}


def dcg(*ranks: int) -> float:
    return sum(1 / math.log2(rank + 1) for rank in ranks)


# user: metric@2 by hand. User 7: hits at ranks 2 and 4. User 3: at 1 and 4. User 9: one hit among three tied items.
BY_USER = {
    "ndcg@2": {3: dcg(1) / dcg(1, 2), 5: NAN, 7: dcg(2) / dcg(1, 2), 9: dcg(1, 2) / 3},
    "recall@2": {3: 0.5, 5: NAN, 7: 0.5, 9: 2 / 3},
    "hr@2": {3: 1.0, 5: NAN, 7: 1.0, 9: 2 / 3},
    "mrr@2": {3: 1.0, 5: NAN, 7: 0.5, 9: (1 + 1 / 2) / 3},
    "map@2": {3: 1 / 2, 5: NAN, 7: (1 / 2) / 2, 9: (1 + 1 / 2) / 3},
    # fresh only: user 7 ranks 0 2 3 and item 3 is relevant; user 3 ranks 1 0, and item 0 is; user 9's item is not fresh
    "ndcg@2/first_time": {3: dcg(2) / dcg(1), 5: NAN, 7: 0.0, 9: NAN},
    "recall@2/first_time": {3: 1.0, 5: NAN, 7: 0.0, 9: NAN},
    "hr@2/first_time": {3: 1.0, 5: NAN, 7: 0.0, 9: NAN},
    "mrr@2/first_time": {3: 0.5, 5: NAN, 7: 0.0, 9: NAN},
    "map@2/first_time": {3: 0.5, 5: NAN, 7: 0.0, 9: NAN},
}


def ranked(parts: list[Tensor]) -> tuple[Recommendation, dict[str, Value]]:
    recommend: Recommendation = task(Recommendation, YES, k=2)
    for part in parts:
        recommend.update(LOGITS[part], {name: values[part] for name, values in BATCH.items()})
    return recommend, recommend.compute()


def test_a_ranking_is_the_mean_over_users_by_hand() -> None:
    recommend, metrics = ranked([torch.arange(4)])
    assert set(metrics) == {"gauc", "gauc/first_time", *BY_USER}
    assert recommend.main == "ndcg@2"
    for name, users in BY_USER.items():
        kept = [value for value in users.values() if not math.isnan(value)]
        assert metrics[name].value == pytest.approx(sum(kept) / len(kept), abs=1e-12), name


def test_gauc_is_over_the_pairs_of_each_user() -> None:
    recommend, metrics = ranked([torch.arange(4)])
    users = []
    for score, hit in zip(LOGITS.tolist(), BATCH["relevant"].tolist(), strict=True):
        right = [a for a, is_hit in zip(score, hit, strict=True) if is_hit]
        wrong = [b for b, is_hit in zip(score, hit, strict=True) if not is_hit]
        pairs = [(a > b) + 0.5 * (a == b) for a in right for b in wrong]
        users += [sum(pairs) / len(pairs)] if pairs else []
    assert 1 < len(users) <= 4
    assert metrics["gauc"].value == pytest.approx(sum(users) / len(users), abs=1e-12)
    assert int((~recommend.units()["gauc"].isnan()).sum()) == len(users)


def test_units_line_up_with_users() -> None:
    recommend, _ = ranked([torch.tensor([2, 0]), torch.tensor([3, 1])])
    units = recommend.units()
    assert units["user"].tolist() == [3, 5, 7, 9]
    for name, users in BY_USER.items():
        expected = torch.tensor([users[user] for user in (3, 5, 7, 9)], dtype=torch.float64)
        torch.testing.assert_close(units[name], expected, equal_nan=True)


def test_batches_of_one_are_one_big_batch() -> None:
    whole, metrics = ranked([torch.arange(4)])
    single, again = ranked([torch.tensor([row]) for row in (1, 3, 0, 2)])
    assert {k: v.value for k, v in metrics.items()} == pytest.approx({k: v.value for k, v in again.items()}, abs=1e-12)
    for name, values in whole.units().items():
        torch.testing.assert_close(values, single.units()[name], equal_nan=True)


def test_a_cohort_that_is_empty_has_a_reason() -> None:
    recommend: Recommendation = task(Recommendation, YES, k=2)
    recommend.update(LOGITS, {**BATCH, "fresh": torch.zeros(4, 4, dtype=torch.bool)})
    metrics = recommend.compute()
    assert metrics["ndcg@2/first_time"] == Value(None, "0 users with a relevant item")
    assert metrics["ndcg@2"].value is not None


def test_k_is_at_least_1() -> None:
    with pytest.raises(ValueError, match="at should be at least 1"):
        task(Recommendation, YES, at=[5, 0])
    assert task(Recommendation, YES, k=3, at=[5, 3, 5]).at == (5,)
    with pytest.raises(ValueError, match="k should be at least 1"):
        task(Recommendation, YES, k=0)


# --- rows

ROWS = [
    (Binary, YES, torch.tensor([0.2, 0.9, 0.4, 0.7, 3.0]), torch.tensor([0.0, 1.0, 1.0, NAN, 0.0])),
    (Regression, NUMBER, torch.tensor([0.5, -3.0, 9.0, 2.0]), torch.tensor([1.0, -1.0, NAN, 4.0])),
    (Classification, KIND, torch.eye(3)[[0, 1, 1, 2]] * 2, torch.tensor([0, 1, 2, -1])),
]


def evaluated(given: Task, logits: Tensor, answers: Tensor, size: int) -> dict[str, Value]:
    for low in range(0, len(logits), size):
        given.update(logits[low : low + size], {"y": answers[low : low + size]})
    return given.compute()


@pytest.mark.parametrize(("cls", "label", "logits", "answers"), ROWS)
def test_rows_one_by_one_are_one_big_batch(cls: type[Task], label: Label, logits: Tensor, answers: Tensor) -> None:
    """torchmetrics would take a batch of logits that all lie in [0, 1] for probabilities."""
    whole, single = (evaluated(task(cls, label), logits, answers, size) for size in (len(logits), 1))
    assert whole == single
    assert whole[cls.main].value is not None


def test_binary_metrics_by_hand() -> None:
    found = evaluated(task(Binary, YES), ROWS[0][2], ROWS[0][3], 5)
    p = [sigmoid(x) for x in (0.2, 0.9, 0.4, 3.0)]
    # positives 0.9 and 0.4, negatives 0.2 and 3.0: 2 of 4 pairs in order; all are above 0.5
    assert found["auc"].value == pytest.approx(0.5)
    assert found["accuracy"].value == pytest.approx(0.5)
    loss = -(math.log(1 - p[0]) + math.log(p[1]) + math.log(p[2]) + math.log(1 - p[3])) / 4
    assert found["log_loss"].value == pytest.approx(loss, rel=1e-6)


def test_regression_metrics_by_hand() -> None:
    found = evaluated(task(Regression, NUMBER), ROWS[1][2], ROWS[1][3], 4)
    assert found["rmse"].value == pytest.approx(math.sqrt((0.25 + 4 + 4) / 3))
    assert found["mae"].value == pytest.approx((0.5 + 2 + 2) / 3)
    assert found["spearman"].value == pytest.approx(1.0)


def test_classification_metrics_and_units_by_hand() -> None:
    given = task(Classification, KIND)
    found = evaluated(given, ROWS[2][2], ROWS[2][3], 4)
    assert found["accuracy"].value == pytest.approx(2 / 3)
    assert found["recall_macro"].value == pytest.approx(2 / 3)
    torch.testing.assert_close(
        given.units()["accuracy"], torch.tensor([1, 1, 0, NAN], dtype=torch.float64), equal_nan=True
    )
    given.update(ROWS[2][2][:1], {"y": ROWS[2][3][:1]})
    given.compute()
    assert given.units()["accuracy"].tolist() == [1.0]  # of the last evaluation, and of no other


def test_labels_of_candidates_are_rows() -> None:
    """Pairs come as one candidate a row, (B, 1)."""
    flat, given = task(Regression, NUMBER), task(Regression, NUMBER)
    expected = evaluated(flat, ROWS[1][2], ROWS[1][3], 4)
    assert evaluated(given, ROWS[1][2][:, None], ROWS[1][3][:, None], 2) == expected


@pytest.mark.parametrize(
    ("cls", "label", "name", "logits", "answers"),
    [
        (Binary, YES, "graftrec.tasks.binary.binary", torch.tensor([5.0, -5.0]), torch.tensor([1.0, 0.0])),
        (Classification, KIND, "graftrec.tasks.classification.classes", torch.eye(3) * 9, torch.tensor([0, 1, 2])),
    ],
)
def test_metrics_get_probabilities_never_logits(
    cls: type[Task], label: Label, name: str, logits: Tensor, answers: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []

    def watch(prob: Tensor, label: Tensor) -> dict[str, Value]:
        seen.append(prob)
        return {"auc": Value(0.5)}

    monkeypatch.setattr(name, watch)
    given = task(cls, label)
    given.update(logits, {"y": answers})
    given.compute()
    assert len(seen) == 1
    expected = logits.softmax(-1) if label.kind == "category" else logits.sigmoid()
    torch.testing.assert_close(seen[0].float().view_as(logits), expected)


# --- labels that do not fit


@pytest.mark.parametrize(
    ("cls", "label"),
    [(Binary, NUMBER), (Binary, KIND), (Recommendation, NUMBER), (Recommendation, KIND), (Regression, KIND),
     (Classification, YES), (Classification, NUMBER)],
)  # fmt: skip
def test_a_wrong_kind_of_label_is_refused(cls: type[Task], label: Label) -> None:
    with pytest.raises(ValueError, match=f"'y' is a {label.kind} label, and {cls.__name__} learns {cls.kinds[0]}"):
        task(cls, label)


@pytest.mark.parametrize(("cls", "label", "loss"), [(Binary, YES, CrossEntropy()), (Classification, KIND, Bce())])
def test_a_loss_that_does_not_fit_the_label_is_refused(cls: type[Task], label: Label, loss: Loss) -> None:
    """Else it is a RuntimeError (exit 1) at the first step, or a wrong number where shapes happen to agree."""
    with pytest.raises(ValueError, match="loss"):
        task(cls, label, loss)


def test_gathered_rows_of_one_process_are_its_own() -> None:
    found = base.gathered({"a": [torch.tensor([1.0]), torch.tensor([2.0, 3.0])], "b": []})
    assert {name: values.tolist() for name, values in found.items()} == {"a": [1, 2, 3]}
