"""What `transfer=auto` uses, decided on gains that are written out by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from graftrec.analysis.choice import NONE, Candidate, Choice, Gain, choose, gain_of

HELP, NOISE, HURT = "help", "noise", "hurt"


def made(
    scores: Mapping[Candidate, float],
    names: Sequence[str] = (HELP, NOISE, HURT),
    alone: Sequence[str] | None = None,
    strengths: Sequence[float] = (1.0,),
    trials: int = 20,
    error: float = 0.01,
    order: Any = lambda names: names,
) -> Choice:
    """The choice where every candidate has its score and every gain the same error; what has none is bad."""

    def gain(candidate: Candidate, over: Candidate) -> Gain:
        return Gain(scores.get(candidate, -1.0) - scores.get(over, -1.0), error)

    return choose(names, names if alone is None else alone, strengths, trials, gain, order)


def with_(*names: str, strength: float = 1.0) -> Candidate:
    return tuple((name, strength) for name in names)


def test_a_source_is_used_if_its_gain_exceeds_the_error_noise_and_harm_are_not() -> None:
    scores = {NONE: 0.5, with_(HELP): 0.56, with_(NOISE): 0.509, with_(HURT): 0.3}
    found = made(scores)
    assert found.chosen == with_(HELP)
    assert [step.candidate for step in found.steps] == [
        with_(HELP, NOISE, HURT), with_(HELP), with_(NOISE), with_(HURT)
    ]  # fmt: skip
    assert made({**scores, with_(HELP): 0.51 - 1e-9}).chosen == NONE  # within one error
    assert made({NONE: 0.5, **{with_(name): 0.5 for name in (HELP, NOISE, HURT)}}, error=0.0).chosen == NONE


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


def test_a_weaker_strength_is_tried_where_a_stronger_one_did_not_help() -> None:
    scores = {NONE: 0.5, with_("a"): 0.4, with_("a", strength=0.3): 0.52, with_("b"): 0.55}
    scores[("a", 0.3), ("b", 1.0)] = 0.58
    found = made(scores, ["a", "b"], strengths=(1.0, 0.3))
    assert found.chosen == (("a", 0.3), ("b", 1.0))
    assert with_("b", strength=0.3) not in found.trained
    down = made({NONE: 0.5}, ["a"], strengths=(1.0, 0.3, 0.1))
    assert (down.chosen, len(down.trained)) == (NONE, 4)


def test_the_budget_counts_trainings_and_what_is_left_out_is_said() -> None:
    scores = {NONE: 0.5, with_("a"): 0.4, with_("b"): 0.6, with_("c"): 0.7}
    found = made(scores, ["a", "b", "c"], trials=4, order=lambda names: ["b", "a", "c"])
    assert found.chosen == with_("b")
    assert len(found.trained) == 4
    assert [step.candidate for step in found.steps if step.found is None] == [with_("c")]


def test_a_target_that_is_harmed_refuses_what_the_others_gain_and_nan_is_no_gain() -> None:
    assert Gain(0.05, 0.01).clear
    assert not Gain(0.05, 0.01, ("second",)).clear
    assert not Gain(float("nan"), 0.01).clear
    assert not Gain(0.5, float("inf")).clear


def test_the_gain_is_paired_by_user_and_its_error_that_of_users() -> None:
    users = np.array([1, 1, 2, 2, 3, 3])
    ours, theirs = np.array([3.0, 3, 2, 2, 1, 1]), np.array([1.0, 1, 1, 1, 1, 1])
    found = gain_of({"t": (users, ours)}, {"t": (users, theirs)})
    assert found.gain == pytest.approx(1.0)
    assert found.error == pytest.approx(1.0 / np.sqrt(3))  # differences 2, 1, 0 of three users: s = 1
    alone = gain_of({"t": (np.zeros(6), ours)}, {"t": (np.zeros(6), theirs)})  # nobody known: six of them
    assert alone.error == pytest.approx(np.std([2, 2, 1, 1, 0, 0], ddof=1) / np.sqrt(6))
    missing = gain_of({"t": (np.arange(1, 4), np.array([1.0, 2, np.nan]))}, {"t": (np.arange(1, 4), np.zeros(3))})
    assert (missing.gain, missing.error) == (pytest.approx(1.5), pytest.approx(0.5))
    with pytest.raises(ValueError, match="same rows"):
        gain_of({"t": (users, ours)}, {"t": (users[::-1], theirs)})


def test_of_two_targets_the_mean_counts_and_harm_to_one_is_seen() -> None:
    users = np.arange(1, 5)
    up, down = np.array([0.4, 0.5, 0.5, 0.6]), np.array([-0.2, -0.1, -0.1, 0.0])
    zero = {name: (users, np.zeros(4)) for name in ("a", "b")}
    found = gain_of({"a": (users, up), "b": (users, down)}, zero)
    assert found.gain == pytest.approx(0.2)
    assert found.harmed == ("b",)
    own = [gain_of({name: (users, each)}, zero).error for name, each in (("a", up), ("b", down))]
    assert found.error == pytest.approx(np.mean(own))
    one = gain_of({"a": (users[:1], up[:1])}, {"a": (users[:1], np.zeros(1))})
    assert one.error == float("inf")
    assert not one.clear
