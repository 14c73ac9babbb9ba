"""What a protocol refuses, how it splits, and what its card says."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
import torch
from shop import CUTS, DAYS, SETTINGS, Past, Shop, differing, everything, open_shop, prepared, train_batch, trained

from graftrec.data.protocols.base import Protocol
from graftrec.data.protocols.cross_domain import CrossDomain
from graftrec.data.protocols.long_short_term import LongShortTerm
from graftrec.data.streams.baskets import BasketRows
from graftrec.errors import DataError, UserError

DEPARTMENTS = ("d0", "d1", "d2")


@pytest.fixture(scope="module")
def shop() -> Shop:
    return open_shop()


def departments(shop: Shop, names: tuple[str, ...] = (), **settings: Any) -> CrossDomain:
    protocol = CrossDomain(shop, **{**SETTINGS, "by": "department", **settings})
    protocol.prepare(names or [f"{name}/{kind}" for name in DEPARTMENTS for kind in ("baskets", "pairs")])
    return protocol


def table(rows: int = 300, seed: int = 0, domains: bool = False) -> Shop:
    """Rows that say their number in a label."""
    random = np.random.default_rng(seed)
    frame = pl.DataFrame({"site": random.integers(0, 5, rows), "row": np.arange(rows, dtype=np.float64)})
    frame = frame.with_columns(pl.Series("market", random.choice(["A&B", "c"], rows)))
    return Shop(frame, ids=("site", "market") if domains else ("site",), labels={"row": "number"})


def splits_of(protocol: Protocol, name: str = "rows") -> dict[str, list[float]]:
    """Numbers of the rows of each split."""
    stream = protocol.streams[name]
    found = {"train": train_batch(stream)["row"].tolist()}
    for stage in ("val", "test"):
        found[stage] = [row for batch in stream.evaluation(stage) for row in batch["row"].tolist()]
    return found


# Refusals


def test_an_unknown_stream_names_the_nearest(shop: Shop) -> None:
    with pytest.raises(UserError) as told:
        LongShortTerm(shop, **SETTINGS).prepare(["baskets", "pears", "zzz"])
    assert told.value.problems == [
        "stream 'pears' does not exist; did you mean 'pairs'?",
        "stream 'zzz' does not exist; there are: baskets, pairs",
    ]
    with pytest.raises(UserError, match="'d1/baskets'"):
        departments(shop, ("d1/basket",))


@pytest.mark.parametrize("missing", [("time",), ("user", "item")])
def test_purchases_need_who_what_and_when(missing: tuple[str, ...], shop: Shop) -> None:
    lacking = shop.with_rows(shop.rows.drop(missing))
    for protocol, name in ((LongShortTerm(lacking), "long_short_term"), (CrossDomain(lacking), "cross_domain")):
        with pytest.raises(UserError, match=f"protocol={name} .* no {', '.join(missing)}"):
            protocol.prepare([])


def test_an_unknown_column_of_domains_is_told_beside_those_that_are(shop: Shop) -> None:
    with pytest.raises(UserError, match=r"protocol\.by: .*'departement'; there are age, basket, brand, department"):
        departments(shop, by="departement")


@pytest.mark.parametrize("late", [CUTS[0], CUTS[1]])
def test_a_split_without_rows_is_told(late: float, shop: Shop) -> None:
    split = {CUTS[0]: "val", CUTS[1]: "test"}[late]
    span = CUTS[1] - CUTS[0] if split == "val" else DAYS
    emptied = shop.rows.filter(~pl.col("time").is_between(late, late + span, closed="left") | (pl.col("time") == DAYS))
    with pytest.raises(DataError, match=f"DATA-051 shop: the {split} split of stream 'pairs' has no row"):
        LongShortTerm(shop.with_rows(emptied), **SETTINGS).prepare(["pairs"])
    LongShortTerm(shop.with_rows(emptied), **SETTINGS).prepare([])  # a look at the data is not refused


def test_nobody_who_bought_often_enough_is_told(shop: Shop) -> None:
    users = shop.rows.filter(pl.col("time") < CUTS[0]).group_by("item").agg(pl.col("user").n_unique())["user"].to_list()
    prepared(shop, min_users=max(users))
    with pytest.raises(DataError, match=f"DATA-052 .* by {max(users) + 1} users"):
        prepared(shop, min_users=max(users) + 1)


@pytest.mark.parametrize("cuts", [(0.9, 0.8), (0.8, 0.8), (0.0, 0.5), (0.5, 1.0), (-0.1, 0.5), (math.nan, 0.9)])
@pytest.mark.parametrize("kind", [LongShortTerm, CrossDomain])
def test_cuts_in_a_wrong_order_are_told(kind: type[Protocol], cuts: tuple[float, float], shop: Shop) -> None:
    with pytest.raises(ValueError, match="0 < train_until < val_until < 1"):
        kind(shop, train_until=cuts[0], val_until=cuts[1])  # type: ignore[call-arg]


def test_other_values_are_told(shop: Shop) -> None:
    with pytest.raises(ValueError, match="Found 0"):
        LongShortTerm(shop, batch_size=0)
    with pytest.raises(ValueError, match="Found backwards"):
        CrossDomain(shop, split="backwards")


def test_rows_split_by_time_need_a_time() -> None:
    with pytest.raises(UserError, match=r"protocol\.split=random"):
        CrossDomain(table()).prepare(["rows"])


# Splits of rows


@pytest.mark.parametrize("split", ["random", "order"])
def test_each_row_is_in_one_split(split: str) -> None:
    made = CrossDomain(table(), split=split, train_until=0.6, val_until=0.7)
    made.prepare(["rows"])
    found = splits_of(made)
    assert sorted(found["train"] + found["val"] + found["test"]) == list(range(300))
    assert {name: len(rows) for name, rows in found.items()} == {"train": 180, "val": 30, "test": 90}
    if split == "order":
        assert found["train"] == list(range(180))
        assert found["test"] == list(range(210, 300))
    else:
        assert max(found["train"]) > 290  # not the first ones
        assert min(found["test"]) < 10


def test_only_the_split_seed_moves_a_row() -> None:
    def made(split_seed: int, seed: int) -> CrossDomain:
        protocol = CrossDomain(table(), split="random", split_seed=split_seed)
        protocol.prepare(["rows"])
        protocol.use(["rows"], ["rows"], seed=seed)
        return protocol

    def trained_on(protocol: CrossDomain) -> list[float]:
        return [row for batch in protocol.train_dataloader() for row in batch["rows"]["row"].tolist()]

    first, reseeded, moved = made(0, 0), made(0, 1), made(1, 0)
    assert splits_of(first) == splits_of(reseeded)
    one, other = trained_on(first), trained_on(reseeded)
    assert one != other
    assert sorted(one) == sorted(other)
    changed = splits_of(moved)
    assert set(changed["test"]) != set(splits_of(first)["test"])
    assert sorted(trained_on(moved)) == sorted(changed["train"]) != sorted(one)
    assert trained_on(made(0, 0)) == one


def test_rows_of_domains_share_vocabularies_and_cuts() -> None:
    shop = table(domains=True)
    made = CrossDomain(shop, by="market", split="order")
    made.prepare([])
    assert list(made.streams) == ["a_b/rows", "c/rows"]
    for name, market in (("a_b/rows", "A&B"), ("c/rows", "c")):
        numbers = shop.rows.filter(pl.col("market") == market)["row"].to_list()
        found = splits_of(made, name)
        assert found["train"] + found["val"] + found["test"] == numbers
        assert len(found["train"]) == math.ceil(0.8 * len(numbers))
        batch = train_batch(made.streams[name])
        site = dict(zip(shop.rows["row"], shop.rows["site"], strict=True))
        assert batch["site"].tolist() == [site[row] + 1 for row in batch["row"].tolist()]
        assert set(batch["market"].tolist()) == {1 if market == "A&B" else 2}
    assert {name: table.size for name, table in made.tables.items()} == {"site": 6, "market": 3}


def test_one_cut_of_time_for_all_domains() -> None:
    time = np.concatenate([np.linspace(0, 60, 50), np.linspace(40, 100, 50)])
    rows = pl.DataFrame({"time": time, "market": ["old"] * 50 + ["new"] * 50, "row": np.arange(100.0)})
    made = CrossDomain(
        Shop(rows, ids=("market",), labels={"row": "number"}), by="market", train_until=0.5, val_until=0.7
    )
    made.prepare(["new/rows"])
    expected = {"train": time < 50, "val": (time >= 50) & (time < 70), "test": time >= 70}
    for split, inside in expected.items():
        assert splits_of(made, "new/rows")[split] == np.flatnonzero(inside & (np.arange(100) >= 50)).tolist()
    with pytest.raises(DataError, match=r"DATA-051 .* val split of stream 'old/rows'"):
        CrossDomain(Shop(rows, ids=("market",), labels={"row": "number"}), by="market").prepare(["old/rows"])


def test_rows_and_purchases_never_share_a_table_by_accident(shop: Shop) -> None:
    rows = shop.rows.with_columns(liked=pl.lit(1.0))
    made = CrossDomain(Shop(rows, shop.items, ids=("item",), labels={"liked": "binary"}), **SETTINGS)
    with pytest.raises(UserError, match=r"dataset.ids: item would share a table"):
        made.prepare(["baskets", "rows"])


def test_a_binary_label_is_0_or_1(shop: Shop) -> None:
    rows = shop.rows.with_columns(liked=pl.int_range(pl.len()) % 3)
    made = CrossDomain(Shop(rows, shop.items, ids=("user",), labels={"liked": "binary"}), **SETTINGS)
    with pytest.raises(DataError, match=r"TASK-003 label 'liked' should be 0, 1 or missing: .* \(row 3\) is 2"):
        made.prepare(["rows"])


# Domains of purchases


def test_a_domain_has_its_own_catalogue_and_shares_the_users(shop: Shop) -> None:
    assert shop.items is not None
    whole, made = prepared(shop), departments(shop)
    assert made.items is not None
    assert made.items.keys.to_list() == whole.items.keys.to_list()  # type: ignore[union-attr]
    catalogues = []
    for name in DEPARTMENTS:
        stream = cast(BasketRows, made.streams[f"{name}/baskets"])
        own = shop.items.filter(pl.col("department") == name)["item"]
        catalogue = made.items.decode(stream.lines.items.numpy()).to_list()
        assert catalogue == sorted(set(own) & set(made.items.keys))
        ranked = [batch for batch in stream.evaluation("test") if "relevant" in batch]
        assert all(batch["relevant"].shape[1] == len(catalogue) for batch in ranked)
        pairs = train_batch(made.streams[f"{name}/pairs"])
        assert set(pairs["item"].tolist()) | set(pairs["candidate"].flatten().tolist()) <= set(
            stream.lines.items.tolist()
        )
        catalogues.append(set(catalogue))
    assert not catalogues[0] & catalogues[1] & catalogues[2]
    for name, one in whole.tables.items():
        assert made.tables[name].size == one.size, name
    people = {name: train_batch(made.streams[f"{name}/baskets"])["user"] for name in DEPARTMENTS}
    assert set(people["d0"].tolist()) & set(people["d1"].tolist())  # the same rows of one table
    schema = made.schema(["d0/baskets", "d1/baskets"])
    assert set(schema.tables) == {"user", "item", "user_age", "item_department", "item_brand"}


def test_a_domain_sees_its_own_past_only(shop: Shop) -> None:
    """Its rows are those of a shop that sells nothing else, in the numbers of the shared tables."""
    assert shop.items is not None
    own = shop.items.filter(pl.col("department") == "d1")["item"]
    kept = shop.rows.filter(pl.col("item").is_in(own.implode()))
    past = Past(kept)
    made = departments(shop, lag=0.0)
    assert made.items is not None
    batch, chunks = train_batch(made.streams["d1/baskets"]), past.chunks(SETTINGS["chunk"])
    assert len(batch["user"]) == len(chunks)
    everybody = sorted(set(shop.rows.filter(pl.col("time") < CUTS[0])["user"]))
    for row, (basket, items, _) in enumerate(chunks):
        user, time, _ = past.baskets[basket]
        assert everybody[int(batch["user"][row]) - 1] == user
        bought = made.items.decode(batch["candidate"][row, : len(items)].numpy()).to_list()
        assert bought == items
        history = [0 if not number else past.items[number - 1] for number, _ in past.history(user, time, 6)]
        assert [raw or 0 for raw in made.items.decode(batch["recent"][row].numpy())] == history


def test_a_domain_is_the_same_whatever_is_prepared_beside_it(shop: Shop) -> None:
    alone = departments(shop, ("d1/baskets",))
    beside = departments(shop)
    one, other = trained(alone), trained(beside)
    assert not differing(one, {name: other[name] for name in one})


def test_one_domain_has_no_prefix_and_is_the_long_short_term(shop: Shop) -> None:
    made = CrossDomain(shop, **SETTINGS)
    made.prepare([])
    assert list(made.streams) == ["baskets", "pairs"]
    assert not differing(everything(made), everything(prepared(shop)))


def test_order_of_lines_is_no_matter_to_domains(shop: Shop) -> None:
    mixed = shop.with_rows(shop.rows.sample(fraction=1, shuffle=True, seed=3))
    assert not differing(everything(departments(shop)), everything(departments(mixed)))


@pytest.mark.parametrize("by", ["row", "user"])
def test_a_domain_is_of_its_rows_and_not_of_all_who_sell_its_items(by: str, shop: Shop) -> None:
    """Two sites sell the same items; or domains are of users, who buy the same items."""
    if by == "row":
        rows = shop.rows.with_columns(
            pl.when(pl.col("basket") % 2 == 0).then(pl.lit("x")).otherwise(pl.lit("y")).alias("site")
        )
        split, own = Shop(rows, ids=("site",)), rows.filter(pl.col("site") == "x")
        made = departments(split, ("x/baskets",), by="site")
    else:
        assert shop.users is not None
        old = shop.users.filter(pl.col("age") == "old")["user"]
        own = shop.rows.filter(pl.col("user").is_in(old.implode()))
        made = departments(shop, ("old/baskets",), by="age")
    assert made.streams["old/baskets" if by == "user" else "x/baskets"].rows == len(Past(own).chunks(SETTINGS["chunk"]))


def test_two_domains_of_one_prefix_are_not_merged_silently() -> None:
    rows = pl.DataFrame({"market": ["A B", "a-b"] * 50, "row": np.arange(100.0)})
    made = CrossDomain(Shop(rows, ids=("market",), labels={"row": "number"}), by="market", split="order")
    with pytest.raises((UserError, DataError), match="A B"):
        made.prepare([])


def test_a_domain_nobody_buys_from_does_not_stop_a_look_at_the_others(shop: Shop) -> None:
    made = CrossDomain(shop, **SETTINGS, by="department")
    made.prepare([])  # "a_department_to_come" sold nothing before the cut
    assert "d0/baskets" in made.streams


# The card


def test_the_card_counts_what_was_read(shop: Shop) -> None:
    made = prepared(shop)
    card = made.card
    assert (card["dataset"], card["protocol"], card["rows"]) == ("shop", "LongShortTerm", len(shop.rows))
    assert (card["users"], card["items"]) == (len(set(shop.rows["user"])), len(set(shop.rows["item"])))
    assert (card["first"], card["last"]) == ("2020-01-01 00:00:00", "2020-04-10 00:00:00")
    outside = int((~shop.rows["item"].is_in(Past(shop.rows).items)).sum())
    assert outside > 0
    assert list(card["refused"].values()) == [outside]  # lines of items that nobody bought before the cut
    assert card["splits"] == {name: stream.splits for name, stream in made.streams.items()}
    past = Past(shop.rows)
    windows = [past.window(time) for _, time, _ in past.baskets.values()]
    assert card["splits"]["baskets"] == {
        "train": len(past.chunks(SETTINGS["chunk"])), "val": windows.count(1), "test": windows.count(2)
    }  # fmt: skip


def test_the_fingerprint_is_of_the_rows_and_not_of_their_order(shop: Shop) -> None:
    def fingerprint(rows: pl.DataFrame) -> str:
        return str(prepared(shop.with_rows(rows)).card["fingerprint"])

    first = fingerprint(shop.rows)
    assert len(first) == 16
    assert int(first, 16) >= 0
    assert fingerprint(shop.rows.sample(fraction=1, shuffle=True, seed=1)) == first
    one_item = shop.rows.with_row_index("at").with_columns(
        pl.when(pl.col("at") == 7).then(pl.lit(200)).otherwise("item").alias("item")
    )
    changed = one_item.drop("at")
    assert not changed.equals(shop.rows)
    assert fingerprint(changed) != first
    assert fingerprint(pl.concat([shop.rows, shop.rows[:1]])) != first  # a line twice is another line


def test_a_schema_has_the_tables_that_its_streams_need(shop: Shop) -> None:
    made = prepared(shop)
    pairs = made.schema(["pairs"])
    assert set(pairs.tables) == {"item", "item_department", "item_brand"}
    both = made.schema(["baskets", "pairs"])
    assert set(both.tables) == {*pairs.tables, "user", "user_age"}
    for stream in both.streams.values():
        batch = train_batch(made.streams[stream.name])
        for feature in stream.features:
            values = batch[feature.name]
            if feature.table:
                assert int(values.min()) >= 0
                assert int(values.max()) < both.tables[feature.table].size
            else:
                assert values.dtype == torch.float32
        for label in stream.labels:
            assert label.name in batch
            if label.kind == "category":
                assert int(batch[label.name].min()) >= -1
                assert int(batch[label.name].max()) < label.classes
        if stream.cross:
            assert batch["cross"].shape == (*batch["candidate"].shape, len(stream.cross))
