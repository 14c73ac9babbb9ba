import numpy as np
import pytest
import torch

from graftrec.evaluation.baselines import rankers, recency
from graftrec.evaluation.baselines.rankers import (
    Baseline,
    Ease,
    ItemKnn,
    Near,
    OwnFrequency,
    Past,
    Popularity,
    RecentPopularity,
    choose,
)

torch.set_num_threads(1)


def _past(rows, n_users, n_items):
    user, item, time = zip(*rows, strict=True)
    return Past(np.array(user), np.array(item), np.array(time, dtype=float), n_users, n_items)


AT, ALL3 = np.full(60, 100.0), np.arange(3)
TINY = _past([(0, 0, 0), (0, 0, 10), (0, 1, 20), (1, 1, 20), (2, 2, 30)], 3, 3)


EVERY = [Popularity(), RecentPopularity(), OwnFrequency(), ItemKnn(), Ease()]


def _settings(baseline):
    return [*baseline.grid, *baseline.further(baseline.grid[-1])]


def _random(users, items, rows, seed=0):
    generator = np.random.default_rng(seed)
    item = (items * generator.random(rows) ** 2).astype(np.int64)
    return Past(generator.integers(users, size=rows), item, generator.random(rows) * 100, users, items)


def test_popularity_counts_rows():
    np.testing.assert_array_equal(Popularity().scores(TINY, np.zeros(3), None, ALL3), [[2, 2, 1]] * 3)


@pytest.mark.parametrize(
    ("half_life", "expected"),
    [(10.0, [1 / 16 + 1 / 8, 1 / 4 + 1 / 4, 1 / 2]), (20.0, [1 / 4 + 2**-1.5, 1 / 2 + 1 / 2, 2**-0.5])],
)
def test_recent_popularity_by_hand(half_life, expected):
    found = RecentPopularity().scores(TINY, np.full(3, 40.0), half_life, ALL3)
    np.testing.assert_allclose(found, [expected] * 3, rtol=1e-6)


def test_recent_popularity_asks_each_user_as_of_a_day_of_their_own():
    """A row counts strictly after it: that of day 20 is unknown on day 20, and all users ask about the same rows."""
    found = RecentPopularity().scores(TINY, np.array([20.0, 30.0, 31.0]), 10.0, ALL3)
    last = [2**-3.1 + 2**-2.1, 2 * 2**-1.1, 2**-0.1]
    np.testing.assert_allclose(found, [[1 / 4 + 1 / 2, 0, 0], [1 / 8 + 1 / 4, 1 / 2 + 1 / 2, 0], last], rtol=1e-6)
    nothing = RecentPopularity().scores(TINY, np.array([0.0, 20.0, 20.0]), 10.0, ALL3)
    np.testing.assert_allclose(nothing, [[0, 0, 0], *[[1 / 4 + 1 / 2, 0, 0]] * 2], rtol=1e-6)


def test_what_comes_later_moves_no_recent_popularity():
    past, at = _random(20, 30, 300), np.linspace(10.0, 60.0, 20)
    early = past.time < 60.0
    cut = Past(past.user[early], past.item[early], past.time[early], 20, 30)
    for half_life in RecentPopularity.grid:
        found = [RecentPopularity().scores(rows, at, half_life, np.arange(20)) for rows in (past, cut)]
        np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("half_life", [0.5, 7.0, 1000.0])
def test_recent_popularity_in_blocks_is_the_sum_of_its_rows(monkeypatch, half_life):
    random = np.random.default_rng(0)
    time, at = 2000 * random.random(400), np.append(2000 * random.random(48), [0.0, 1999.0])
    time[:20] = at[:20]  # rows of the very moments
    past = Past(random.integers(50, size=400), random.integers(7, size=400), time, 50, 7)
    age = at[:, None] - time
    worth = np.where(age > 0, np.exp2(-np.maximum(age, 0) / half_life), 0.0)
    expected = worth @ np.eye(7)[past.item]
    whole = RecentPopularity().scores(past, at, half_life, np.arange(50))
    np.testing.assert_allclose(whole, expected, rtol=1e-5, atol=1e-30)
    monkeypatch.setattr(recency, "_CELLS", 30)  # four moments at a time
    monkeypatch.setattr(recency, "_HALVES", 20)
    np.testing.assert_allclose(
        RecentPopularity().scores(past, at, half_life, np.arange(50)), expected, rtol=1e-5, atol=1e-30
    )


def test_own_frequency_by_hand():
    at = np.full(3, 40.0)
    np.testing.assert_array_equal(OwnFrequency().scores(TINY, at, None, ALL3), [[2, 1, 0], [0, 1, 0], [0, 0, 1]])
    halves = OwnFrequency().scores(TINY, at, 10.0, ALL3)
    np.testing.assert_allclose(halves, [[1 / 16 + 1 / 8, 1 / 4, 0], [0, 1 / 4, 0], [0, 0, 1 / 2]])


def test_own_frequency_asks_each_user_as_of_a_day_of_their_own():
    found = OwnFrequency().scores(TINY, np.array([20.0, 30.0, 30.0]), 10.0, ALL3)
    np.testing.assert_allclose(found, [[1 / 4 + 1 / 2, 1, 0], [0, 1 / 2, 0], [0, 0, 1]])


@pytest.mark.parametrize(("shrink", "cosine"), [(0.0, 1 / np.sqrt(2)), (2.0, 1 / (np.sqrt(2) + 2))])
def test_item_knn_by_hand(shrink, cosine):
    found = ItemKnn().scores(TINY, AT, Near(None, shrink), ALL3)
    np.testing.assert_allclose(found, [[cosine, cosine, 0], [cosine, 0, 0], [0, 0, 0]], rtol=1e-6)


@pytest.mark.parametrize("few_meet", [False, True])
def test_item_knn_of_the_nearest_items_by_hand(few_meet):
    """Users have the items 01, 01, 02 and 123; cosines are a = 2/3 (01), b (02, 12), c (13) and d (23), all others 0.

    Item 0 is nearest to 1, then 2; 1 to 0, then 3; 2 to 3, then 0 and 1 alike, who both stay; 3 to 2, then 1.
    """
    past = _past(
        [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0), (2, 0, 0), (2, 2, 0), *((3, i, 0) for i in (1, 2, 3))], 4, 4
    )
    past.__dict__["few_meet"] = few_meet
    a, b, c, d = 2 / 3, 6**-0.5, 3**-0.5, 2**-0.5
    asked = np.array([0, 2, 3])
    one = ItemKnn().scores(past, AT, Near(1, 0.0), asked)
    np.testing.assert_allclose(one, [[a, a, 0, 0], [0, a, 0, d], [a, 0, d, d]], rtol=1e-6)
    two = ItemKnn().scores(past, AT, Near(2, 0.0), asked)
    expected = [[a, a, b + b, c], [b, a, b, d], [a + b, c, b + d, c + d]]
    np.testing.assert_allclose(two, expected, rtol=1e-6)
    every = ItemKnn().scores(past, AT, Near(None, 0.0), asked)
    np.testing.assert_array_equal(ItemKnn().scores(past, AT, Near(3, 0.0), asked), every)
    assert every[2, 1] == pytest.approx(b + c)  # of item 1 now 2 counts as well


def test_settings_of_item_knn_can_be_read():
    assert [str(Near(None, 20.0)), str(Near(50, 0.5))] == ["all neighbours, shrink 20", "50 neighbours, shrink 0.5"]
    assert {near.neighbours for near in ItemKnn().further(Near(50, 20.0))} == {50}


def test_item_knn_in_blocks_is_the_same(monkeypatch):
    past = _random(20, 30, 200)
    whole = [ItemKnn().scores(past, AT, Near(k, 2.0), np.arange(past.n_users)) for k in (None, 5)]
    for name, value in {"_NEAR": 2, "_COLUMNS": 7, "_KEPT": 10, "_CELLS": 100}.items():  # 100 / 30: three at a time
        monkeypatch.setattr(rankers, name, value)
        again = Past(past.user, past.item, past.time, past.n_users, past.n_items)
        found = [ItemKnn().scores(again, AT, Near(k, 2.0), np.arange(past.n_users)) for k in (None, 5)]
        np.testing.assert_allclose(found, whole, rtol=1e-5)


@pytest.mark.parametrize("near", [Near(None, 0.0), Near(None, 2.0), Near(1, 0.0), Near(3, 2.0), Near(500, 2.0)])
def test_item_knn_of_items_that_seldom_meet_is_the_same(near):
    generator = np.random.default_rng(0)
    past = Past(generator.integers(50, size=150), generator.integers(400, size=150), np.zeros(150), 60, 400)
    dense = Past(past.user, past.item, past.time, 60, 400)
    assert past.few_meet
    dense.__dict__["few_meet"] = False
    np.testing.assert_array_equal(past.sparse_gram.to_dense(), dense.gram)
    asked = np.array([3, 59, 0, 41])
    found = [ItemKnn().scores(each, AT, near, asked) for each in (past, dense)]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)
    assert found[0].any()


def test_ease_by_hand():
    # two users, X = [[1, 1], [1, 0]]: G = [[2 + l, 1], [1, 1 + l]] and B_ij = G_ij / G_ii off the diagonal
    past = _past([(0, 0, 0), (0, 1, 0), (1, 0, 0)], 2, 2)
    found = Ease().scores(past, AT, 3.0, np.arange(2))
    np.testing.assert_allclose(found, [[1 / 4, 1 / 5], [0, 1 / 5]], atol=1e-6)


@pytest.mark.parametrize("penalty", [1.0, 50.0, 1000.0])
@pytest.mark.parametrize("shape", [(40, 90), (90, 40)])
def test_ease_is_steck_both_ways(shape, penalty):
    past = _random(*shape, 1500)
    past = Past(past.user, past.item, past.time, shape[0] + 3, shape[1])  # of whom three have chosen nothing
    x = past.dense(np.arange(past.n_users), slice(0, past.n_items)).numpy()
    inverse = np.linalg.inv(x.T.astype(float) @ x + penalty * np.eye(shape[1]))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    for woodbury in (True, False, None):
        np.testing.assert_allclose(
            rankers._ease(past, penalty, np.arange(past.n_users), woodbury), x @ weights, atol=2e-5
        )


def test_ease_of_a_large_catalogue_models_the_popular_items(monkeypatch):
    past = _random(30, 50, 400)
    monkeypatch.setattr(rankers, "EASE_ITEMS", 20)
    found = Ease().scores(past, AT, 50.0, np.arange(30))
    popular = np.argsort(-np.bincount(past.item, minlength=50), kind="stable")[:20]
    modelled = np.zeros(50, dtype=bool)
    modelled[popular] = True
    assert np.isneginf(found[:, ~modelled]).all()
    place = np.cumsum(modelled) - 1
    few = Past(
        past.user[modelled[past.item]], place[past.item[modelled[past.item]]], past.time[modelled[past.item]], 30, 20
    )
    np.testing.assert_allclose(found[:, modelled], rankers._ease(few, 50.0, np.arange(30)), atol=1e-6)


def test_ease_of_a_large_catalogue_and_few_users_models_all_items(monkeypatch):
    past = _random(5, 50, 100)
    whole = Ease().scores(past, AT, 50.0, np.arange(5))
    monkeypatch.setattr(rankers, "EASE_ITEMS", 20)
    np.testing.assert_array_equal(Ease().scores(past, AT, 50.0, np.arange(5)), whole)
    monkeypatch.setattr(rankers, "_CELLS", 200)
    assert np.isneginf(Ease().scores(past, AT, 50.0, np.arange(5))).any()


@pytest.mark.parametrize("baseline", EVERY)
def test_scores_are_finite_also_without_a_past(baseline):
    past, at = _random(20, 30, 300), np.full(20, 100.0)
    nothing = Past(past.user[:0], past.item[:0], past.time[:0], 20, 30)
    for value in _settings(baseline):
        for rows in (past, nothing):
            found = baseline.scores(rows, at, value, np.arange(20))
            assert found.shape == (20, 30)
            assert found.dtype == np.float32
            assert np.isfinite(found).all()


def test_choose_takes_the_best_of_the_grid():
    past, at = _random(20, 30, 300), np.full(20, 100.0)
    for value in OwnFrequency.grid:
        best = OwnFrequency().scores(past, at, value, np.arange(20))
        assert (
            choose(OwnFrequency(), past, at, np.arange(20), lambda s, best=best: -float(np.abs(s - best).sum()))
            == value
        )
    assert choose(ItemKnn(), past, at, np.arange(20), lambda s: 1.0) == Near(None, 20.0)
    assert choose(Popularity(), past, at, np.arange(20), lambda s: float("nan")) is None
    with pytest.raises(ValueError, match="NaN for every value of ease"):
        choose(Ease(), past, at, np.arange(20), lambda s: float("nan"))


def test_choose_goes_on_from_the_best_of_the_grid():
    class Constant(Baseline):
        name = "constant"
        grid = (1.0, 2.0, 4.0)

        def scores(self, past, at, value, users):
            return np.full((len(users), past.n_items), value, dtype=np.float32)

        def further(self, best):
            return best - 0.25, best + 0.25

    def chosen(aim):
        return choose(Constant(), TINY, AT, ALL3, lambda scores: -abs(float(scores.mean()) - aim))

    assert [chosen(2.1), chosen(2.3), chosen(0.0), chosen(3.9)] == [2.0, 2.25, 0.75, 4.0]


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"item is outside \[0, 2\)"):
        _past([(0, 2, 0)], 1, 2)
    with pytest.raises(ValueError, match="half-life"):
        OwnFrequency().scores(TINY, AT, 0.0, ALL3)
    with pytest.raises(ValueError, match=r"half-life of 0\.0 days"):
        RecentPopularity().scores(TINY, AT, 0.0, ALL3)
    with pytest.raises(ValueError, match="0 neighbours are kept, at least 1"):
        ItemKnn().scores(TINY, AT, Near(0, 0.0), ALL3)
    with pytest.raises(ValueError, match="lambda"):
        Ease().scores(TINY, AT, None, ALL3)


@pytest.mark.parametrize("baseline", EVERY)
def test_some_users_score_as_they_do_among_all(baseline):
    past, at, few = _random(20, 30, 300), np.full(20, 100.0), np.array([3, 4, 11])
    for value in _settings(baseline):
        everybody = baseline.scores(past, at, value, np.arange(20))
        np.testing.assert_allclose(baseline.scores(past, at, value, few), everybody[few], rtol=1e-5, atol=1e-6)
