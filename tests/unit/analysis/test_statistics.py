import numpy as np
import pytest
import scipy.stats

from graftrec.analysis.statistics import paired_difference, t_quantile, t_two_sided


@pytest.mark.parametrize("degrees", [1.0, 1.7, 2.0, 4.3, 30.0, 2500.0, 1e5])
def test_student_t_agrees_with_scipy(degrees):
    for t in (0.0, 1e-3, 0.5, 1.0, 1.96, 5.0, 30.0):
        assert t_two_sided(t, degrees) == pytest.approx(2 * scipy.stats.t.sf(t, degrees), rel=1e-7, abs=1e-300)
    for q in (0.6, 0.9, 0.975, 0.9995):
        assert t_quantile(q, degrees) == pytest.approx(scipy.stats.t.ppf(q, degrees), rel=1e-8)


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_false_verdicts_of_equal_arms_are_rare(seeds):
    generator = np.random.default_rng(seeds)
    false = 0
    for trial in range(200):
        user = generator.exponential(size=120)  # the same users in every arm and seed
        arms = [
            user + 0.3 * generator.normal(size=(seeds, 1)) * (seeds > 1) + generator.normal(size=(seeds, 120))
            for _ in range(2)
        ]
        false += paired_difference(*arms, draws=1000, seed=trial).verdict != "no evidence"
    assert false <= 20


def test_one_seed_agrees_with_scipys_bootstrap():
    a, b = np.random.default_rng(0).exponential(size=(2, 300))
    found = paired_difference(a, b)
    expected = scipy.stats.bootstrap((a - b,), np.mean, n_resamples=10_000, method="percentile", rng=1)
    width = found.high - found.low
    assert found.delta == pytest.approx((a - b).mean())
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=0.05 * width)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=0.05 * width)
    assert found.p == pytest.approx(scipy.stats.ttest_rel(a, b).pvalue, abs=0.03)


def test_several_seeds_by_hand():
    difference = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]])
    users, seeds = np.var([1.5, 3.0, 4.5], ddof=1) / 3, np.var([2.0, 4.0], ddof=1) / 2
    degrees = (users + seeds) ** 2 / (users**2 / 2 + seeds**2)
    found = paired_difference(difference, np.zeros((2, 3)), level=0.9)
    half = scipy.stats.t.ppf(0.95, degrees) * np.sqrt(users + seeds)
    assert (found.delta, found.n) == (3.0, 3)
    assert (found.low, found.high) == pytest.approx((3 - half, 3 + half))
    assert found.p == pytest.approx(2 * scipy.stats.t.sf(3 / np.sqrt(users + seeds), degrees))


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_clear_difference_is_found_and_has_a_direction(seeds):
    generator = np.random.default_rng(0)
    base = generator.random((seeds, 400))
    better = base + 0.1 + 0.05 * generator.normal(size=(seeds, 400))
    up, down = paired_difference(better, base), paired_difference(base, better)
    assert (up.verdict, down.verdict) == ("helps", "hurts")
    assert up.low < up.delta < up.high
    assert (up.delta, up.p) == pytest.approx((-down.delta, down.p))
    assert 0 < up.p < 0.01


def test_users_with_nan_are_dropped_in_both():
    a, b = np.random.default_rng(0).random((2, 2, 50))
    kept = np.arange(50) > 1
    whole = paired_difference(a[:, kept], b[:, kept])
    a[0, 0], b[1, 1] = np.nan, np.nan
    assert paired_difference(a, b) == whole
    assert paired_difference(a[0], b[1]) == paired_difference(a[:1, kept], b[1:, kept])


def test_equal_arms_and_too_few_users():
    same = np.random.default_rng(0).random((3, 50))
    for arm in (same, same[0]):
        found = paired_difference(arm, arm)
        assert (found.delta, found.low, found.high, found.p, found.verdict) == (0, 0, 0, 1, "no evidence")
    shifted = paired_difference(np.ones((2, 4)), np.zeros((2, 4)))
    assert (shifted.low, shifted.verdict) == (1.0, "helps")
    none, one = paired_difference([], []), paired_difference([1.0], [0.0])
    assert np.isnan(none.delta)
    assert (none.n, none.verdict, one.n, one.delta, one.verdict) == (0, "no evidence", 1, 1.0, "no evidence")


def test_the_seed_decides_and_chunks_do_not(monkeypatch):
    a, b = np.random.default_rng(0).random((2, 64))
    first = paired_difference(a, b, draws=500)
    assert paired_difference(a, b, draws=500) == first
    assert paired_difference(a, b, draws=500, seed=1) != first
    monkeypatch.setattr("graftrec.analysis.statistics._CHUNK", 640)
    assert paired_difference(a, b, draws=500) == first


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="shapes"):
        paired_difference([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="infinite"):
        paired_difference([1.0, np.inf], [1.0, 2.0])
    with pytest.raises(ValueError, match="level"):
        paired_difference([1.0, 2.0], [1.0, 2.0], level=1.0)


def test_few_users_get_students_interval_and_rarely_a_false_verdict():
    random = np.random.default_rng(0)
    values = random.normal(size=7)
    found, wanted = paired_difference(values, np.zeros(7)), scipy.stats.ttest_1samp(values, 0)
    assert found.p == pytest.approx(wanted.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(wanted.confidence_interval()))
    false = [paired_difference(random.normal(size=4), np.zeros(4)).verdict != "no evidence" for _ in range(1000)]
    assert np.mean(false) < 0.08  # a percentile bootstrap: 0.2
