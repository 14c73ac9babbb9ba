"""Models beside baselines: which baseline is the best, and when a twin is a weak one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from graftrec.evaluation.baselines.scoring import Scored
from graftrec.evaluation.statistics.intervals import holm
from graftrec.evaluation.statistics.user_values import USER, difference_of
from graftrec.evaluation.weak_twin import beside
from graftrec.tasks.metrics.pointwise import Value

N, SEEDS, METRIC = 120, 3, "ndcg@10"
BASE = np.random.default_rng(0).uniform(0.3, 0.6, N)
OWNERS = torch.arange(1, N + 1)


def values(above: float, spread: float = 0.05, seed: int = 0, metric: str = METRIC) -> dict[str, Any]:
    """Values of users so much above the base on average, some more and some less."""
    noise = np.random.default_rng(seed).normal(0, spread, N)
    return {metric: torch.from_numpy(BASE + above + noise - noise.mean()), USER: OWNERS}


def scored(own: dict[str, Any] | None, value: float | None = None, metric: str = METRIC) -> Scored:
    """A baseline with these values per user; its metric is their mean."""
    mean = value if own is None else float(own[metric].mean())
    return Scored({metric: Value(mean)}, own or {})


def said(baselines: dict[str, Scored], metric: str = METRIC) -> dict[str, Any]:
    """The twin is at the base, the grafted arm .05 above it."""
    arms = {
        "twin": [values(0.0, 0.01, 10 + seed, metric) for seed in range(SEEDS)],
        "grafted": [values(0.05, 0.01, 20 + seed, metric) for seed in range(SEEDS)],
    }
    return beside(metric, arms, baselines)


@pytest.mark.parametrize("name", ["popularity", "own_frequency", "item_knn", "ease", "gbdt"])
def test_a_twin_clearly_below_any_baseline_is_weak(name: str) -> None:
    found = said({name: scored(values(0.02, seed=1)), "other": scored(values(-0.1, seed=2))})
    assert (found["weak"], found["best"]) == (name, name)
    assert found["value"] == pytest.approx(BASE.mean() + 0.02)
    cell = found["twin"][name]
    assert cell["delta"] == pytest.approx(-0.02)
    assert cell["high"] < 0
    assert (cell["verdict"], found["grafted"][name]["verdict"]) == ("hurts", "helps")


def test_of_several_it_is_the_one_that_is_above_by_the_most() -> None:
    found = said({"popularity": scored(values(0.02, seed=1)), "ease": scored(values(0.04, seed=2))})
    assert found["weak"] == "ease"


def test_a_baseline_that_sees_the_sources_makes_no_twin_weak() -> None:
    found = said({"ease_union": scored(values(0.1, seed=1)), "ease": scored(values(-0.1, seed=2))})
    assert (found["weak"], found["best"]) == (None, "ease_union")
    assert found["twin"]["ease_union"]["verdict"] == "hurts"  # it stands in the table all the same


def test_a_baseline_above_by_no_clear_interval_makes_no_twin_weak() -> None:
    found = said({"popularity": scored(values(0.02, spread=0.3, seed=1))})
    assert found["best"] == "popularity"
    assert found["value"] > BASE.mean() + 0.01
    cell = found["twin"]["popularity"]
    assert cell["low"] < 0 < cell["high"]
    assert found["weak"] is None
    assert said({"popularity": scored(values(-0.02, seed=1))})["weak"] is None  # clearly below the twin


def test_the_clearer_one_of_many_baselines_is_corrected_for_all_of_them() -> None:
    many = {f"b{n}": scored(values(0.0, seed=30 + n)) for n in range(40)}
    close = scored(values(0.011, seed=1))
    assert said({"close": close})["weak"] == "close"
    found = said({"close": close, **many})
    assert found["weak"] is None
    cells = found["twin"]
    assert cells["close"]["p"] < 0.05 < cells["close"]["p_holm"]
    assert [each["p_holm"] for each in cells.values()] == holm([each["p"] for each in cells.values()])


def test_of_an_error_the_smaller_one_is_better() -> None:
    found = said({"mean": scored(values(0.1, metric="rmse"), metric="rmse"),
                  "bias": scored(values(-0.02, seed=1, metric="rmse"), metric="rmse")}, "rmse")  # fmt: skip
    assert (found["best"], found["weak"]) == ("bias", "bias")
    assert found["twin"]["bias"]["verdict"] == "hurts"
    assert found["grafted"]["mean"]["verdict"] == "helps"


def test_differences_are_those_of_any_two_models() -> None:
    own = values(0.02, seed=1)
    twin = [values(0.0, 0.01, 10 + seed) for seed in range(SEEDS)]
    cell = said({"ease": scored(own)})["twin"]["ease"]
    expected = difference_of(twin, [own] * SEEDS, METRIC)
    assert (cell["delta"], cell["low"], cell["high"], cell["p"]) == (
        expected.delta, expected.low, expected.high, expected.p
    )  # fmt: skip


def test_baselines_without_values_are_shown_and_decide_nothing() -> None:
    assert said({}) == {}
    assert said({"ease": Scored({METRIC: Value(None, "a catalogue of 9 items")})}) == {}
    found = said({"ease": scored(None, 0.99), "popularity": scored(values(-0.1, seed=1))})
    assert (found["best"], found["value"], found["weak"]) == ("ease", 0.99, None)
    assert set(found["twin"]) == {"popularity"}


@pytest.mark.parametrize(("seeds", "weak"), [(1, None), (2, None), (3, "ease")])
def test_fewer_than_three_seeds_of_a_twin_make_it_neither_weak_nor_strong(seeds: int, weak: str | None) -> None:
    twin = [values(0.0, 0.01, 10 + seed) for seed in range(seeds)]
    found = beside(METRIC, {"twin": twin}, {"ease": scored(values(0.05, seed=1))})
    assert found["weak"] == weak
    assert found["twin"]["ease"]["p"] < 1e-6
