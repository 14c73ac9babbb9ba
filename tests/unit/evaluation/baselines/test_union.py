"""Union baselines by hand: two domains, users under one name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from graftrec.evaluation.baselines.merged_history import past_of
from graftrec.evaluation.baselines.rankers import ItemKnn, Near
from graftrec.evaluation.baselines.scoring import score_baselines, score_ranker
from graftrec.models.heads.dot import Dot
from graftrec.tasks.losses.bce import Bce
from graftrec.tasks.recommendation import Recommendation
from graftrec.training.builder import prepare

Compose = Callable[[list[str]], dict[str, Any]]


@pytest.fixture(scope="module")
def protocol(tmp_path_factory: pytest.TempPathFactory, compose: Compose) -> Any:
    """Users see f0, read b1 or b2, see f9, and then, but users 1 and 2 before, f1 or f2 as they read."""
    rows = []
    for user in range(1, 7):
        own = 1 + user % 2
        rows += [(user, "f0", "film", 10.0), (user, f"b{own}", "book", 10.0), (user, "f9", "film", 12.0)]
        rows += [(user, "f9", "film", 60.0)]
        rows += [(user, f"f{own}", "film", 5.0 if user < 3 else 90.0)]
    rows += [(1, "f0", "film", 95.0), (2, "f0", "film", 96.0), (1, "b7", "book", 99.0)]
    folder = tmp_path_factory.mktemp("two")
    frame = pl.DataFrame(rows, schema=["user", "item", "domain", "time"], orient="row")
    frame.with_columns(pl.from_epoch((pl.col("time") * 86_400).cast(pl.Int64))).write_parquet(folder / "lines.parquet")
    settings = [
        "dataset=files", f"dataset.path={folder}/lines.parquet", "protocol=cross_domain", "++dataset.user=user",
        "++dataset.item=item", "++dataset.time=time", "++dataset.domain=domain", "++candidates.min_users=1",
        "task@source=[grocery_recommend]", "task@target=[produce_recommend]", "task@shared=[]",
        "++split.of=span", "++split.train_until=0.5", "++split.val_until=0.8",
        "source.grocery_recommend.stream=book/baskets", "target.produce_recommend.stream=film/baskets",
    ]  # fmt: skip
    return prepare(compose(settings))[0]


def test_the_past_of_both_has_the_targets_columns_first(protocol: Any) -> None:
    film, book = protocol.streams["film/baskets"], protocol.streams["book/baskets"]
    alone, both = past_of(film, "test"), past_of(film, "test", [book])
    own = len(film.lines.items)
    assert alone.n_items == own
    assert (both.user < both.n_users).all()
    assert sorted(zip(both.user[both.item < own], both.item[both.item < own], strict=True)) == sorted(
        zip(alone.user, alone.item, strict=True)
    )
    known = book.lines.known("test")
    assert (both.item >= own).sum() == int(known.sum())  # no item of both: all columns behind are books
    assert both.n_items == own + len(np.unique(book.lines.item[known].numpy()))
    assert protocol.users_of("film/baskets") is protocol.users_of("book/baskets")


def test_item_knn_on_the_union_sees_what_books_say(protocol: Any) -> None:
    """Of users 3 to 6 films know nothing but f0 and f9, which all have; the book tells f1 from f2."""
    film, book = protocol.streams["film/baskets"], protocol.streams["book/baskets"]
    users = film.users("test")
    fresh = film.answers(users, "test")["relevant"] & film.fresh(users, "test")  # f1 or f2 of users 3 to 6
    judged = torch.nonzero(fresh.any(1)).squeeze(1)
    days, own = film.lines.times("test").numpy(), len(film.lines.items)
    alone = ItemKnn().scores(past_of(film, "test"), days, Near(None, 0.0), users.numpy())[judged]
    both = ItemKnn().scores(past_of(film, "test", [book]), days, Near(None, 0.0), users.numpy())[judged, :own]
    open_ = film.fresh(users, "test")[judged].numpy()
    assert len(judged) == 4
    assert len(np.unique(alone, axis=0)) == 1  # films alone say the same of all four
    best = np.where(open_, both, -1).argmax(1)
    assert best.tolist() == fresh[judged].int().argmax(1).tolist()
    union, single = (score_ranker(ItemKnn(), film, 1, beside=beside) for beside in ([book], []))
    assert set(union.metrics) == set(single.metrics)
    assert union.units["ndcg@1"].shape == single.units["ndcg@1"].shape
    assert torch.equal(union.units["user"], users)
    assert "user" not in union.metrics
    assert re.fullmatch(r"(all|\d+) neighbours, shrink \d+", str(union.chosen))
    assert union.rows == "train + val"


def test_beside_a_source_stands_what_is_counted(protocol: Any) -> None:
    film = protocol.streams["film/baskets"]
    task = Recommendation(Dot(2, 2), Bce(), "film/baskets", "bought", film.schema.label("bought"), k=1)
    counted = ["popularity", "recent_popularity", "own_frequency"]
    assert list(score_baselines(task, film, target=False)) == counted
    assert list(score_baselines(task, film)) == [*counted, "item_knn", "ease"]
    with pytest.MonkeyPatch.context() as patched:  # an order is no clock, and what was seen is not ranked again
        patched.setattr(film, "lines", replace(film.lines, clock=False, seen=False))
        assert list(score_baselines(task, film, target=False)) == ["popularity"]


def test_other_users_are_refused(protocol: Any) -> None:
    film = protocol.streams["film/baskets"]

    class Other:
        class schema:
            name = "elsewhere"

        class lines:
            cold_user = np.zeros(99)

    with pytest.raises(ValueError, match="'elsewhere' should have the users"):
        past_of(film, "test", [Other])  # type: ignore[list-item]
