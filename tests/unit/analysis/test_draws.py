import numpy as np
import pytest
import scipy.stats

from graftrec.analysis.draws import by_user, detectable, holm, measure, verdict


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.9, 0.6]) == [1.0, 1.0, 1.0]
    assert holm([]) == []
    assert holm([0.2]) == [0.2]


def test_verdicts_use_the_adjusted_p():
    assert [verdict(d, p) for d, p in ((0.1, 0.04), (-0.1, 0.04), (0.1, 0.06), (float("nan"), 1.0))] == [
        "helps", "hurts", "no evidence", "no evidence",
    ]  # fmt: skip


@pytest.mark.parametrize("seeds", [2, 5])
def test_minimum_detectable_by_hand(seeds):
    difference = np.random.default_rng(0).normal(size=(seeds, 40)) + np.arange(seeds)[:, None]
    users, own = difference.mean(0).var(ddof=1) / 40, difference.mean(1).var(ddof=1) / seeds
    degrees = (users + own) ** 2 / (users**2 / 39 + own**2 / (seeds - 1))
    factor = scipy.stats.t.ppf(0.975, degrees) + scipy.stats.t.ppf(0.8, degrees)
    assert detectable(difference) == pytest.approx(factor * np.sqrt(users + own))


def test_the_minimum_detectable_difference_is_found_in_about_80_percent():
    generator = np.random.default_rng(1)
    trials = [
        generator.normal(size=(1, 300)) + 0.2 * generator.normal(size=(5, 1)) + generator.normal(size=(5, 300))
        for _ in range(200)
    ]
    found = sum(each.p < 0.05 for each in measure([noise + detectable(noise) for noise in trials], draws=2000))
    assert 130 <= found <= 187


def arms(generator, kind, seeds=5, users=150):
    """Two arms without a difference: users differ, and what a seed moves is small, as large as the users', or all."""
    user = generator.exponential(size=users)
    moves, rows = {"users": (0.0, 0.3), "both": (0.08, 1.0), "seeds": (0.5, 0.3)}[kind]
    return [
        user + moves * generator.normal(size=(seeds, 1)) + rows * generator.normal(size=(seeds, users))
        for _ in range(2)
    ]


@pytest.mark.parametrize("kind", ["users", "both", "seeds"])
def test_equal_arms_get_a_false_verdict_in_at_most_5_percent(kind):
    """A/A: the interval must hold whatever varies most; 400 trials, so 5 % is 20 +- 4."""
    generator = np.random.default_rng(3)
    trials = []
    for _ in range(400):
        one, other = arms(generator, kind)
        trials.append(one - other)
    found = measure(trials, draws=2000)
    assert sum(each.p < 0.05 for each in found) <= 28
    assert sum(not each.low <= 0 <= each.high for each in found) <= 28


def test_a_percentile_bootstrap_over_few_seeds_gives_false_verdicts():
    """Why seeds are not resampled: the same A/A trials, far more than 5 % of them decided."""
    generator, false = np.random.default_rng(3), 0
    for _ in range(300):
        one, other = arms(generator, "seeds")
        means = (one - other).mean(1)
        resampled = means[generator.integers(5, size=(1000, 5))].mean(1)
        low, high = np.quantile(resampled, (0.025, 0.975))
        false += not low <= 0 <= high
    assert false > 30


def test_holm_over_a_family_of_equal_arms():
    """One audit of 6 cells that share their twin: any false verdict in at most 5 % of audits."""
    generator, trials = np.random.default_rng(4), []
    for _ in range(80):
        twin = arms(generator, "both")[0]
        trials += [arms(generator, "both")[1] - twin for _ in range(6)]
    found = measure(trials, draws=2000)
    false = sum(min(holm([cell.p for cell in found[at : at + 6]])) < 0.05 for at in range(0, len(found), 6))
    assert false <= 9


@pytest.mark.parametrize("seeds", [1, 5])
def test_clear_differences_are_found_with_their_direction(seeds):
    base = np.random.default_rng(0).random((seeds, 400))
    noise = 0.05 * np.random.default_rng(1).normal(size=(seeds, 400))
    up, down = measure([base * 0 + 0.1 + noise, -0.1 - noise])
    assert up.low < up.delta < up.high
    assert up.low > 0 > down.high
    assert up.delta == pytest.approx(-down.delta)
    assert (up.n, up.seeds) == (400, seeds)
    assert 0 < up.p < 0.001


def test_one_seed_agrees_with_the_normal_interval():
    d = np.random.default_rng(0).exponential(size=(1, 500)) - 0.9
    (found,) = measure([d], draws=10_000)
    half = 1.96 * d.std(ddof=1) / np.sqrt(500)
    assert (found.low, found.high) == pytest.approx((d.mean() - half, d.mean() + half), abs=0.08 * half)
    assert found.p == pytest.approx(scipy.stats.ttest_1samp(d[0], 0).pvalue, abs=0.02)


def test_missing_users_few_users_and_no_difference():
    d = np.random.default_rng(0).normal(size=(3, 50))
    holed = np.c_[d, np.full((3, 4), np.nan)]
    holed[1, 50:] = 0.0
    same, none, one = measure([holed, np.full((3, 54), np.nan), np.where(np.arange(54) == 0, 1.0, np.nan)[None]])
    assert (same.n, none.n, one.n) == (50, 0, 1)
    assert same.delta == pytest.approx(d.mean())
    assert (none.p, one.p, one.low) == (1.0, 1.0, -np.inf)
    (equal,) = measure([np.zeros((3, 50))])
    assert (equal.delta, equal.low, equal.high, equal.p, equal.minimum_detectable) == (0, 0, 0, 1, 0)
    with pytest.raises(ValueError, match="same users"):
        measure([np.zeros((2, 3)), np.zeros((2, 4))])


def test_rows_of_a_user_count_together():
    values, users = np.array([1.0, 3.0, 5.0, np.nan, 2.0, 9.0]), np.array([7, 7, 3, 4, 0, 0])
    names, found = by_user(values, users)
    mean = 4.0
    assert names.tolist() == [-6, -5, 3, 4, 7]
    scale = 4 / 5
    expected = [mean + scale * 5, mean - scale * 2, mean + scale * 1, np.nan, mean + scale * (-3 - 1)]
    np.testing.assert_allclose(found, expected)
    assert np.nanmean(found) == pytest.approx(mean)
