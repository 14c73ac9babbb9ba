"""Co-purchase against every pair of every basket."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graftrec.data.similarity import co_purchase

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


def test_a_line_twice_in_a_basket_counts_once() -> None:
    pairs = co_purchase(np.array([0, 0, 0, 1]), np.array([1, 1, 2, 1]))
    assert (pairs.support.tolist(), pairs.cosine.tolist()) == ([1], pytest.approx([1 / math.sqrt(2)]))
