"""Columns of user x item pairs against a count from the beginning for each question."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graftrec.data.features.cross_features import Cross
from shop import columns

Event = tuple[int, int, int]  # user, item, day

CONTENT = {"kind": torch.tensor([0, 1, 1, 2]), "brand": torch.tensor([3, 3, 0, 3])}
NAMES = (
    "pair", "pair_10", "pair_30", "pair_90", "kind", "kind_60", "brand", "brand_60",
    "item", "item_30", "item_120", "first", "first_60",
)  # fmt: skip

events = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 8).map(lambda step: 7 * step), st.booleans())
)
asked = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 70)), min_size=1, max_size=5)


def made(
    seen: list[Event],
    content: dict[str, torch.Tensor],
    everybody: list[bool] | None = None,
    clock: bool = True,
    pairs: bool = True,
) -> Cross:
    user, item, time = ([event[place] for event in seen] for place in range(3))
    counted = torch.tensor(everybody if everybody is not None else [True] * len(seen), dtype=torch.bool)
    return Cross(
        torch.tensor(user, dtype=torch.int64), torch.tensor(item, dtype=torch.int64),
        torch.tensor(time, dtype=torch.float64), 4, content, counted if clock else None, pairs,
    )  # fmt: skip


def slow(seen: list[Event], everybody: list[bool], user: int, item: int, time: float) -> dict[str, float]:
    past = [event for event in seen if event[2] < time]
    answer = columns("pair", [t for u, i, t in past if (u, i) == (user, item)], time, 10, 30, 90)
    for name, of in CONTENT.items():
        answer |= columns(name, [t for u, i, t in past if u == user and of[i] == of[item]], time, 60)
    world = [event for event, counts in zip(seen, everybody, strict=True) if counts and event[2] < time]
    answer |= columns("item", [t for _, i, t in world if i == item], time, 30, 120)
    first: dict[int, int] = {}
    for u, i, t in world:
        if i == item:
            first[u] = min(t, first.get(u, t))
    answer |= columns("first", list(first.values()), time, 60)
    assert tuple(answer) == NAMES
    return answer


@settings(max_examples=100, deadline=None)
@given(events=events, asked=asked, whole=st.booleans(), clock=st.booleans(), pairs=st.booleans())
def test_equal_to_a_count_of_the_strict_past(
    events: list[tuple[int, int, int, bool]], asked: list[tuple[int, int]], whole: bool, clock: bool, pairs: bool
) -> None:
    """Of the user's own events, and of those of everybody that count; without a clock there is no age and no world."""
    seen, everybody = [event[:3] for event in events], [whole or event[3] for event in events]
    cross = made(seen, CONTENT, everybody, clock, pairs)
    kept = [name for name in NAMES if (pairs or "pair" not in name)
            and (clock or not (any(c.isdigit() for c in name) or name in ("item", "first")))]  # fmt: skip
    assert cross.names == tuple(kept)
    user = torch.tensor([user for user, _ in asked])
    time = torch.tensor([float(time) for _, time in asked], dtype=torch.float64)
    catalogue = cross(user, torch.arange(4)[None], time)
    own = torch.stack([torch.arange(4).roll(shift) for shift in range(len(asked))])
    candidates = cross(user, own, time)
    assert catalogue.shape == (len(asked), 4, len(kept))
    for row, (who, when) in enumerate(asked):
        for item in range(4):
            expected = slow(seen, everybody, who, item, when)
            assert catalogue[row, item].tolist() == pytest.approx([expected[name] for name in kept], abs=1e-5)
            assert torch.equal(candidates[row, own[row].tolist().index(item)], catalogue[row, item])


def test_first_purchases_count_each_user_once() -> None:
    seen = [(0, 1, 0), (0, 1, 5), (0, 1, 9), (1, 1, 5), (1, 1, 5), (2, 1, 9)]
    cross = made(seen, {})
    assert cross.names == ("pair", "pair_10", "pair_30", "pair_90", "item", "item_30", "item_120", "first", "first_60")
    time = torch.tensor([0.0, 1.0, 5.0, 6.0, 9.0, 10.0], dtype=torch.float64)
    answer = cross(torch.zeros(6, dtype=torch.int64), torch.tensor([[1]]), time)[:, 0]
    found = answer.expm1().round().int()
    assert found[:, cross.names.index("first")].tolist() == [0, 1, 1, 2, 2, 3]
    assert found[:, cross.names.index("item")].tolist() == [0, 1, 1, 4, 4, 6]


def test_early_rows_are_exact_beside_a_year_of_later_ones() -> None:
    """A running sum over all keys drowns an early event in later ones of other keys; 2^(365 / 10) is large."""
    random = torch.Generator().manual_seed(0)
    time = (torch.rand(400_000, generator=random, dtype=torch.float64) * 365).sort().values
    user = torch.randint(50, (len(time),), generator=random)
    item = torch.randint(40, (len(time),), generator=random)
    cross = Cross(user, item, time, 40, {}, torch.ones(len(user), dtype=torch.bool))
    worst = 0.0
    for who, what in ((30, 7), (45, 21), (49, 39)):
        for now in (3.0, 8.0, 20.0):
            times = time[(user == who) & (item == what) & (time < now)].tolist()
            expected = columns("pair", times, now, 10)["pair_10"]
            got = cross(torch.tensor([who]), torch.tensor([[what]]), torch.tensor([now], dtype=torch.float64))[0, 0, 1]
            worst = max(worst, abs(float(got) - expected))
    assert worst < 1e-3


def test_decades_between_events_do_not_overflow() -> None:
    """One line dated 1970 is enough."""
    time = torch.tensor([0.0, 18_250.0, 18_255.0], dtype=torch.float64)
    cross = Cross(
        torch.zeros(3, dtype=torch.int64), torch.tensor([0, 1, 1]), time, 2, {}, torch.ones(3, dtype=torch.bool)
    )
    answer = cross(torch.tensor([0]), torch.tensor([[1]]), torch.tensor([18_260.0], dtype=torch.float64))[0, 0]
    assert answer.isfinite().all()
    assert float(answer[1]) == pytest.approx(math.log1p(2**-1 + 2**-0.5), abs=1e-5)
