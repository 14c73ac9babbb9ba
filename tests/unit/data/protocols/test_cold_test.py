"""Cold start on the test of an official split: who is new there, and what is told of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from graftrec.data.datasets.movielens import MovieLens
from graftrec.data.protocols.cold_start import ColdStart
from graftrec.data.splits.predefined import Official
from graftrec.data.streams.rows import TableRows
from graftrec.data.streams.sampling_config import History
from graftrec.data.tables.vocabulary import Vocabulary
from graftrec.evaluation.baselines.bias import GRID
from graftrec.evaluation.baselines.scoring import score_baselines
from graftrec.models.heads.linear import Linear
from graftrec.tasks.losses.absolute import Absolute
from graftrec.tasks.regression import Regression
from graftrec.tasks.rows import COHORTS

USERS, ITEMS, OLD_USERS, OLD_ITEMS, SUPPORT = 40, 30, 30, 24, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MovieLens-1M made small: users from 31 on and films from 25 on are new in the test."""
    random = np.random.default_rng(0)
    user, item = np.divmod(np.flatnonzero(random.random(USERS * ITEMS) < 0.6), ITEMS)
    new_user, new_item = user >= OLD_USERS, item >= OLD_ITEMS
    held_out = random.random(len(user)) < 0.1
    state = np.where(held_out, "warm_up", "meta_training")
    state = np.where(new_user, "user_cold_testing", np.where(new_item, "item_cold_testing", state))
    state = np.where(new_user & new_item, "user_and_item_cold_testing", state)
    folder = tmp_path_factory.mktemp("ml")
    ratings = {"user_id": user + 1, "movie_id": item + 1, "rating": 1 + random.integers(0, 5, len(user))}
    pl.DataFrame(ratings | {"metahin_split": state}).write_parquet(folder / "ratings.parquet")
    people = np.arange(1, USERS + 1)
    pl.DataFrame(
        {"user_id": people, "age": people, "gender": ["F"] * USERS, "occupation": ["x"] * USERS}
    ).write_parquet(folder / "users.parquet")
    films = np.arange(1, ITEMS + 1)
    titles = [f"Film ({1950 + film})" for film in films]
    pl.DataFrame({"movie_id": films, "title": titles, "genres": ["Drama"] * ITEMS}).write_parquet(
        folder / "movies.parquet"
    )
    return folder


def stream_of(folder: Path, **settings: Any) -> tuple[TableRows, ColdStart]:
    data = MovieLens(str(folder), size="1m", official="metahin", events="ratings")
    history = History(long=0, short=40)
    protocol = ColdStart(data, Official(), history, test="split", **settings)
    protocol.prepare(["rows"])
    stream = protocol.streams["rows"]
    assert isinstance(stream, TableRows)
    return stream, protocol


def rows_of(batches: Any, users: Vocabulary, items: Vocabulary) -> list[tuple[int, int, int]]:
    """(user, item, stars) of batches."""
    found = []
    for batch in batches:
        who, what = users.decode(batch["user"].numpy()), items.decode(batch["item"].numpy())
        found += list(zip(map(int, who), map(int, what), batch["rating"].int().tolist(), strict=True))
    return found


def truth(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "ratings.parquet")


def test_the_test_is_the_splits_own_but_for_the_support(folder: Path) -> None:
    stream, protocol = stream_of(folder, users=0.0, items=0.0, support=SUPPORT)
    users, items = protocol.users_of("rows"), protocol.items_of("rows")
    shown, tested = (set(rows_of(b, users, items)) for b in (stream.shown(), stream.evaluation("test")))
    frame = truth(folder)
    official = set(
        frame.filter(pl.col("metahin_split") != "meta_training").select("user_id", "movie_id", "rating").rows()
    )
    support = {row for row in shown if row[0] > OLD_USERS}
    assert tested | support == official
    assert not tested & support
    for user in range(OLD_USERS + 1, USERS + 1):
        known = [row for row in official if row[0] == user and row[1] <= OLD_ITEMS]
        assert len([row for row in support if row[0] == user]) == min(SUPPORT, len(known))
    assert all(item <= OLD_ITEMS for _, item, _ in support)


def test_cohorts_are_who_is_new_and_histories_are_training_and_support(folder: Path) -> None:
    stream, protocol = stream_of(folder, users=0.0, items=0.0, support=SUPPORT)
    users, items = protocol.users_of("rows"), protocol.items_of("rows")
    shown = rows_of(stream.shown(), users, items)
    stars = {(user, item): rating for user, item, rating in shown}
    for batch in stream.evaluation("test"):
        who, what = (
            torch.tensor([int(x) for x in v.decode(batch[k].numpy())]) for k, v in (("user", users), ("item", items))
        )
        assert torch.equal(batch["cold_user"], who > OLD_USERS)
        assert torch.equal(batch["cold_item"], what > OLD_ITEMS)
        for row in range(len(who)):
            there = batch["recent"][row] > 0
            seen = [int(x) for x in items.decode(batch["recent"][row][there].numpy())]
            assert sorted(seen) == sorted(item for user, item, _ in shown if user == int(who[row]))
            bits = batch["recent_behaviour"][row][there].tolist()
            assert [bit.bit_length() for bit in bits] == [stars[int(who[row]), item] for item in seen]


def test_ids_that_are_cold_in_validation_leave_training_and_the_test_stays(folder: Path) -> None:
    plain, _ = stream_of(folder, users=0.0, items=0.0, support=SUPPORT)
    stream, protocol = stream_of(folder, users=0.4, items=0.2, support=SUPPORT)
    users, items = protocol.users_of("rows"), protocol.items_of("rows")
    assert stream.splits["test"] == plain.splits["test"]
    trained = rows_of((stream.batch(torch.arange(stream.rows), torch.Generator()),), users, items)
    cold = 0
    for batch in stream.evaluation("val"):
        rows = rows_of([batch], users, items)
        assert batch["cold_user"].tolist() == [user not in {u for u, _, _ in trained} for user, _, _ in rows]
        assert batch["cold_item"].tolist() == [item not in {i for _, i, _ in trained} for _, item, _ in rows]
        new = batch["cold_user"]
        cold += int(new.sum())
        assert bool(((batch["recent"] > 0).sum(1)[new] <= SUPPORT).all())
        assert bool(((batch["recent"] > 0).sum(1)[new] > 0).any())
    assert cold


def test_without_support_there_is_no_history_and_values_are_checked(folder: Path) -> None:
    stream, _ = stream_of(folder, users=0.0, items=0.0)
    assert "recent" not in stream.sample
    with pytest.raises(ValueError, match="drawn or split"):
        ColdStart(MovieLens(str(folder), size="1m"), test="own")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not both 0"):
        ColdStart(MovieLens(str(folder), size="1m"), users=0.0)
    with pytest.raises(ValueError, match="likes or ratings"):
        MovieLens(str(folder), size="1m", events="stars")  # type: ignore[arg-type]


def test_baselines_stand_beside_it_in_every_cohort(folder: Path) -> None:
    stream, _ = stream_of(folder, users=0.0, items=0.0, support=SUPPORT)
    label = stream.schema.label("rating")
    task = Regression(Linear(4), Absolute(), "rows", "rating", label, chosen_by="mae")
    found = score_baselines(task, stream)
    batches = list(stream.evaluation("test"))
    stars, new = (torch.cat([batch[name] for batch in batches]) for name in ("rating", "cold_user"))
    warm_item = ~torch.cat([batch["cold_item"] for batch in batches])
    mean = stream.labels("rating").mean()
    by_hand = (stars - mean).abs()
    assert found["mean"].metrics["mae"].value == pytest.approx(float(by_hand.mean()), rel=1e-5)
    expected = float(by_hand[new & warm_item].mean())
    assert found["mean"].metrics["mae/cold_user"].value == pytest.approx(expected, rel=1e-5)
    assert found["bias"].chosen in GRID
    assert {f"mae/{cohort}" for cohort in COHORTS} <= set(found["bias"].metrics)
