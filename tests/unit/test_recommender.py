"""Recommendations: blocks of users and items give what one full sort gives, ties and all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
import torch

from graftrec import recommender as place
from graftrec.assemble import assemble, protocol_of, streams_of
from graftrec.errors import UserError
from graftrec.module import GraftModule
from graftrec.recommender import Recommender

ROLES = ("source", "target", "shared")
Compose = Callable[[list[str]], dict[str, Any]]
TASKS = {"recommend": ["trunk=shared_bottom"], "next_item": ["trunk=sasrec"]}


@pytest.fixture(params=list(TASKS))
def made(request: pytest.FixtureRequest, compose: Compose, shop_settings: list[str]) -> Recommender:
    name = request.param
    roles = ["task@source=[]", f"task@target=[{name}]", "task@shared=[]"]
    tree = compose([*shop_settings, *TASKS[name], *roles, "++encoder.width=8"])
    protocol = protocol_of(tree)
    protocol.prepare(streams_of(tree))
    return Recommender(assemble(tree, protocol, ROLES, 0), protocol, name)


@torch.no_grad()
def naive(made: Recommender, users: list[int], k: int, seen: bool) -> list[tuple[int, int, float, int]]:
    """One full score matrix of the module and a stable sort by hand."""
    batch = made.stream.state(torch.tensor(users), "test")  # of the shop, raw ids are numbers
    module, stream = made.module, made.stream
    logits = module(stream.schema.name, batch, [made.task])[made.task]
    scores = module.task(made.task).predict(logits)
    found = []
    for user, row, fresh in zip(users, scores, stream.fresh(torch.tensor(users), "test"), strict=True):
        kept = [at for at in range(len(row)) if seen or fresh[at]]
        ordered = sorted(kept, key=lambda at: (-float(row[at]), at))[:k]
        items = made._items.decode(stream.lines.items[ordered].numpy())
        found += [(user, items[rank], float(row[at]), rank + 1) for rank, at in enumerate(ordered)]
    return found


def coarse(module: GraftModule) -> None:
    """Half of all items become the same one: their scores tie."""
    with torch.no_grad():
        for name, values in module.encoder.tables.state_dict().items():
            if not name.startswith("user"):
                values.zero_()


@pytest.mark.parametrize("pairs", [1, 30, 10**6])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seen", [False, True])
def test_blocks_are_one_full_sort(
    made: Recommender, seen: bool, ties: bool, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "PAIRS", pairs)
    monkeypatch.setattr(place, "USERS", 5)
    if ties:
        coarse(made.module)
    users = made._users.decode(torch.arange(1, 12).numpy()).to_list()
    for k in (1, 7, 100):
        frame = made.recommend(users, k, seen)
        expected = naive(made, list(range(1, 12)), k, seen)
        names = dict(zip(range(1, 12), users, strict=True))
        assert frame["user"].to_list() == [names[user] for user, *_ in expected]
        assert frame["rank"].to_list() == [rank for *_, rank in expected]
        if not ties or made.task == "next_item":
            assert frame["item"].to_list() == [item for _, item, *_ in expected]
        assert frame["score"].to_list() == pytest.approx([score for *_, score, _ in expected], rel=1e-4)


def test_scores_are_the_modules_whatever_the_blocks(made: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    users = made.users()
    whole = made.scores(users)
    monkeypatch.setattr(place, "PAIRS", 17)
    monkeypatch.setattr(place, "USERS", 4)
    torch.testing.assert_close(made.scores(users), whole)
    assert whole.shape == (len(users), len(made.stream.lines.items))


def test_nobody_asks(made: Recommender) -> None:
    frame = made.recommend([], k=4)
    assert len(frame) == 0
    assert frame.columns == ["user", "item", "score", "rank"]
    assert made.scores([]).shape == (0, len(made.stream.lines.items))


def test_what_cannot_be(made: Recommender, compose: Compose, shop_settings: list[str]) -> None:
    with pytest.raises(ValueError, match="k should be at least 1"):
        made.recommend([1], k=0)
    roles = ["task@source=[interest]", "task@target=[recommend]", "task@shared=[]"]
    tree = compose([*shop_settings, "trunk=shared_bottom", *roles])
    protocol = protocol_of(tree)
    protocol.prepare(streams_of(tree))
    with pytest.raises(UserError, match="ranks no catalogue"):
        Recommender(assemble(tree, protocol, ROLES, 0), protocol, "interest")


def test_a_stranger_gets_what_is_known_of_everybody(made: Recommender) -> None:
    frame = made.recommend(["nobody", 3], k=3)
    assert frame["rank"].to_list() == [1, 2, 3, 1, 2, 3]
    assert isinstance(frame, pl.DataFrame)
