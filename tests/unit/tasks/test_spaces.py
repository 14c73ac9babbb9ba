"""Loss, metrics and units are of the rows in a task's space, each loss with its row's weight."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from graftrec.data.schema import Label
from graftrec.models.heads.linear import Linear
from graftrec.tasks.base import within
from graftrec.tasks.binary import Binary
from graftrec.tasks.classification import Classification
from graftrec.tasks.losses.bce import Bce
from graftrec.tasks.losses.cross_entropy import CrossEntropy
from graftrec.tasks.losses.squared import Squared
from graftrec.tasks.multi_label import MultiLabel
from graftrec.tasks.regression import Regression
from graftrec.tasks.rows import COHORTS, RowTask, cohort_of

NAN = math.nan
SPACE = torch.tensor([1.0, 0.0, 1.0, NAN, 1.0])
CASES = [
    (Binary, Label("y", "binary"), Bce(), torch.randn(5, generator=torch.Generator().manual_seed(0)),
     torch.tensor([1.0, 1.0, 0.0, 1.0, NAN])),
    (Regression, Label("y", "number"), Squared(), torch.tensor([0.5, 9.0, 3.0, 7.0, 2.0]),
     torch.tensor([1.0, 1.0, -2.0, 1.0, NAN])),
    (Classification, Label("y", "category", 3), CrossEntropy(), torch.eye(3)[[0, 1, 1, 2, 0]] * 2,
     torch.tensor([0, 1, 2, 2, -1])),
]  # fmt: skip
IDS = [case[0].__name__ for case in CASES]


def task(cls: type[RowTask], label: Label, loss: Any, **settings: Any) -> RowTask:
    return cls(Linear(2, classes=label.classes), loss, "s", "y", label, **settings)


@pytest.mark.parametrize(("cls", "label", "loss", "logits", "answers"), CASES, ids=IDS)
class TestSpace:
    def test_the_loss_is_of_the_rows_inside(
        self, cls: type[RowTask], label: Label, loss: Any, logits: Tensor, answers: Tensor
    ) -> None:
        inside, logits = [0, 2, 4], logits.clone().requires_grad_(True)
        found = task(cls, label, loss, space="seen").loss(logits, {"y": answers, "seen": SPACE})
        alone = task(cls, label, loss).loss(logits[inside], {"y": answers[inside]})
        torch.testing.assert_close(found, alone)
        (gradient,) = torch.autograd.grad(found, logits)
        assert gradient[[0, 2]].any()
        assert not gradient[[1, 3, 4]].any()

    def test_nobody_inside_is_an_exact_zero(
        self, cls: type[RowTask], label: Label, loss: Any, logits: Tensor, answers: Tensor
    ) -> None:
        logits = logits.clone().requires_grad_(True)
        zero = task(cls, label, loss, space="seen").loss(logits, {"y": answers, "seen": torch.zeros(5)})
        assert zero == 0
        assert not torch.autograd.grad(zero, logits)[0].any()

    def test_metrics_and_units_are_of_the_rows_inside(
        self, cls: type[RowTask], label: Label, loss: Any, logits: Tensor, answers: Tensor
    ) -> None:
        inside = [0, 2, 4]
        whole, alone = task(cls, label, loss, space="seen"), task(cls, label, loss)
        whole.update(logits, {"y": answers, "seen": SPACE})
        alone.update(logits[inside], {"y": answers[inside]})
        assert whole.compute() == alone.compute()
        assert set(whole.units()) == set(alone.units())
        for name, values in whole.units().items():
            torch.testing.assert_close(values[inside], alone.units()[name], equal_nan=True)
            assert values[[1, 3]].isnan().all()

    def test_a_loss_weighs_what_its_row_says(
        self, cls: type[RowTask], label: Label, loss: Any, logits: Tensor, answers: Tensor
    ) -> None:
        own = torch.tensor([2.0, 1.0, 0.5, 3.0, 1.0])
        dataset = torch.tensor([1.0, 0.0, 4.0, NAN, 1.0])
        batch = {"y": answers, "value": own, "weight": dataset}
        found = task(cls, label, loss, row_weight="value").loss(logits, batch)
        each = [task(cls, label, loss).loss(logits[[row]], {"y": answers[[row]]}) for row in range(5)]
        expected = sum(each[row] * own[row] * dataset[row].nan_to_num(0.0) for row in range(5)) / 4  # known labels
        torch.testing.assert_close(found, torch.as_tensor(expected))


def test_a_space_of_rows_or_of_candidates() -> None:
    label = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    rows = within(label, torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(rows, torch.tensor([[1.0, 0.0], [NAN, NAN]]), equal_nan=True)
    cells = within(label, torch.tensor([[1.0, 0.0], [NAN, 1.0]]))
    torch.testing.assert_close(cells, torch.tensor([[1.0, NAN], [NAN, 1.0]]), equal_nan=True)
    assert within(torch.tensor([2, 0]), torch.tensor([0.0, 1.0])).tolist() == [-1, 0]


def test_users_make_groups() -> None:
    """A user of both classes counts, with all of its rows; rows of candidates have their row's user."""
    given = task(Binary, Label("y", "binary"), Bce())
    logits, answers = torch.tensor([1.0, 2.0, 3.0, 0.0]), torch.tensor([1.0, 0.0, 1.0, 1.0])
    given.update(logits, {"y": answers, "user": torch.tensor([7, 7, 7, 3])})
    found = given.compute()
    assert found["gauc"].value == pytest.approx(0.5)
    assert found["gauc_coverage"].value == pytest.approx(0.75)
    given.update(logits.view(2, 2), {"y": answers.view(2, 2), "user": torch.tensor([7, 3])})
    assert given.compute()["gauc"].value == 0.0  # user 7: 1 against 2; user 3 has one class
    given.update(logits, {"y": answers})
    assert "gauc" not in given.compute()


def test_values_have_their_users_and_cohorts_where_rows_have_candidates() -> None:
    """A row with candidates is one for each; a process may have no row of a batch at all."""
    given = task(Binary, Label("y", "binary"), Bce())
    logits, answers = torch.tensor([[1.0, 2.0], [0.0, 3.0]]), torch.tensor([[1.0, 0.0], [NAN, 1.0]])
    batch = {"y": answers, "user": torch.tensor([7, 3]), "cold_user": torch.tensor([False, True])}
    for rows in (slice(0, 0), slice(0, 2), slice(2, 2)):
        given.update(logits[rows], {name: values[rows] for name, values in batch.items()})
    given.compute()
    units = given.units()
    assert units["user"].tolist() == [7, 7, 3, 3]
    assert units["accuracy"].isnan().tolist() == [False, False, True, False]
    assert units["accuracy/cold_user"].isnan().tolist() == [True, True, True, False]


def test_several_labels_of_a_row_have_one_user() -> None:
    given = MultiLabel(Linear(2, classes=2), Bce(), "s", ["a", "b"], Label("a, b", "binary", 2))
    batch = {"a": torch.tensor([1.0, NAN, 0.0]), "b": torch.tensor([NAN, NAN, 1.0]), "user": torch.tensor([7, 3, 0])}
    given.update(torch.tensor([[2.0, 9.0], [9.0, 9.0], [-1.0, -1.0]]), batch)
    found, units = given.compute(), given.units()
    assert units["user"].tolist() == [7, 3, 0]
    # a is right in rows 1 and 3, b is wrong in row 3: 2 of 3 labels, of which row 1 has one and row 3 two
    assert found["accuracy"].value == pytest.approx(2 / 3)
    assert units["accuracy"][[0, 2]].tolist() == pytest.approx([2 / 3 + (1 - 2 / 3) / 1.5, 2 / 3 + (1 - 4 / 3) / 1.5])
    assert units["auc/a"].isnan().tolist() == [False, True, False]
    assert units["auc"].isnan().tolist() == [False, True, False]
    assert units["auc/b"].isnan().all()


@pytest.mark.parametrize(
    ("cold", "expected"),
    [
        ({"cold_user": [0, 1, 0, 1], "cold_item": [0, 0, 1, 1]}, COHORTS),
        ({"cold_item": [0, 0, 1, 1], "cold_user": [0, 1, 0, 1]}, COHORTS),
        ({"cold_item": [0, 1, 0, 1]}, ("warm", "cold_item", "warm", "cold_item")),
        ({"cold_user": [0, 1, 0, 1]}, ("warm", "cold_user", "warm", "cold_user")),
    ],
)
def test_what_is_cold_goes_by_its_name(cold: dict[str, list[int]], expected: tuple[str, ...]) -> None:
    """Of a table with items and no users what is new are items, whichever column stands first."""
    found = cohort_of({name: torch.tensor(values).bool() for name, values in cold.items()})
    assert found is not None
    assert [COHORTS[number] for number in found.tolist()] == list(expected)
    assert cohort_of({"user": torch.ones(4)}) is None
