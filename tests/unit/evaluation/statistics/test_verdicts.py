"""What may be said of a family of differences, and why nothing can be said of some."""

from __future__ import annotations

import math

import numpy as np
import pytest

from graftrec.evaluation.statistics.intervals import FEWEST_SEEDS, paired_difference
from graftrec.evaluation.statistics.verdicts import Cell, decide, undefined


def cell(metric: str, p: float, delta: float = 0.1, seeds: int = 3) -> Cell:
    """A cell with this p value, whatever its difference."""
    found = paired_difference(np.random.default_rng(0).normal(delta, 1, (seeds, 40)), np.zeros((seeds, 40)))
    return Cell(metric, type(found)(**{**vars(found), "p": p, "delta": delta}))


def test_a_family_is_corrected_together() -> None:
    family = [cell("auc", p) for p in (0.01, 0.02, 0.03, 0.9)]
    decide(family)
    assert [each.found["p_holm"] for each in family] == pytest.approx([0.04, 0.06, 0.06, 0.9])
    assert [each.found["verdict"] for each in family] == ["helps", "no evidence", "no evidence", "no evidence"]
    alone = cell("auc", 0.03)
    decide([alone])
    assert alone.found["verdict"] == "helps"
    assert alone.found["minimum_detectable"] < family[0].found["minimum_detectable"]
    assert family[0].found["minimum_detectable"] == family[0].difference.detectable(4)


def test_a_smaller_error_helps() -> None:
    family = [cell("rmse", 1e-4, -0.2), cell("rmse", 1e-4, 0.2), cell("mae/cold_user", 1e-4, -0.2), cell("auc", 1e-4)]
    decide(family)
    assert [each.found["verdict"] for each in family] == ["helps", "hurts", "helps", "helps"]


def test_fewer_than_three_seeds_have_numbers_and_no_verdict() -> None:
    assert FEWEST_SEEDS == 3
    family = [cell("auc", 1e-9, seeds=seeds) for seeds in (1, 2, 3)]
    decide(family)
    assert [each.found["verdict"] for each in family] == [None, None, "helps"]
    assert all(each.found["p_holm"] == pytest.approx(3e-9) for each in family)
    assert [each.found["minimum_detectable"] is None for each in family] == [True, True, False]


def test_what_nobody_decides_has_no_verdict() -> None:
    found = cell("auc", 1e-9).found
    assert (found["p"], found["p_holm"], found["verdict"], found["minimum_detectable"]) == (1e-9, None, None, None)


def test_why_there_is_no_interval() -> None:
    def of(*values: float) -> Cell:
        made = Cell("auc", paired_difference(np.tile(values, (3, 1)), np.zeros((3, len(values)))))
        decide([made])
        return made

    nobody, one, constant, fine = of(math.nan, math.nan), of(0.5, math.nan), of(0.5, 0.5), of(0.5, 0.4)
    assert nobody.found["reason"] == "nobody has a value in both"
    assert one.found["reason"] == "1 user, of whom there is no interval"
    assert constant.found["reason"] == "the same difference for each of 2 users"
    assert "reason" not in fine.found
    assert undefined(fine.difference) == ""
    assert (nobody.found["delta"], one.found["delta"], constant.found["delta"]) == (None, 0.5, 0.5)
    for each in (nobody, one):  # what is not finite is null in JSON
        assert [each.found[name] for name in ("low", "high", "error", "minimum_detectable")] == [None] * 4
        assert (each.found["p"], each.found["verdict"]) == (1.0, "no evidence")
    assert (constant.found["low"], constant.found["p"]) == (None, 0.5)  # two users who agree by chance
    many = of(*[0.5] * 20)
    assert (many.found["low"], many.found["high"], many.found["verdict"]) == (0.5, 0.5, "helps")
