"""Histories against a plain loop, over tables with many ties."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from graftrec.data.features.history import Histories

Event = tuple[int, int, float]  # user from 1, item, day

events = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(0, 5).map(lambda step: step / 2)), max_size=30
)
asked = st.lists(
    st.tuples(st.integers(0, 4), st.integers(-2, 14).map(lambda step: step / 4)), min_size=1, max_size=12
)  # 0 is a stranger, 4 never bought anything


def histories(seen: list[Event], behaviour: list[int] | None = None, gap: float = 0.02) -> Histories:
    user, item, time = ([event[place] for event in seen] for place in range(3))
    kinds = None if behaviour is None else torch.tensor(behaviour, dtype=torch.int64)
    return Histories(
        torch.tensor(user, dtype=torch.int64), torch.tensor(item, dtype=torch.int64),
        torch.tensor(time, dtype=torch.float64), kinds, gap, kinds=0 if behaviour is None else 4,
    )  # fmt: skip


def before(seen: list[Event], user: int, time: float) -> list[tuple[float, int]]:
    """Day and item of what a user did strictly before, oldest first."""
    return sorted((when, item) for who, item, when in seen if who == user and when < time)


def questions(pairs: list[tuple[int, float]]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor([user for user, _ in pairs]), torch.tensor([time for _, time in pairs], dtype=torch.float64)


@settings(max_examples=150, deadline=None)
@given(seen=events, pairs=asked, length=st.integers(1, 6))
@example(seen=[(1, 2, 1.0), (1, 3, 1.0)], pairs=[(1, 1.0), (1, 1.25), (0, 9.0)], length=3)
def test_a_window_is_the_last_events_before_a_time(
    seen: list[Event], pairs: list[tuple[int, float]], length: int
) -> None:
    items, age = histories(seen).window(*questions(pairs), length)
    for row, (user, time) in enumerate(pairs):
        last = before(seen, user, time)[-length:]
        padding = length - len(last)
        assert items[row].tolist() == [0] * padding + [item for _, item in last]
        ages = [0.0] * padding + [math.log1p(time - when) for when, _ in last]
        assert age[row].tolist() == pytest.approx(ages, abs=1e-6)
    assert (items.dtype, age.dtype) == (torch.int64, torch.float32)


@settings(max_examples=100, deadline=None)
@given(seen=events, pairs=asked, longest=st.sampled_from([0.5, 2.0, 60.0]))
def test_days_since_the_last_event_and_how_many_there_were(
    seen: list[Event], pairs: list[tuple[int, float]], longest: float
) -> None:
    made = histories(seen)
    low, high = made.bounds(*questions(pairs))
    since = made.since(*questions(pairs), longest)
    for row, (user, time) in enumerate(pairs):
        past = before(seen, user, time)
        assert int(high[row] - low[row]) == len(past)
        assert float(since[row]) == pytest.approx(min(time - past[-1][0], longest) if past else longest, abs=1e-6)


@settings(max_examples=100, deadline=None)
@given(
    seen=events, pairs=asked, length=st.integers(1, 6), gap=st.sampled_from([0.02, 0.5, 1.0]),
    days=st.none() | st.sampled_from([0.5, 1.0, 2.25]), sessions=st.none() | st.integers(1, 3),
)  # fmt: skip
def test_a_window_reaches_so_many_days_or_sessions_back(
    seen: list[Event], pairs: list[tuple[int, float]], length: int, gap: float, days: float | None, sessions: int | None
) -> None:
    items, age = histories(seen, gap=gap).window(*questions(pairs), length, days, sessions)
    for row, (user, time) in enumerate(pairs):
        past = before(seen, user, time)
        number = [sum(b[0] - a[0] > gap for a, b in pairwise(past[: at + 1])) for at in range(len(past))]
        kept = [
            event
            for event, of in zip(past, number, strict=True)
            if (days is None or event[0] >= time - days) and (sessions is None or of > number[-1] - sessions)
        ][-length:]
        padding = length - len(kept)
        assert items[row].tolist() == [0] * padding + [item for _, item in kept]
        ages = [0.0] * padding + [math.log1p(time - when) for when, _ in kept]
        assert age[row].tolist() == pytest.approx(ages, abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(seen=events, kind=st.lists(st.integers(1, 3), min_size=30, max_size=30), pairs=asked)
def test_what_each_event_was_stands_beside_it(
    seen: list[Event], kind: list[int], pairs: list[tuple[int, float]]
) -> None:
    """And decides the order of what is one otherwise."""
    done = list(zip(seen, kind, strict=False))
    made = histories(seen, kind[: len(seen)])
    items, _ = made.window(*questions(pairs), 5)
    kinds = made.behaviours(*questions(pairs), 5)
    for row, (user, time) in enumerate(pairs):
        past = sorted((when, item, kind) for (who, item, when), kind in done if who == user and when < time)[-5:]
        padding = [0] * (5 - len(past))
        assert items[row].tolist() == padding + [item for _, item, _ in past]
        assert kinds[row].tolist() == padding + [kind for _, _, kind in past]


@settings(max_examples=50, deadline=None)
@given(seen=events, pairs=asked, shuffle=st.randoms())
def test_the_order_of_events_is_no_matter(seen: list[Event], pairs: list[tuple[int, float]], shuffle: object) -> None:
    mixed = list(seen)
    shuffle.shuffle(mixed)  # type: ignore[attr-defined]
    for one, other in zip(
        histories(seen).window(*questions(pairs), 4), histories(mixed).window(*questions(pairs), 4), strict=True
    ):
        assert torch.equal(one, other)


def test_events_of_one_moment_never_see_each_other() -> None:
    seen = [(user, item, 3.0) for user in (1, 2) for item in (1, 2, 3)] + [(1, 4, 2.0)]
    made = histories(seen)
    user, time = questions([(1, 3.0), (2, 3.0), (1, math.nextafter(3.0, 4.0))])
    assert made.window(user, time, 4)[0].tolist() == [[0, 0, 0, 4], [0, 0, 0, 0], [4, 1, 2, 3]]


def test_many_users_and_close_times_stay_apart() -> None:
    """User and time share one sortable integer, which has to be exact where a float of both is not."""
    users = torch.arange(1, 50_001)
    time = 365.0 + torch.arange(50_000, dtype=torch.float64) * 2**-40
    made = Histories(users, users, time)
    items, _ = made.window(users, torch.nextafter(time, torch.tensor(1e9, dtype=torch.float64)), 2)
    assert torch.equal(items, torch.stack([torch.zeros_like(users), users], 1))
    assert not made.window(users, time, 2)[0].any()
