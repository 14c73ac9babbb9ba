"""What `transfer=auto` uses, decided on gains that are written out by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats

from graftrec.evaluation.statistics import intervals
from graftrec.runs.audit.selection_rule import CHANCE, NONE, Candidate, Choice, Gain, Values, choose, gain_of

HELP, NOISE, HURT = "help", "noise", "hurt"


def made(
    scores: Mapping[Candidate, float],
    names: Sequence[str] = (HELP, NOISE, HURT),
    alone: Sequence[str] | None = None,
    strengths: Sequence[float] = (1.0,),
    most: int = 20,
    error: float = 0.01,
    order: Any = lambda names: names,
) -> Choice:
    """The choice where every candidate has its score and every gain the same error and a normal law; what has no score
    is bad.
    """

    def gain(candidate: Candidate, over: Candidate) -> Gain:
        found = scores.get(candidate, -1.0) - scores.get(over, -1.0)
        return Gain(found, error, float(scipy.stats.norm.sf(found / error)) if error else 1.0 - (found > 0))

    return choose(names, names if alone is None else alone, strengths, most, gain, order)


def with_(*names: str, strength: float = 1.0) -> Candidate:
    return tuple((name, strength) for name in names)


def test_a_source_is_used_if_its_gain_is_clear_noise_and_harm_are_not() -> None:
    scores = {NONE: 0.5, with_(HELP): 0.56, with_(NOISE): 0.509, with_(HURT): 0.3}
    found = made(scores)
    assert found.chosen == with_(HELP)
    assert [step.candidate for step in found.steps] == [
        with_(HELP, NOISE, HURT), with_(HELP), with_(NOISE), with_(HURT)
    ]  # fmt: skip
    assert made({**scores, with_(HELP): 0.514}).chosen == NONE  # more than its error, and yet likely by chance
    assert made({NONE: 0.5, **{with_(name): 0.5 for name in (HELP, NOISE, HURT)}}, error=0.0).chosen == NONE


def test_a_gain_is_clear_below_the_chance_of_one_of_its_strengths() -> None:
    """So that a source without effect has no better chance where more strengths are tried."""
    for strengths in ((1.0,), (1.0, 0.3), (1.0, 0.3, 0.1)):
        chance = CHANCE / len(strengths)
        for p, chosen in ((0.99 * chance, with_("a")), (1.01 * chance, NONE)):
            found = choose(
                ["a"], ["a"], strengths, 9, lambda one, _, p=p: Gain(0.1, 0.05, p if one == with_("a") else 1.0), list
            )
            assert found.chosen == chosen
            assert found.steps[0].clear is (chosen != NONE)


def test_of_those_that_helped_one_stays_only_if_it_adds_something_clear() -> None:
    both = {NONE: 0.5, with_("a"): 0.53, with_("b"): 0.55}
    assert made({**both, with_("a", "b"): 0.57}, ["a", "b"]).chosen == with_("a", "b")
    assert made({**both, with_("a", "b"): 0.555}, ["a", "b"]).chosen == with_("b")  # the larger gain came first
    assert made({**both, with_("a", "b"): 0.50}, ["a", "b"]).chosen == with_("b")
    three = {**both, with_("c"): 0.54, with_("b", "c"): 0.54, with_("a", "b"): 0.58}
    found = made(three, ["a", "b", "c"])
    assert found.chosen == with_("a", "b")  # c was dropped, and a still had its turn
    assert found.steps[-1].over == with_("b")


def test_what_helps_only_together_is_used_together() -> None:
    together = {NONE: 0.5, with_("a", "b"): 0.6, with_("a"): 0.505, with_("b"): 0.4}
    assert made(together, ["a", "b"]).chosen == with_("a", "b")
    assert made(together, ["a", "b"], alone=[]).chosen == with_("a", "b")  # neither can train without the other
    assert made({**together, with_("a"): 0.52}, ["a", "b"]).chosen == with_("a")  # alone is enough
    assert made({**together, with_("a", "b"): 0.51}, ["a", "b"]).chosen == NONE


def test_a_weaker_strength_is_tried_where_a_stronger_one_did_not_help() -> None:
    scores = {NONE: 0.5, with_("a"): 0.4, with_("a", strength=0.3): 0.52, with_("b"): 0.55}
    scores[("a", 0.3), ("b", 1.0)] = 0.58
    found = made(scores, ["a", "b"], strengths=(1.0, 0.3))
    assert found.chosen == (("a", 0.3), ("b", 1.0))
    assert with_("b", strength=0.3) not in found.trained
    down = made({NONE: 0.5}, ["a"], strengths=(1.0, 0.3, 0.1))
    assert (down.chosen, len(down.trained)) == (NONE, 4)


def test_the_budget_counts_candidates_with_the_twin_and_what_is_left_out_is_said() -> None:
    scores = {NONE: 0.5, with_("a"): 0.4, with_("b"): 0.6, with_("c"): 0.7}
    found = made(scores, ["a", "b", "c"], most=4, order=lambda names: ["b", "a", "c"])
    assert found.chosen == with_("b")
    assert len(found.trained) == 4
    assert [step.candidate for step in found.steps if step.found is None] == [with_("c")]


def test_a_target_that_is_harmed_refuses_what_the_others_gain_and_nan_is_no_gain() -> None:
    assert Gain(0.05, 0.01, 0.001).clear(0.05)
    assert not Gain(0.05, 0.01, 0.05).clear(0.05)
    assert not Gain(-0.05, 0.01, 0.001).clear(0.05)
    assert not Gain(0.05, 0.01, 0.001, ("second",)).clear(0.05)
    assert not Gain(math.nan, 0.01, 0.001).clear(0.05)
    assert not Gain(0.5, math.inf, 0.5).clear(0.05)


def of(values: npt.ArrayLike, users: Any = None, target: str = "t") -> list[Values]:
    """What each seed of a candidate comes to, of values (S, n)."""
    rows = np.asarray(values, dtype=np.float64)
    who = np.arange(1, rows.shape[1] + 1) if users is None else np.asarray(users, dtype=np.int64)
    return [{target: (who, row)} for row in rows]


def test_the_gain_is_paired_by_user_and_its_error_that_of_users() -> None:
    users = np.array([1, 1, 2, 2, 3, 3])
    ours, theirs = np.array([[3.0, 3, 2, 2, 1, 1]]), np.ones((1, 6))
    found = gain_of(of(ours, users), of(theirs, users))
    assert found.gain == pytest.approx(1.0)
    assert found.error == pytest.approx(1.0 / np.sqrt(3))  # differences 2, 1, 0 of three users: s = 1
    assert found.p == pytest.approx(scipy.stats.t.sf(np.sqrt(3), 2))
    alone = gain_of(of(ours, np.zeros(6)), of(theirs, np.zeros(6)))  # nobody known: six of them
    assert alone.error == pytest.approx(np.std([2, 2, 1, 1, 0, 0], ddof=1) / np.sqrt(6))
    missing = gain_of(of([[1.0, 2, np.nan]]), of(np.zeros((1, 3))))
    assert (missing.gain, missing.error) == (pytest.approx(1.5), pytest.approx(0.5))
    with pytest.raises(ValueError, match="same rows"):
        gain_of(of(ours, users), of(theirs, users[::-1]))
    with pytest.raises(ValueError, match="same rows"):  # of any seed
        gain_of([*of(ours, users), *of(ours, users[::-1])], [*of(theirs, users)] * 2)


def test_p_is_one_sided() -> None:
    random = np.random.default_rng(0)
    better, base = 0.05 + random.normal(0, 0.1, (3, 60)), np.zeros((3, 60))
    up, down = gain_of(of(better), of(base)), gain_of(of(base), of(better))
    two = intervals.paired_difference(better, base)
    assert (up.gain, up.error, up.p) == (two.delta, two.error, two.p / 2)
    assert (down.gain, down.p) == (-up.gain, pytest.approx(1 - up.p))
    assert (down.clear(0.05), up.clear(0.05)) == (False, True)


def test_the_luck_of_one_seed_is_no_clear_gain() -> None:
    random = np.random.default_rng(0)
    noise = random.normal(0, 0.02, (3, 500))
    lucky = gain_of(of(noise + np.array([[0.0], [0.0], [0.15]])), of(np.zeros((3, 500))))
    users = noise.mean(0).std(ddof=1) / np.sqrt(500)
    assert lucky.gain > 50 * users  # to users alone it is beyond doubt
    assert not lucky.clear(CHANCE)
    assert gain_of(of(noise + 0.05), of(np.zeros((3, 500)))).clear(CHANCE / 2)  # as much of it, with every seed


def test_a_source_without_effect_is_used_by_chance_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "_quantile", lambda *_: 1.0)  # no interval: p decides
    random, searches, used = np.random.default_rng(0), 800, 0

    def arm() -> list[Values]:
        return of(random.normal(size=(3, 60)) + 0.15 * random.normal(size=(3, 1)))

    for _ in range(searches):
        twin = arm()
        used += choose(["a"], ["a"], (1.0, 0.3), 9, lambda *_, twin=twin: gain_of(arm(), twin), list).chosen != NONE
    assert used <= searches * CHANCE + 2 * math.sqrt(searches * CHANCE * (1 - CHANCE))


def test_of_two_targets_the_mean_counts_and_harm_to_one_is_seen() -> None:
    up, down = np.array([[0.4, 0.5, 0.5, 0.6]]), np.array([[-0.2, -0.1, -0.1, 0.0]])
    (a,), (b,) = of(up, target="a"), of(down, target="b")
    (one,), (other,) = of(0 * up, target="a"), of(0 * up, target="b")
    found = gain_of([{**a, **b}], [{**one, **other}])
    assert found.gain == pytest.approx(0.2)
    assert found.harmed == ("b",)
    own = [gain_of([ours], [theirs]).error for ours, theirs in ((a, one), (b, other))]
    assert found.error == pytest.approx(np.mean(own))
    single = gain_of(of([[0.4]]), of([[0.0]]))
    assert (single.error, single.p) == (math.inf, 0.5)
    assert not single.clear(CHANCE)
