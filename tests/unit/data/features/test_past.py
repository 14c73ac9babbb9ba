"""Counts of the past against a loop, over random tables with many ties."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graftrec.data.features.past_counts import PastCounts, moments_of

events = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), max_size=40)


@settings(max_examples=100, deadline=None)
@given(seen=events, asked=events.filter(bool), half_life=st.sampled_from([0.5, 3.0, 90.0]))
def test_equal_to_a_loop_and_blind_to_the_present(
    seen: list[tuple[int, int]], asked: list[tuple[int, int]], half_life: float
) -> None:
    keys = torch.tensor([k for k, _ in seen], dtype=torch.int64)
    times = torch.tensor([float(t) for _, t in seen], dtype=torch.float64)
    answer = PastCounts(keys, times, [half_life])(
        torch.tensor([k for k, _ in asked]), torch.tensor([float(t) for _, t in asked], dtype=torch.float64)
    )
    for (key, time), got in zip(asked, answer.tolist(), strict=True):
        before = [t for k, t in seen if k == key and t < time]
        aged = sum(2 ** (-(time - t) / half_life) for t in before)
        assert got == pytest.approx([math.log1p(len(before)), math.log1p(aged)], abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(seen=events)
def test_each_key_was_first_seen_at_one_time(seen: list[tuple[int, int]]) -> None:
    keys = torch.tensor([k for k, _ in seen], dtype=torch.int64)
    times = torch.tensor([float(t) for _, t in seen], dtype=torch.float64)
    key, since = PastCounts(keys, times, (), moments_of(times)).firsts()
    expected = {k: min(t for other, t in seen if other == k) for k, _ in seen}
    assert dict(zip(key.tolist(), since.tolist(), strict=True)) == expected


def test_a_catalogue_is_asked_by_broadcasting() -> None:
    past = PastCounts(torch.tensor([1, 1]), torch.tensor([0.0, 1.0], dtype=torch.float64))
    answer = past(torch.arange(3)[None], torch.tensor([[1.0], [2.0]], dtype=torch.float64))
    assert answer.exp().sub(1).round().squeeze(-1).tolist() == [[0, 1, 0], [0, 2, 0]]


def test_bad_input_is_told() -> None:
    with pytest.raises(ValueError, match="Found -1"):
        PastCounts(torch.tensor([-1]), torch.zeros(1, dtype=torch.float64))
    with pytest.raises(ValueError, match="half_lives"):
        PastCounts(torch.tensor([1]), torch.zeros(1, dtype=torch.float64), [0])
