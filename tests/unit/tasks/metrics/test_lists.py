"""Coverage, novelty and popularity bias by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from graftrec.tasks.metrics.beyond_accuracy import Lists

# three users, four items of which training's users chose a half, a quarter, an eighth and none
POPULARITY = torch.tensor([0.5, 0.25, 0.125, 0.0], dtype=torch.float64)
OWN = torch.tensor([0.5, 0.25, math.nan], dtype=torch.float64)
SCORES = torch.tensor([[4.0, 3.0, 2.0, 1.0], [4.0, 1.0, 3.0, 2.0], [1.0, 2.0, 2.0, 2.0]])
ANSWERS = {"popularity": POPULARITY, "own_popularity": OWN}


def values(lists: Lists) -> dict[str, float | None]:
    return {name: value.value for name, value in lists.compute().items()}


def test_by_hand() -> None:
    """Lists of two: items 0 and 1; 0 and 2; two of 1, 2 and 3."""
    lists = Lists([2])
    lists.update(SCORES, ANSWERS)
    found = values(lists)
    # item 0 for sure, 1 and 2 for sure, 3 with two chances in three
    assert found["coverage@2"] == pytest.approx((3 + 2 / 3) / 4)
    # bits 1, 2, 3, and 3 for the item that nobody chose
    assert found["novelty@2"] == pytest.approx(((1 + 2) + (1 + 3) + 2 / 3 * (2 + 3 + 3)) / 6)
    # the third user chose nothing before
    assert found["popularity_bias@2"] == pytest.approx((0.375 + 0.3125) / 0.75 - 1)
    assert values(lists) == {}  # it starts over


def test_items_that_are_not_ranked_are_in_no_list() -> None:
    listed = torch.tensor([[False, True, True, True], [False, True, False, False], [False, False, False, False]])
    lists = Lists([2])
    lists.update(SCORES, ANSWERS | {"listed": listed})
    found = values(lists)
    assert found["coverage@2"] == pytest.approx(2 / 4)
    assert found["novelty@2"] == pytest.approx((2 + 3 + 2) / 3)
    assert found["popularity_bias@2"] == pytest.approx(((0.25 + 0.125) / 2 + 0.25) / 0.75 - 1)


def test_processes_add_up() -> None:
    whole, first, second = Lists([1, 3]), Lists([1, 3]), Lists([1, 3])
    whole.update(SCORES, ANSWERS)
    first.update(SCORES[:1], ANSWERS | {"own_popularity": OWN[:1]})
    second.update(SCORES[1:], ANSWERS | {"own_popularity": OWN[1:]})
    there: list[Any] = []
    second.compute(lambda own: there.append(own) or [own])  # type: ignore[func-returns-value]
    found = {name: value.value for name, value in first.compute(lambda own: [own, None, *there]).items()}
    assert found == pytest.approx(values(whole))
    nobody = Lists([1, 3]).compute(lambda own: [own, *there])  # a process that ranked nothing still has its part
    assert nobody["coverage@1"].value is not None


def test_what_is_undefined_says_why() -> None:
    lists = Lists([2])
    lists.update(SCORES, {"popularity": torch.zeros(4), "own_popularity": torch.full((3,), math.nan)})
    found = lists.compute()
    assert found["coverage@2"].value is not None
    assert found["novelty@2"].reason == "nobody chose an item in training, or no list has one"
    assert found["popularity_bias@2"].reason == "0 users who chose an item of training before"


def test_without_popularity_there_is_nothing_to_say() -> None:
    lists = Lists([2])
    lists.update(SCORES, {})
    assert lists.compute() == {}
