"""500 random cases against an evaluator that knows no formula: it writes out every order that the scores allow."""

from __future__ import annotations

import math
import random
from itertools import groupby, permutations, product
from typing import Any

import pytest
import torch

from graftrec.data.schema import Label
from graftrec.models.heads.linear import Linear
from graftrec.tasks.losses.squared import Squared
from graftrec.tasks.recommendation import Recommendation

NAN = math.nan
COHORTS = {"history_0": 0, "history_1_4": 1, "history_5_19": 5, "history_20_99": 20, "history_100": 100}


def orders(scores: list[float], items: list[int]) -> list[list[int]]:
    """Every order of ``items`` in which no one stands before one with a higher score."""
    ranked = sorted(items, key=lambda item: -scores[item])
    groups = [list(group) for _, group in groupby(ranked, key=lambda item: scores[item])]
    return [[item for part in parts for item in part] for parts in product(*map(permutations, groups))]


def of_an_order(order: list[int], right: set[int], k: int) -> dict[str, float]:
    """The metrics of one list of items, by their definitions."""
    hits = [item in right for item in order]
    found = [rank for rank, hit in enumerate(hits, 1) if hit and rank <= k]
    most = min(k, len(right))
    return {
        f"ndcg@{k}": sum(1 / math.log2(r + 1) for r in found) / sum(1 / math.log2(r + 1) for r in range(1, most + 1)),
        f"recall@{k}": len(found) / len(right),
        f"hr@{k}": float(bool(found)),
        f"mrr@{k}": 1 / found[0] if found else 0.0,
        f"map@{k}": sum(sum(hits[:r]) / r for r in found) / most,
    }


def auc(order: list[int], right: set[int]) -> float:
    pairs = [
        order.index(good) < order.index(bad) for good in order for bad in order if good in right and bad not in right
    ]
    return sum(pairs) / len(pairs) if pairs else NAN


def of_a_user(scores: list[float], right: set[int], items: list[int], lengths: list[int]) -> dict[str, float]:
    """Means over all orders; NaN without a right item among ``items``."""
    right = right & set(items)
    every = orders(scores, items)
    found = {}
    for k in lengths:
        names = of_an_order([0], {0}, k)
        each = [of_an_order(order, right, k) for order in every] if right else [dict.fromkeys(names, NAN)]
        found |= {name: sum(values[name] for values in each) / len(each) for name in names}
    aucs = [auc(order, right) for order in every] if right else [NAN]
    return found | {"gauc": sum(aucs) / len(aucs)}


def of_lists(case: dict[str, Any], k: int) -> dict[str, float | None]:
    """Means over everything that the users' lists can be together."""
    shares = []
    for scores, items in zip(case["scores"], case["ranked"], strict=True):
        lists = [tuple(sorted(order[:k])) for order in orders(scores, items)]
        shares.append([(kept, lists.count(kept) / len(lists)) for kept in sorted(set(lists))])
    popularity, own = case["popularity"], case["own"]
    rarest = min([share for share in popularity if share > 0], default=0.0)
    coverage = novelty = recommended = 0.0
    known = [user for user, items in enumerate(case["ranked"]) if items and not math.isnan(own[user])]
    for together in product(*shares):
        chance = math.prod(share for _, share in together)
        lists = [kept for kept, _ in together]
        everything = [item for kept in lists for item in kept]
        coverage += chance * len(set(everything)) / len(popularity)
        if rarest and everything:
            bits = [-math.log2(max(popularity[item], rarest)) for item in everything]
            novelty += chance * sum(bits) / len(bits)
        recommended += chance * sum(sum(popularity[item] for item in lists[u]) / len(lists[u]) for u in known)
    usual = sum(own[user] for user in known)
    nothing = not rarest or not any(case["ranked"])
    return {
        f"coverage@{k}": coverage,
        f"novelty@{k}": None if nothing else novelty,
        f"popularity_bias@{k}": recommended / usual - 1 if usual else None,
    }


def expected(case: dict[str, Any]) -> dict[str, float | None]:
    """All metrics of a case, by name."""
    k, lengths = case["k"], [case["k"], *case["at"]]
    users = range(len(case["scores"]))
    all_items = [of_a_user(case["scores"][u], case["relevant"][u], case["ranked"][u], lengths) for u in users]
    rows: dict[str, list[float]] = {name: [user[name] for user in all_items] for name in all_items[0]}
    plain = [name for name in rows if name == "gauc" or name.endswith(f"@{k}")]
    if case["ranks_seen"]:
        new = [[item for item in case["ranked"][u] if item not in case["seen"][u]] for u in users]
        first = [of_a_user(case["scores"][u], case["relevant"][u], new[u], [k]) for u in users]
        rows |= {f"{name}/first_time": [user[name] for user in first] for name in plain}
    for cohort, low in COHORTS.items():
        high = min((other for other in COHORTS.values() if other > low), default=math.inf)
        inside = [low <= case["history"][user] < high for user in users]
        rows |= {f"{n}/{cohort}": [rows[n][u] if inside[u] else NAN for u in users] for n in plain}
    found: dict[str, float | None] = {}
    for name, values in rows.items():
        kept = [value for value in values if not math.isnan(value)]
        if kept or "/history" not in name:
            found[name] = sum(kept) / len(kept) if kept else None
    for length in lengths:
        found |= of_lists(case, length)
    return found


def drawn(seed: int) -> dict[str, Any]:
    """A few users and items, with ties, infinite scores, and often nothing to find."""
    r = random.Random(seed)
    n, users = r.randint(1, 6), r.randint(1, 2)
    values = r.choice(
        [[0.0], [0.0, 1.0], [-math.inf, -1.0, 0.0, 0.5, math.inf], [r.randint(-9, 9) / 4 for _ in "abcdef"]]
    )
    some = [[{i for i in range(n) if r.random() < share} for _ in range(users)] for share in (0.4, 0.8, 0.3)]
    relevant, listed, seen = some
    ranks_seen = r.random() < 0.5
    lists = r.random() < 0.5
    if not lists:
        listed = [set(range(n))] * users
    ranked = [sorted(listed[u] if ranks_seen else listed[u] - seen[u]) for u in range(users)]
    k = r.randint(1, 7)
    return {
        "scores": [[r.choice(values) for _ in range(n)] for _ in range(users)],
        "relevant": relevant, "seen": seen, "ranks_seen": ranks_seen, "ranked": ranked, "k": k,
        "masked": lists or not ranks_seen,
        "at": sorted({r.randint(1, 7) for _ in range(r.randint(0, 2))} - {k}),
        "popularity": [r.choice([0.0, 0.125, 0.25, 1.0]) for _ in range(n)],
        "own": [r.choice([NAN, 0.25, 0.5]) for _ in range(users)],
        "history": [r.choice([0, 1, 4, 5, 19, 20, 99, 100, 5000]) for _ in range(users)],
    }  # fmt: skip


def mask(sets: list[Any], n: int) -> torch.Tensor:
    return torch.tensor([[item in kept for item in range(n)] for kept in sets])


def measured(case: dict[str, Any]) -> dict[str, float | None]:
    """What the task says of the case, a user at a time."""
    task = Recommendation(Linear(2), Squared(), "s", "y", Label("y", "binary"), k=case["k"], at=case["at"])
    n = len(case["popularity"])
    batch = {
        "query": torch.arange(len(case["scores"])), "relevant": mask(case["relevant"], n),
        "history": torch.tensor(case["history"]), "own_popularity": torch.tensor(case["own"], dtype=torch.float64),
    }  # fmt: skip
    if case["ranks_seen"]:
        batch["fresh"] = ~mask(case["seen"], n)
    if case["masked"]:
        batch["listed"] = mask(case["ranked"], n)
    scores = torch.tensor(case["scores"])
    whole = {"popularity": torch.tensor(case["popularity"], dtype=torch.float64)}
    for user in range(len(scores)):
        task.update(scores[user : user + 1], {name: value[user : user + 1] for name, value in batch.items()} | whole)
    return {name: value.value for name, value in task.compute().items()}


@pytest.mark.parametrize("part", range(10))
def test_equal_to_writing_out_every_order(part: int) -> None:
    for seed in range(part * 50, part * 50 + 50):
        case = drawn(seed)
        found, wanted = measured(case), expected(case)
        assert set(found) == set(wanted), seed
        for name, value in wanted.items():
            assert found[name] == (value if value is None else pytest.approx(value, abs=1e-9)), (seed, name)


@pytest.mark.parametrize("k", [1, 10, 60])
def test_a_constant_scorer_reaches_the_catalogue_by_chance(k: int) -> None:
    """Whatever the order of the catalogue: 40 lists of k items drawn at random."""
    users, n = 40, 50
    popularity = torch.arange(1, n + 1).double() / n
    task = Recommendation(Linear(2), Squared(), "s", "y", Label("y", "binary"), k=k)
    batch = {
        "query": torch.arange(users), "relevant": torch.arange(n).expand(users, n) == 0, "popularity": popularity,
        "own_popularity": torch.full((users,), 0.3),
    }  # fmt: skip
    task.update(torch.zeros(users, n), batch)
    found = task.compute()
    share = min(k, n) / n
    assert found[f"coverage@{k}"].value == pytest.approx(1 - (1 - share) ** users)
    assert found[f"novelty@{k}"].value == pytest.approx(-float(popularity.log2().mean()))
    assert found[f"popularity_bias@{k}"].value == pytest.approx(float(popularity.mean()) / 0.3 - 1)
    chance = sum(1 / n / rank for rank in range(1, min(k, n) + 1))  # one right item, at any rank alike
    assert found[f"map@{k}"].value == pytest.approx(chance)
    assert found["gauc"].value == pytest.approx(0.5)
