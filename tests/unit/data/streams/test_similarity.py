"""Co-purchase against every pair of every basket."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graftrec.data.streams.co_purchase import co_purchase

lines = st.lists(st.tuples(st.integers(0, 6), st.integers(1, 6)), max_size=50)


@settings(max_examples=100, deadline=None)
@given(bought=lines, min_support=st.integers(1, 3), shuffle=st.randoms())
def test_equal_to_brute_force(bought: list[tuple[int, int]], min_support: int, shuffle: object) -> None:
    baskets: dict[int, set[int]] = {}
    for basket, item in bought:
        baskets.setdefault(basket, set()).add(item)
    expected = []
    for a, b in itertools.combinations(range(1, 7), 2):
        with_a, with_b = ({basket for basket, items in baskets.items() if x in items} for x in (a, b))
        both = len(with_a & with_b)
        if both >= min_support:
            expected.append((a, b, both, both / math.sqrt(len(with_a) * len(with_b))))
    mixed = list(bought)
    shuffle.shuffle(mixed)  # type: ignore[attr-defined]
    columns = np.array(mixed, dtype=np.int64).reshape(-1, 2)
    pairs = co_purchase(columns[:, 0], columns[:, 1], min_support)
    got = list(zip(pairs.a.tolist(), pairs.b.tolist(), pairs.support.tolist(), pairs.cosine.tolist(), strict=True))
    assert [row[:3] for row in got] == [row[:3] for row in expected]  # sorted by a and b
    assert [row[3] for row in got] == pytest.approx([row[3] for row in expected], rel=1e-6)
    assert (pairs.a.dtype, pairs.cosine.dtype) == (np.int64, np.float32)


@settings(max_examples=100, deadline=None)
@given(bought=lines, reach=st.integers(1, 4))
def test_lines_of_a_basket_count_together_up_to_a_reach(bought: list[tuple[int, int]], reach: int) -> None:
    """In the order of the lines, of which the first of each item counts."""
    baskets: dict[int, list[int]] = {}
    for basket, item in bought:
        if item not in baskets.setdefault(basket, []):
            baskets[basket].append(item)
    both = Counter(
        (min(a, b), max(a, b))
        for items in baskets.values()
        for at, a in enumerate(items)
        for b in items[at + 1 : at + 1 + reach]
    )
    count = Counter(item for items in baskets.values() for item in items)
    columns = np.array(bought, dtype=np.int64).reshape(-1, 2)
    pairs = co_purchase(columns[:, 0], columns[:, 1], 1, reach)
    got = list(zip(pairs.a.tolist(), pairs.b.tolist(), pairs.support.tolist(), strict=True))
    assert got == [(*pair, support) for pair, support in sorted(both.items())]
    cosine = [support / math.sqrt(count[a] * count[b]) for (a, b), support in sorted(both.items())]
    assert pairs.cosine.tolist() == pytest.approx(cosine, rel=1e-6)


def test_a_line_twice_in_a_basket_counts_once() -> None:
    pairs = co_purchase(np.array([0, 0, 0, 1]), np.array([1, 1, 2, 1]))
    assert (pairs.support.tolist(), pairs.cosine.tolist()) == ([1], pytest.approx([1 / math.sqrt(2)]))
