from itertools import pairwise, permutations
from math import comb, log2

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graftrec.tasks.metrics.ranking import ranking_metrics

torch.set_num_threads(1)
NAMES = ("ndcg", "recall", "hr", "mrr", "map")


def _in_order(hits, k):
    """The five metrics of one list without ties, straight from their definitions."""
    top, total = hits[:k], sum(hits)
    ideal = sum(1 / log2(rank + 2) for rank in range(min(k, total)))
    first = next((rank for rank, hit in enumerate(top) if hit), None)
    return (
        sum(hit / log2(rank + 2) for rank, hit in enumerate(top)) / ideal,
        sum(top) / total,
        float(any(top)),
        0.0 if first is None else 1 / (first + 1),
        sum(sum(hits[: rank + 1]) / (rank + 1) for rank, hit in enumerate(top) if hit) / min(k, total),
    )


def _by_permutation(scores, relevant, candidates, k):
    """Mean over all orders that the scores allow."""
    items = [i for i in range(len(scores)) if candidates[i]]
    if not any(relevant[i] for i in items):
        return [float("nan")] * 5
    values = [
        _in_order([relevant[i] for i in order], k)
        for order in permutations(items)
        if all(scores[x] >= scores[y] for x, y in pairwise(order))
    ]
    return np.mean(values, axis=0)


@st.composite
def _cases(draw):
    width = draw(st.integers(1, 6))
    row = st.tuples(st.sampled_from([-np.inf, -1.0, 0.0, 0.5, np.inf]), st.booleans(), st.booleans())
    rows = draw(st.lists(st.lists(row, min_size=width, max_size=width), min_size=1, max_size=3))
    return rows, draw(st.integers(1, 8)), draw(st.booleans())


@settings(max_examples=200, deadline=None)
@given(_cases())
def test_ties_are_the_mean_over_all_orders(case):
    rows, k, masked = case
    table = np.array(rows, dtype=float)
    scores, relevant = torch.tensor(table[..., 0]), torch.tensor(table[..., 1] > 0)
    candidates = torch.tensor(table[..., 2] > 0) if masked else torch.ones_like(relevant)
    found = ranking_metrics(scores, relevant, candidates if masked else None, k)
    for b in range(len(rows)):
        expected = _by_permutation(scores[b].tolist(), relevant[b].tolist(), candidates[b].tolist(), k)
        got = [found[f"{name}@{k}"][b].item() for name in NAMES]
        np.testing.assert_allclose(got, expected, atol=1e-12)


@pytest.mark.parametrize("k", [1, 10, 50, 60])
def test_a_constant_scorer_gets_chance(k):
    width, count = 50, 4
    relevant = torch.zeros(1, width, dtype=torch.bool)
    relevant[0, :count] = True  # a sort that keeps the order would call this perfect
    found = ranking_metrics(torch.zeros(1, width), relevant, k=k)
    top = min(k, width)
    gain = sum(1 / log2(rank + 2) for rank in range(top))
    ideal = sum(1 / log2(rank + 2) for rank in range(min(k, count)))
    assert found[f"recall@{k}"].item() == pytest.approx(top / width)
    assert found[f"hr@{k}"].item() == pytest.approx(1 - comb(width - count, top) / comb(width, top))
    assert found[f"ndcg@{k}"].item() == pytest.approx(count * gain / width / ideal)
    chance = sum(comb(width - j - 1, count - 1) / comb(width, count) / (j + 1) for j in range(top))
    assert found[f"mrr@{k}"].item() == pytest.approx(chance)
    precise = sum(count / width * (1 + (count - 1) / (width - 1) * j) / (j + 1) for j in range(top)) / min(k, count)
    assert found[f"map@{k}"].item() == pytest.approx(precise)


def test_hand_computed():
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.6]])
    found = ranking_metrics(scores, torch.tensor([[False, True, False, True]]), k=3)
    assert found["ndcg@3"].item() == pytest.approx((1 / log2(3)) / (1 + 1 / log2(3)))
    assert found["map@3"].item() == pytest.approx((1 / 2) / 2)
    assert (found["recall@3"].item(), found["hr@3"].item(), found["mrr@3"].item()) == (0.5, 1.0, 0.5)


def test_few_and_many_relevant_items_are_counted_alike(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 9, (30, 40), generator=generator).double()
    relevant = torch.rand(30, 40, generator=generator) < torch.linspace(0, 1, 30)[:, None]
    candidates = torch.rand(30, 40, generator=generator) < 0.7
    counted = ranking_metrics(scores, relevant, candidates, at=(3, 50))
    monkeypatch.setattr("graftrec.tasks.metrics.ranking.FEW", 0)
    ordered = ranking_metrics(scores, relevant, candidates, at=(3, 50))
    for name, values in counted.items():
        torch.testing.assert_close(values, ordered[name], equal_nan=True)


def test_further_lengths_are_those_of_their_own():
    generator = torch.Generator().manual_seed(1)
    scores, relevant = torch.rand(20, 30, generator=generator), torch.rand(20, 30, generator=generator) < 0.2
    found = ranking_metrics(scores, relevant, k=10, at=(1, 5))
    assert list(found) == [f"{name}@{k}" for k in (10, 1, 5) for name in NAMES] + ["gauc"]
    for k in (1, 5):
        alone = ranking_metrics(scores, relevant, k=k)
        for name in NAMES:
            torch.testing.assert_close(found[f"{name}@{k}"], alone[f"{name}@{k}"], equal_nan=True)


def test_non_candidates_never_count():
    scores, relevant = torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[True, True, False]])
    found = ranking_metrics(scores, relevant, torch.tensor([[False, True, True]]), k=2)
    assert [found[f"{name}@2"].item() for name in NAMES] == [1.0] * 5


def test_agrees_with_sklearn_on_ties():
    from sklearn.metrics import ndcg_score

    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 12, (40, 60), generator=generator).double()
    relevant = torch.rand(40, 60, generator=generator) < 0.1
    relevant[:, 0] = True
    expected = ndcg_score(relevant.double().numpy(), scores.numpy(), k=10)
    assert ranking_metrics(scores, relevant)["ndcg@10"].mean().item() == pytest.approx(expected)


def test_rows_without_a_relevant_candidate_are_nan():
    relevant = torch.tensor([[True, False], [False, False]])
    for mask in (None, torch.tensor([[False, True], [True, True]])):
        found = ranking_metrics(torch.zeros(2, 2), relevant, mask, k=1)
        assert all(v[1].isnan() for v in found.values())
        assert all(bool(v[0].isnan()) == (mask is not None) for v in found.values())


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0)])
def test_nothing_to_rank(shape):
    found = ranking_metrics(torch.zeros(shape), torch.zeros(shape, dtype=torch.bool))
    assert all(v.shape == shape[:1] and v.isnan().all() for v in found.values())


@pytest.mark.parametrize(
    ("scores", "relevant", "k", "message"),
    [
        ([[0.0, float("nan")]], [[True, False]], 1, "1 of 2 scores are NaN"),
        ([[0.0, 1.0]], [[True, False]], 0, "k is 0"),
        ([[0.0, 1.0]], [[True]], 1, "relevant has shape"),
        ([[0.0, 1.0]], [[1, 0]], 1, "bool is needed"),
        ([0.0, 1.0], [True, False], 1, r"\(B, N\) is needed"),
    ],
)
def test_bad_input_is_named(scores, relevant, k, message):
    with pytest.raises(ValueError, match=message):
        ranking_metrics(torch.tensor(scores), torch.tensor(relevant), k=k)
