"""The paired difference of two models: what it says of equal arms, of clear ones, and of too few users."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats

from graftrec.evaluation.statistics import intervals
from graftrec.evaluation.statistics.intervals import (
    FEWEST_SEEDS,
    Difference,
    by_user,
    holm,
    mean_of_differences,
    paired_difference,
    t_quantile,
    t_two_sided,
    verdict,
)

Array = npt.NDArray[np.float64]
TRIALS, USERS = 2000, 200
MOST = 0.05 + 2 * math.sqrt(0.05 * 0.95 / TRIALS)  # of so many simulations, 5 % and two standard errors
RATIOS = (0.0, 1.0, 2.5)


@pytest.fixture
def only_p(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the interval out, which takes most of the time: a verdict is made of p alone."""
    monkeypatch.setattr(intervals, "_quantile", lambda *_: 1.0)


def of_zero(values: npt.ArrayLike, users: Array | None = None) -> Difference:
    return paired_difference(values, np.zeros_like(values), users)


def share_of_verdicts(trial: Callable[[np.random.Generator], Difference], *seed: float) -> float:
    random = np.random.default_rng([round(100 * part) for part in seed])
    return sum(trial(random).p < 0.05 for _ in range(TRIALS)) / TRIALS


def equal_arms(random: np.random.Generator, seeds: int, ratio: float, stable: float) -> Array:
    """Differences (S, n) of arms that are equal on average: of the users as they are (``stable``), of each user with
    each seed, and luck that moves all users of a seed, ``ratio`` times as large as the users' error of the mean.
    """
    users = stable * random.normal(size=USERS)
    error = math.sqrt((stable**2 + 1 / seeds) / USERS)
    luck = ratio * error * math.sqrt(seeds) * random.normal(size=(seeds, 1))
    return users + random.normal(size=(seeds, USERS)) + luck


@pytest.mark.parametrize("degrees", [1.0, 1.7, 2.0, 4.3, 30.0, 2500.0, 1e5])
def test_student_t_agrees_with_scipy(degrees: float) -> None:
    for t in (0.0, 1e-3, 0.5, 1.0, 1.96, 5.0, 30.0):
        assert t_two_sided(t, degrees) == pytest.approx(2 * scipy.stats.t.sf(t, degrees), rel=1e-7, abs=1e-300)
    for q in (0.6, 0.9, 0.975, 0.9995):
        assert t_quantile(q, degrees) == pytest.approx(scipy.stats.t.ppf(q, degrees), rel=1e-8)


@pytest.mark.parametrize("stable", [0.0, 1.0])
@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("seeds", [3, 5])
def test_equal_arms_get_a_false_verdict_in_at_most_5_percent(
    seeds: int, ratio: float, stable: float, only_p: None
) -> None:
    assert seeds >= FEWEST_SEEDS
    found = share_of_verdicts(lambda random: of_zero(equal_arms(random, seeds, ratio, stable)), seeds, ratio, stable)
    assert found <= MOST


@pytest.mark.parametrize("stable", [0.0, 1.0])
def test_two_seeds_would_give_more(stable: float, only_p: None) -> None:
    """Why `FEWEST_SEEDS` is not 2."""
    found = share_of_verdicts(lambda random: of_zero(equal_arms(random, FEWEST_SEEDS - 1, 4.0, stable)), stable)
    assert found > 0.055


@pytest.mark.parametrize("seeds", [1, 3])
def test_rows_of_a_user_are_no_evidence_of_their_own(seeds: int, only_p: None) -> None:
    """Users with 1 to 200 rows, whose rows have the user's effect in common."""
    counts = np.unique(np.geomspace(1, 200, 60).astype(int)).repeat(2)
    owners = np.repeat(np.arange(1, len(counts) + 1), counts)

    def rows(random: np.random.Generator) -> Array:
        effect = random.normal(size=len(counts))[owners - 1]
        return effect + random.normal(size=(seeds, len(owners)))

    assert share_of_verdicts(lambda random: of_zero(rows(random), owners), seeds) <= MOST
    assert share_of_verdicts(lambda random: of_zero(rows(random)), seeds) > 0.5  # as if each row were a user


def test_a_few_users_who_differ_are_counted_as_few(only_p: None) -> None:
    differing = np.where(np.arange(500) < 4, 1.0, 0.0)
    for values in (differing, np.tile(differing, (3, 1))):
        found = of_zero(values)
        assert found.delta / found.error > 1.96  # enough, had each of the 500 counted
        assert found.p > 0.05
    assert of_zero(np.where(np.arange(500) < 40, 1.0, 0.0)).p < 1e-6

    def sparse(random: np.random.Generator) -> Difference:
        return of_zero((random.random((3, 500)) < 0.008) * random.choice([-1.0, 1.0], (3, 500)))

    assert share_of_verdicts(sparse, 0) <= MOST


@pytest.mark.parametrize("n", [2, 7, 300])
def test_one_seed_is_students_t_of_one_sample(n: int) -> None:
    values = np.random.default_rng(n).uniform(-1, 1.2, size=n)  # flat: no excess kurtosis
    found, wanted = of_zero(values), scipy.stats.ttest_1samp(values, 0)
    assert (found.delta, found.n, found.seeds) == (pytest.approx(values.mean()), n, 1)
    assert found.p == pytest.approx(wanted.pvalue, rel=1e-7)
    assert (found.low, found.high) == pytest.approx(tuple(wanted.confidence_interval()))
    assert of_zero(values[None]) == found


def test_several_seeds_by_hand() -> None:
    values = np.array([[1.0, 2.0, 6.0], [2.0, 4.0, 3.0]])
    users, seeds = np.var([1.5, 3.0, 4.5], ddof=1) / 3, np.var([3.0, 3.0], ddof=1) / 2
    rest = values - values.mean(0) - values.mean(1)[:, None] + 3
    assert users + seeds - (rest**2).sum() / (2 * 1) / 6 < users
    assert of_zero(values).error == pytest.approx(math.sqrt(users))  # never below either level's own
    luck = of_zero([[1.0, 2.0, 3.0], [6.0, 5.0, 4.0]])
    assert (luck.error, luck.seeds_share) == (pytest.approx(np.std([2, 5], ddof=1) / math.sqrt(2)), 1.0)
    assert luck.p == pytest.approx(2 * scipy.stats.t.sf(3.5 / luck.error, 1))
    values = np.array([[1.0, 2.0, 3.0], [2.0, 5.0, 6.0]])
    users, seeds = np.var([1.5, 3.5, 4.5], ddof=1) / 3, np.var([2.0, 13 / 3], ddof=1) / 2
    rest = values - values.mean(0) - values.mean(1)[:, None] + values.mean()
    variance = users + seeds - (rest**2).sum() / (2 * 1) / 6
    found, share = of_zero(values), seeds / variance
    assert (found.n, found.seeds, found.error) == (3, 2, pytest.approx(math.sqrt(variance)))
    assert (found.seeds_share, found.degrees) == (pytest.approx(share), pytest.approx(2))  # 3 - 1, no kurtosis
    t = values.mean() / math.sqrt(variance)
    law = [2 * scipy.stats.t.sf(t, degrees) for degrees in (2, 1)]
    assert found.p == pytest.approx((1 - share) * law[0] + share * law[1])


def test_excess_kurtosis_takes_degrees_of_freedom() -> None:
    values = np.random.default_rng(0).exponential(size=100) ** 2
    found = of_zero(values)
    excess = scipy.stats.kurtosis(values)
    assert excess > 5
    assert found.degrees == pytest.approx(2 / (2 / 99 + excess / 100))
    assert found.p == pytest.approx(2 * scipy.stats.t.sf(found.delta / found.error, found.degrees))


def test_a_large_effect_survives_the_correction_of_a_thousand_cells() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(5, 1)) + 0.1 * random.normal(size=(5, 400))
    found = of_zero(100 * values[:, :1].std(ddof=1) + values)
    assert found.p < 1e-6
    assert holm([found.p, *[0.5] * 999])[0] < 0.05
    assert of_zero(np.ones((5, 400)) + 1e-9 * values).p > 0  # never 0, however far


@pytest.mark.parametrize("seeds", [1, 3, 5])
@pytest.mark.parametrize("luck", [0.0, 1.0])
def test_the_interval_leaves_0_out_exactly_where_p_is_below_5_percent(seeds: int, luck: float) -> None:
    random = np.random.default_rng([seeds, int(luck)])
    values = random.standard_t(4, size=(seeds, 60)) + luck * random.normal(size=(seeds, 1))
    values -= values.mean()
    half = of_zero(values).high
    for factor, inside in ((0.0, True), (1 - 1e-6, True), (1 + 1e-6, False), (3.0, False)):
        for side in (1, -1):
            found = of_zero(side * (values + factor * half))
            assert (found.low <= 0 <= found.high) is inside
            assert (found.p >= 0.05) is inside
    assert of_zero(values + (1 + 1e-6) * half).p == pytest.approx(0.05, rel=1e-4)


def test_p_of_another_difference_is_that_of_values_so_much_apart() -> None:
    values = np.random.default_rng(0).normal(size=(3, 50))
    found = of_zero(values)
    assert found.p_of(found.delta) == found.p
    assert found.p_of(found.delta - 0.3) == pytest.approx(of_zero(values - 0.3).p)
    assert of_zero(np.ones(1)).p_of(1.0) == 1.0


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_clear_difference_is_found_and_has_a_direction(seeds: int) -> None:
    random = np.random.default_rng(0)
    base = random.random((seeds, 400))
    better = base + 0.1 + 0.05 * random.normal(size=(seeds, 400))
    up, down = paired_difference(better, base), paired_difference(base, better)
    assert (verdict(up.delta, up.p), verdict(down.delta, down.p)) == ("helps", "hurts")
    assert up.low < up.delta < up.high
    assert (up.delta, up.p) == pytest.approx((-down.delta, down.p))
    assert 0 < up.p < 0.01


@pytest.mark.parametrize("family", [1, 20])
def test_the_detectable_difference_of_one_seed_by_formula(family: int) -> None:
    found = of_zero(np.random.default_rng(0).uniform(-1, 1, 40))
    quantiles = scipy.stats.t.ppf(1 - 0.025 / family, 39), scipy.stats.t.ppf(0.8, 39)
    assert found.detectable(family) == pytest.approx(sum(quantiles) * found.error)
    assert found.detectable(family, power=0.9) > found.detectable(family)


@pytest.mark.parametrize(("seeds", "luck", "family"), [(1, 0.0, 1), (5, 0.2, 1), (5, 0.2, 12)])
def test_the_detectable_difference_is_found_in_about_80_percent(seeds: int, luck: float, family: int) -> None:
    random = np.random.default_rng([seeds, family])
    trials, found = 100, 0
    for _ in range(trials):
        noise = random.normal(size=300) + luck * random.normal(size=(seeds, 1)) + random.normal(size=(seeds, 300))
        seen = of_zero(noise)
        found += holm([seen.p_of(seen.delta + seen.detectable(family)), *[1.0] * (family - 1)])[0] < 0.05
    assert 0.7 < found / trials < 0.92


def test_what_is_missing_in_one_arm_is_dropped_in_both() -> None:
    a, b = np.random.default_rng(0).random((2, 2, 50))
    owners = np.arange(50) // 2
    kept = np.arange(50) > 1
    whole, grouped = paired_difference(a[:, kept], b[:, kept]), paired_difference(a[:, kept], b[:, kept], owners[kept])
    a[0, 0], b[1, 1] = np.nan, np.nan
    assert paired_difference(a, b) == whole
    assert paired_difference(a, b, owners) == grouped
    assert paired_difference(a[0], b[1]) == paired_difference(a[:1, kept], b[1:, kept])


def test_equal_arms_and_too_few_users() -> None:
    same = np.random.default_rng(0).random((3, 50))
    for arm in (same, same[0]):
        found = paired_difference(arm, arm)
        assert (found.delta, found.low, found.high, found.p, found.error) == (0, 0, 0, 1, 0)
        assert found.detectable() == 0
    for n, said in ((2, "no evidence"), (5, "no evidence"), (6, "helps"), (2000, "helps")):
        shifted = paired_difference(np.ones((3, n)), np.zeros((3, n)))  # the sign test's p, as nothing else is known
        assert (shifted.p, verdict(shifted.delta, shifted.p)) == (max(0.5 ** (n - 1), 5e-324), said)
        assert (shifted.low, shifted.high) == ((1.0, 1.0) if said == "helps" else (-math.inf, math.inf))
    none, one = paired_difference([], []), paired_difference([1.0], [0.0])
    assert np.isnan(none.delta)
    for found in (none, one, paired_difference([np.nan] * 3, [1.0] * 3)):
        assert (found.p, found.low, found.high, found.error) == (1.0, -math.inf, math.inf, math.inf)
        assert found.detectable() == math.inf
    assert (none.n, one.n, one.delta) == (0, 1, 1.0)


def test_the_interval_ends_where_the_metric_does() -> None:
    values = np.array([1.0, 1.0, 1.0, 0.1])
    free, held = (paired_difference(values, np.zeros(4), span=span) for span in (math.inf, 1.0))
    assert free.high > 1 == held.high
    assert (held.low, held.p, held.error) == (free.low, free.p, free.error)
    assert paired_difference(np.zeros(4), values, span=1.0).low == -1.0


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="shapes"):
        paired_difference([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="shapes"):
        paired_difference(np.zeros((0, 3)), np.zeros((0, 3)))
    with pytest.raises(ValueError, match="infinite"):
        paired_difference([1.0, np.inf], [1.0, 2.0])
    with pytest.raises(ValueError, match="2 users of 3 rows"):
        paired_difference([1.0] * 3, [2.0] * 3, [1, 2])


def test_rows_of_a_user_count_together() -> None:
    rows, users = np.array([[1.0, 3.0, 5.0, 2.0, 9.0]]), np.array([7, 7, 3, 0, 0])
    found = by_user(rows, users)
    mean, scale = 4.0, 4 / 5
    expected = [mean + scale * 1, mean + scale * (-3 - 1), mean - scale * 2, mean + scale * 5]  # 3, 7, nobody twice
    np.testing.assert_allclose(found, [expected])
    assert found.mean() == pytest.approx(mean)
    alone = by_user(rows, np.array([5, 4, 3, 2, 1]))
    assert alone.tolist() == [[9.0, 2.0, 5.0, 3.0, 1.0]]  # nothing to add up: in the order of the users


def test_the_order_of_rows_and_users_changes_no_digit() -> None:
    random = np.random.default_rng(0)
    values, owners = random.normal(size=(3, 200)), random.permutation(200)
    order = random.permutation(200)
    assert of_zero(values[:, order], owners[order]) == of_zero(values, owners)


def test_the_mean_of_several_targets_has_the_mean_of_their_errors() -> None:
    random = np.random.default_rng(0)
    one, other = (of_zero(random.normal(0.3, spread, size=(3, n))) for spread, n in ((1.0, 80), (3.0, 50)))
    assert mean_of_differences([one]) is one
    found = mean_of_differences([one, other])
    assert found.delta == pytest.approx((one.delta + other.delta) / 2)
    assert found.error == pytest.approx((one.error + other.error) / 2)
    assert (found.n, found.seeds) == (50, 3)
    assert found.seeds_share == max(one.seeds_share, other.seeds_share)
    assert found.degrees == min(one.degrees, other.degrees)
    twice = mean_of_differences([one, one])  # the same users' values once more are no more evidence
    assert (twice.p, twice.low, twice.high) == pytest.approx((one.p, one.low, one.high))
    assert (found.p < 0.05) is not (found.low <= 0 <= found.high)
    nobody = mean_of_differences([one, of_zero(np.ones((3, 1)))])
    assert (nobody.p, nobody.error, nobody.n) == (1.0, math.inf, 1)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.9, 0.6]) == [1.0, 1.0, 1.0]
    assert holm([]) == []
    assert holm([0.2]) == [0.2]


def test_holm_over_a_family_of_equal_arms(only_p: None) -> None:
    """One audit of 6 cells that share their twin: any false verdict in at most 5 % of audits."""
    random = np.random.default_rng(4)
    audits, false = 400, 0
    for _ in range(audits):
        twin = random.normal(size=(5, 60)) + 0.1 * random.normal(size=(5, 1))
        arms = random.normal(size=(6, 5, 60)) + 0.1 * random.normal(size=(6, 5, 1))
        false += min(holm([paired_difference(arm, twin).p for arm in arms])) < 0.05
    assert false <= audits * (0.05 + 2 * math.sqrt(0.05 * 0.95 / audits))


def test_verdicts_use_the_adjusted_p() -> None:
    cases = ((0.1, 0.04), (-0.1, 0.04), (0.1, 0.06), (math.nan, 1.0))
    assert [verdict(d, p) for d, p in cases] == ["helps", "hurts", "no evidence", "no evidence"]
