"""What a protocol and a split refuse, how they divide rows, and what the card says."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
import torch

from graftrec.data.datasets.multi import Several
from graftrec.data.protocols.base import Protocol
from graftrec.data.protocols.cold_start import ColdStart
from graftrec.data.protocols.cross_domain import CrossDomain
from graftrec.data.protocols.cross_platform import CrossPlatform
from graftrec.data.protocols.long_short_term import LongShortTerm
from graftrec.data.splits.base import Split
from graftrec.data.splits.leave_last_out import LeaveLastOut
from graftrec.data.splits.predefined import Official
from graftrec.data.splits.random_split import AtRandom
from graftrec.data.splits.temporal import ByTime
from graftrec.data.streams.baskets import BasketRows
from graftrec.data.streams.sampling_config import Candidates, History
from graftrec.data.tables.interactions import Column
from graftrec.models.encoder import Encoder
from graftrec.utils.errors import DataError, UserError
from shop import (
    CUTS,
    DAYS,
    LATE_USERS,
    SETTINGS,
    Past,
    Shop,
    differing,
    divided,
    everything,
    made_of,
    open_shop,
    prepared,
    train_batch,
    trained,
)

DEPARTMENTS = ("d0", "d1", "d2")


@pytest.fixture(scope="module")
def shop() -> Shop:
    return open_shop()


def of_departments(shop: Shop) -> Shop:
    return Shop(shop.rows, shop.items, shop.users, domain="department")


def departments(shop: Shop, names: tuple[str, ...] = (), **settings: Any) -> Protocol:
    protocol = made_of(CrossDomain, of_departments(shop), **{**SETTINGS, **settings})
    protocol.prepare(names or [f"{name}/{kind}" for name in DEPARTMENTS for kind in ("baskets", "pairs")])
    return protocol


def table(rows: int = 300, seed: int = 0, domains: bool = False) -> Shop:
    """Rows that say their number in a label, in no order."""
    random = np.random.default_rng(seed)
    frame = pl.DataFrame({"site": random.integers(0, 5, rows), "row": np.arange(rows, dtype=np.float64)})
    frame = frame.with_columns(pl.Series("market", random.choice(["A&B", "c"], rows)))
    ids = ("site", "market") if domains else ("site",)
    return Shop(frame, ids=ids, labels={"row": "number"}, domain="market" if domains else "")


def of_table(shop: Shop, split: Split, names: tuple[str, ...] = ("rows",)) -> Protocol:
    made = made_of(CrossDomain, shop, split)
    made.prepare(names)
    return made


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
        made_of(LongShortTerm, shop, **SETTINGS).prepare(["baskets", "pears", "zzz"])
    assert told.value.problems == [
        "stream 'pears' does not exist; did you mean 'pairs'?",
        "stream 'zzz' does not exist; there are: baskets, pairs, sequences",
    ]
    with pytest.raises(UserError, match="'d1/baskets'"):
        departments(shop, ("d1/basket",))


@pytest.mark.parametrize("missing", [("time",), ("user", "item")])
@pytest.mark.parametrize("kind", [LongShortTerm, ColdStart])
def test_histories_need_who_what_and_when(kind: type[Protocol], missing: tuple[str, ...], shop: Shop) -> None:
    lacking = shop.with_rows(shop.rows.drop(missing))
    name = "long_short_term" if kind is LongShortTerm else "cold_start"
    told = f"protocol={name} needs .* shop has no {', '.join(missing)}"
    if kind is ColdStart and missing == ("time",):
        told = "split=time needs time, and shop has no time"
    with pytest.raises(UserError, match=told):
        made_of(kind, lacking).prepare([])


def test_domains_need_something_to_learn(shop: Shop) -> None:
    with pytest.raises(UserError, match="protocol=CrossDomain: shop has neither user and item nor a label"):
        made_of(CrossDomain, shop.with_rows(shop.rows.drop("user", "item"))).prepare([])
    with pytest.raises(UserError, match="split=time needs time, and shop has no time"):
        made_of(CrossDomain, shop.with_rows(shop.rows.drop("time"))).prepare([])


@pytest.mark.parametrize(
    ("split", "missing", "told"),
    [
        (ByTime(), ("time",), "split=time needs time, and shop of domain 'a_.*' has no time; choose split="),
        (LeaveLastOut(), ("time",), "split=leave_last_out needs user, item, time, and .* has no time"),
        (AtRandom(by="user"), ("user",), "split=random needs user, and .* has no user"),
        (Official(), (), "split=official: shop comes without a split"),
    ],
    ids=["time", "leave_last_out", "random", "official"],
)
def test_a_split_names_what_is_missing(split: Split, missing: tuple[str, ...], told: str, shop: Shop) -> None:
    lacking = replace(of_departments(shop), rows=shop.rows.drop(missing).with_columns(liked=pl.lit(1.0)))
    lacking = replace(lacking, labels={"liked": "binary"}, users=None)
    with pytest.raises(UserError, match=told):
        made_of(CrossDomain, lacking, split).prepare([])


def test_an_order_is_no_time(shop: Shop) -> None:
    ordered = Shop(shop.rows, more={"clock": False})
    with pytest.raises(UserError, match="order and no time; set split=leave_last_out"):
        prepared(ordered)
    assert prepared(ordered, LeaveLastOut()).streams["baskets"].rows


def test_unknown_domains_and_columns_are_told_beside_those_that_are(shop: Shop) -> None:
    domains = of_departments(shop)
    for kind, settings, told in (
        (ColdStart, {"domain": "d9"}, r"protocol\.domain: .* 'd9'; there are a_department_to_come, d0, d1, d2"),
        (CrossDomain, {"links": {"d9": {"user": "x.csv"}}}, r"protocol\.links: .* 'd9'; there are a_department"),
        (CrossPlatform, {"links": {"d9": {"user": "x.csv"}}}, r"protocol\.links: .* 'd9'; there are a_department"),
        (CrossPlatform, {"shared": ["brant"]}, r"protocol\.shared: .* 'brant'; there are age, brand, department"),
    ):
        with pytest.raises(UserError, match=told):
            made_of(kind, domains, **settings).prepare([])  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"protocol=cross_platform needs several platforms"):
        made_of(CrossPlatform, shop).prepare([])


@pytest.mark.parametrize("late", [CUTS[0], CUTS[1]])
def test_a_split_without_rows_is_told(late: float, shop: Shop) -> None:
    split = {CUTS[0]: "val", CUTS[1]: "test"}[late]
    span = CUTS[1] - CUTS[0] if split == "val" else DAYS
    emptied = shop.rows.filter(~pl.col("time").is_between(late, late + span, closed="left") | (pl.col("time") == DAYS))
    made = made_of(LongShortTerm, shop.with_rows(emptied), **SETTINGS)
    with pytest.raises(DataError, match=f"DATA-051 shop: the {split} split of stream 'pairs' has no row"):
        made.prepare(["pairs"])
    made.prepare([])  # a look at the data is not refused
    made.prepare(["pairs"], judged=[])  # nor what is only trained on


def test_nobody_who_bought_often_enough_is_told(shop: Shop) -> None:
    users = shop.rows.filter(pl.col("time") < CUTS[0]).group_by("item").agg(pl.col("user").n_unique())["user"].to_list()
    prepared(shop, min_users=max(users))
    with pytest.raises(DataError, match=f"DATA-052 .* by {max(users) + 1} users"):
        prepared(shop, min_users=max(users) + 1)


def test_users_are_counted_in_each_domain() -> None:
    """So that what sells elsewhere, and what is prepared beside it, is no matter to a domain's catalogue."""
    lines = [(user, item, 1.0 + item + 10 * user) for user in range(3) for item in range(5)]
    late = [(0, item, time) for item in range(5) for time in (85.0, 100.0)]
    rows = pl.DataFrame([*lines, *late], schema=["user", "item", "time"], orient="row")
    fewer = rows.filter((pl.col("user") < 2) | (pl.col("item") == 0)).with_columns(pl.col("time") - 1)
    both = Several({"a": Shop(rows), "b": Shop(fewer)})
    for settings in ({}, {"shares": ["item"]}, {"overlap_users": 0.5, "overlap_items": 0.5}):
        for names in ([], ["b/baskets"]):
            made = made_of(CrossDomain, both, min_users=3, **settings)
            made.prepare(names)
            assert len(cast(BasketRows, made.streams["b/baskets"]).lines.items) == 1
    with pytest.raises(DataError, match="DATA-052 shop: no item was chosen by 4 users in training"):
        made_of(CrossDomain, both, min_users=4).prepare([])


@pytest.mark.parametrize("cuts", [(0.9, 0.8), (0.8, 0.8), (0.0, 0.5), (0.5, 1.0), (-0.1, 0.5), (math.nan, 0.9)])
def test_cuts_in_a_wrong_order_are_told(cuts: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="0 < train_until < val_until < 1"):
        ByTime(*cuts)


@pytest.mark.parametrize("shares", [(0.9, 0.1), (0.0, 0.5), (0.5, 0.0), (-0.1, 0.5), (math.nan, 0.1), (0.5, math.nan)])
def test_shares_outside_0_and_1_are_told(shares: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"should be in \(0, 1\)"):
        AtRandom(*shares)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda shop: made_of(LongShortTerm, shop, batch_size=0), "Found 0"),
        (lambda shop: made_of(LongShortTerm, shop, long=0, short=0), "needs a window"),
        (lambda shop: made_of(CrossDomain, shop, shares=["items"]), "Found items"),
        (lambda shop: made_of(CrossDomain, shop, overlap_users=1.1), "Found 1.1"),
        (lambda shop: made_of(ColdStart, shop, users=0.0), "not both 0"),
        (lambda shop: made_of(ColdStart, shop, users=1.0), "Found 1.0"),
        (lambda shop: made_of(ColdStart, shop, support=-1), "Found -1"),
        (lambda shop: made_of(ColdStart, shop, phase="warm_a"), "needs warm_up"),
        (lambda shop: made_of(ColdStart, shop, phase="hot", warm_up=1), "Found hot"),
        (lambda shop: ByTime(of="users"), "Found users"),  # type: ignore[arg-type]
        (lambda shop: AtRandom(by="basket"), "Found basket"),  # type: ignore[arg-type]
        (lambda shop: Official(val=1.0), "Found 1.0"),
        (lambda shop: LeaveLastOut(least=2), "Found 2"),
        (lambda shop: History(long=-1), "Found -1"),
        (lambda shop: History(unit="weeks"), "Found weeks"),  # type: ignore[arg-type]
        (lambda shop: History(long_within=3.0), "need unit="),
        (lambda shop: History(lag=-1.0), "lag at least 0"),
        (lambda shop: Candidates(negatives=-1), "Found -1"),
        (lambda shop: Candidates(chunk=0), "and 0"),
        (lambda shop: Candidates(drawn="all"), "Found all"),  # type: ignore[arg-type]
        (lambda shop: Candidates(drawn="file"), "go together"),
        (lambda shop: Candidates(hard="x.csv"), "go together"),
    ],
)
def test_other_values_are_told(make: Any, told: str, shop: Shop) -> None:
    with pytest.raises(ValueError, match=told):
        make(shop)


def test_a_label_that_no_row_has_is_told_before_anything_is_made(shop: Shop) -> None:
    rows = shop.rows.with_columns(liked=pl.lit(None, dtype=pl.Float64), kind=pl.lit(None, dtype=pl.String))
    made = made_of(CrossDomain, Shop(rows, labels={"liked": "binary", "kind": "category"}), **SETTINGS)
    with pytest.raises(DataError, match=r"TASK-004 shop: label 'liked' is missing in every row"):
        made.prepare(["rows"])
    made.prepare(["baskets"])  # which needs no label


def test_the_same_rows_twice_are_no_two_domains(shop: Shop) -> None:
    with pytest.raises(DataError, match="DATA-050 'a' and 'b' have identical rows"):
        made_of(CrossDomain, Several({"a": shop, "b": open_shop()})).prepare([])


# Splits of rows


def test_rows_at_random_are_each_in_one_split() -> None:
    found = splits_of(of_table(table(3000), AtRandom(0.6, 0.1)))
    assert sorted(found["train"] + found["val"] + found["test"]) == list(range(3000))
    for name, share in (("train", 0.6), ("val", 0.1), ("test", 0.3)):
        assert abs(len(found[name]) - 3000 * share) < 4 * math.sqrt(3000 * share * (1 - share))
    assert max(found["train"]) > 2990  # not the first ones
    assert min(found["test"]) < 10


def test_equal_rows_stay_together() -> None:
    """And nobody's neighbours move a row."""
    rows = pl.DataFrame({"site": np.arange(200) // 4, "row": np.arange(200.0) // 4})
    shop = Shop(rows, ids=("site",), labels={"row": "number"})
    found = splits_of(of_table(shop, AtRandom(0.5, 0.2)))
    assert not set(found["train"]) & set(found["test"])
    assert not set(found["train"]) & set(found["val"])
    part = splits_of(of_table(shop.with_rows(rows[100:]), AtRandom(0.5, 0.2)))
    for name in found:
        assert set(part[name]) == {row for row in found[name] if row >= 25}


@pytest.mark.parametrize("by", ["user", "item"])
def test_all_rows_of_a_user_or_an_item_are_in_one_split(by: str, shop: Shop) -> None:
    for domain, parts in divided(made_of(CrossDomain, shop, AtRandom(0.5, 0.2, by=by))):  # type: ignore[arg-type]
        codes = domain.data.keys[by].codes
        of_parts = [set(codes[parts.part == part].tolist()) for part in range(3)]
        assert all(of_parts)
        assert not of_parts[0] & of_parts[1] | of_parts[0] & of_parts[2] | of_parts[1] & of_parts[2]


def test_the_official_split_is_the_columns_own() -> None:
    part = [0, 1, 2, -1, 0, 0]
    shop = table()
    rows = shop.rows.with_columns(pl.Series("split", part * 50, dtype=pl.Int8))
    found = splits_of(of_table(shop.with_rows(rows), Official()))
    assert found["train"] == [row for row in range(300) if part[row % 6] == 0]
    assert found["val"] == [row for row in range(300) if part[row % 6] == 1]
    assert found["test"] == [row for row in range(300) if part[row % 6] == 2]
    rows = shop.rows.with_columns(pl.Series("split", [0, 0, 2] * 100, dtype=pl.Int8))
    found = splits_of(of_table(shop.with_rows(rows), Official(val=0.25)))
    assert found["test"] == list(range(2, 300, 3))
    assert sorted(found["train"] + found["val"]) == [row for row in range(300) if row % 3 < 2]
    assert 30 < len(found["val"]) < 70


def test_the_last_row_of_each_user_tests(shop: Shop) -> None:
    ((domain, parts),) = divided(made_of(LongShortTerm, shop, LeaveLastOut(least=40)))
    data = domain.data
    assert data.time is not None
    lines = sorted(
        (user, time, item, part)
        for user, time, item, part in zip(
            data.keys["user"].keys.gather(data.keys["user"].codes), data.time.tolist(),
            data.keys["item"].keys.gather(data.keys["item"].codes), parts.part.tolist(), strict=True,
        )
    )  # fmt: skip
    found: dict[str, list[int]] = {}
    for user, _, _, part in lines:
        found.setdefault(user, []).append(part)
    assert min(map(len, found.values())) < 40 < max(map(len, found.values()))
    for of_user in found.values():
        assert of_user == ([0] * len(of_user) if len(of_user) < 40 else [0] * (len(of_user) - 2) + [1, 2])


def test_only_the_split_seed_moves_a_row() -> None:
    def made(split_seed: int, seed: int) -> Protocol:
        protocol = of_table(table(), AtRandom(seed=split_seed))
        protocol.use(["rows"], ["rows"], seed=seed)
        return protocol

    def trained_on(protocol: Protocol) -> list[float]:
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


def test_rows_of_domains_share_vocabularies() -> None:
    shop = table(domains=True)
    made = of_table(shop, AtRandom(), ())
    assert list(made.streams) == ["a_b/rows", "c/rows"]
    for name, market in (("a_b/rows", "A&B"), ("c/rows", "c")):
        numbers = shop.rows.filter(pl.col("market") == market)["row"].to_list()
        found = splits_of(made, name)
        assert sorted(found["train"] + found["val"] + found["test"]) == numbers
        batch = train_batch(made.streams[name])
        site = dict(zip(shop.rows["row"], shop.rows["site"], strict=True))
        assert batch["site"].tolist() == [site[row] + 1 for row in batch["row"].tolist()]
        assert set(batch["market"].tolist()) == {1 if market == "A&B" else 2}
    assert {name: table.size for name, table in made.tables.items()} == {"site": 6, "market": 3}


def test_one_cut_of_time_for_all_domains() -> None:
    time = np.concatenate([np.linspace(0, 60, 50), np.linspace(40, 100, 50)])
    rows = pl.DataFrame({"time": time, "market": ["old"] * 50 + ["new"] * 50, "row": np.arange(100.0)})
    shop = Shop(rows, ids=("market",), labels={"row": "number"}, domain="market")
    made = of_table(shop, ByTime(0.5, 0.7, "span"), ("new/rows",))
    expected = {"train": time < 50, "val": (time >= 50) & (time < 70), "test": time >= 70}
    for split, inside in expected.items():
        assert splits_of(made, "new/rows")[split] == np.flatnonzero(inside & (np.arange(100) >= 50)).tolist()
    with pytest.raises(DataError, match=r"DATA-051 .* val split of stream 'old/rows'"):
        of_table(shop, ByTime(of="span"), ("old/rows",))
    by_rows = of_table(shop, ByTime(0.5, 0.7, of="rows"), ("new/rows",))
    cuts = np.sort(time)[[50, 70]]
    assert splits_of(by_rows, "new/rows")["train"] == (np.flatnonzero(time[50:] < cuts[0]) + 50).tolist()
    assert splits_of(by_rows, "new/rows")["test"] == (np.flatnonzero(time[50:] >= cuts[1]) + 50).tolist()


# Tables


def test_rows_and_baskets_mean_the_same_users_and_items(shop: Shop) -> None:
    rows = shop.rows.with_columns(liked=pl.col("basket") % 2)
    made = made_of(CrossDomain, Shop(rows, shop.items, shop.users, {"liked": "binary"}, ids=("item",)), **SETTINGS)
    made.prepare(["baskets", "rows"])
    assert [feature.name for feature in made.streams["rows"].schema.features] == ["user", "item", "long", "recent"]
    assert set(made.schema(["rows"]).tables) == {"user", "item", "user_age", "item_department", "item_brand"}
    train = rows.filter(pl.col("time") < CUTS[0])
    batch = train_batch(made.streams["rows"])
    assert made.items_of("rows").decode(batch["item"].numpy()).to_list() == train["item"].to_list()
    assert made.users_of("baskets").decode(batch["user"].numpy()).to_list() == train["user"].to_list()


@pytest.mark.parametrize("kind", ["id", "ids"])
def test_a_column_of_rows_may_share_the_table_of_an_attribute(kind: str, shop: Shop) -> None:
    """By a table that both name: equal values are one row of it, whichever of the two has them."""
    assert shop.items is not None
    brands = pl.Series("asked", ["b9", "b8", "b1", None, "b2"])[np.arange(len(shop.rows)) % 5]
    column = brands.alias("asked") if kind == "id" else brands.str.split("|").alias("asked")
    rows = shop.rows.with_columns(column, liked=pl.col("basket") % 2)
    made = made_of(
        CrossDomain,
        Shop(rows, shop.items.rename({"brand": "name"}), labels={"liked": "binary"},
             columns={"asked": Column(kind, table="item_name")}),  # type: ignore[arg-type]
        **SETTINGS,
    )  # fmt: skip
    made.prepare(["baskets", "rows"])
    names = ["b0", "b1", "b2", "b8", "b9"]
    assert made.tables["item_name"].size == len(names) + 1
    batch, train = train_batch(made.streams["rows"]), rows.filter(pl.col("time") < CUTS[0])
    asked = train["asked"] if kind == "id" else train["asked"].list.first()
    numbers = batch["asked"] if kind == "id" else batch["asked"][:, 0]
    assert numbers.tolist() == [0 if value is None else names.index(value) + 1 for value in asked]
    content = made.tables["item"].content["item_name"]
    of_item = dict(shop.items.select("item", "brand").iter_rows())
    assert content[1:].tolist() == [
        0 if (value := of_item[item]) not in names else names.index(value) + 1 for item in made.items_of("baskets").keys
    ]


@pytest.mark.parametrize("kind", ["id", "ids"])
def test_an_attribute_may_be_an_item_itself(kind: str, shop: Shop) -> None:
    """Such as a user's favourite: it takes the item's own row, 0 if training never saw the item."""
    items = pl.Series([200, 401, 999, 227, None])
    users = sorted(set(shop.rows["user"]))
    favourite = items[np.arange(len(users)) % 5].alias("favourite")
    values = favourite if kind == "id" else favourite.cast(pl.String) + "|201"
    column = Column(kind, table="item")  # type: ignore[arg-type]
    whole = Shop(shop.rows, users=pl.DataFrame({"user": users}).with_columns(values),
                 user_columns={"favourite": column})  # fmt: skip
    made = prepared(whole)
    known, item = Past(shop.rows).items, made.tables["item"]
    assert item.size == len(known) + 1
    assert item.entities == len(set(shop.rows["item"])) + 1
    content = made.tables["user"].content["item"]
    first = content[1:] if kind == "id" else content[1:, 0]
    assert first.tolist() == [known.index(value) + 1 if value in known else 0 for value in favourite]
    encoder = Encoder(made.schema(["baskets"]), 4).eval()
    stream = made.streams["baskets"]
    for batch in (train_batch(stream), *stream.evaluation("test")):
        assert encoder(batch, stream.schema, "candidate" in batch).fields.isfinite().all()


# Domains of baskets


def test_a_domain_has_its_own_catalogue_and_shares_the_users(shop: Shop) -> None:
    assert shop.items is not None
    whole, made = prepared(shop), departments(shop)
    items = made.items_of("d0/baskets")
    known = set(Past(shop.rows).items)
    catalogues = []
    for name in DEPARTMENTS:
        assert made.items_of(f"{name}/pairs") is items
        stream = cast(BasketRows, made.streams[f"{name}/baskets"])
        own = shop.items.filter(pl.col("department") == name)["item"]
        catalogue = items.decode(stream.lines.items.numpy()).to_list()
        assert catalogue == sorted(set(own) & known)
        ranked = [batch for batch in stream.evaluation("test") if "relevant" in batch]
        assert ranked
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
    users, known = made.users_of("d1/baskets"), made.items_of("d1/baskets")
    batch, chunks = train_batch(made.streams["d1/baskets"]), past.chunks(SETTINGS["chunk"])
    assert len(batch["user"]) == len(chunks)
    for row, (basket, items, _) in enumerate(chunks):
        user, time, _ = past.baskets[basket]
        assert users.keys[int(batch["user"][row]) - 1] == user
        bought = known.decode(batch["candidate"][row, : len(items)].numpy()).to_list()
        assert bought == items
        history = [0 if not number else past.item(number) for number, _ in past.history(user, time, 6)]
        assert [raw or 0 for raw in known.decode(batch["recent"][row].numpy())] == history


def test_a_domain_is_the_same_whatever_is_prepared_beside_it(shop: Shop) -> None:
    alone = departments(shop, ("d1/baskets",))
    beside = departments(shop)
    one, other = (
        {name: values for name, values in trained(made).items() if name.startswith("d1/baskets")}
        for made in (alone, beside)
    )
    # an attribute has a class for each value that any domain trains on, and so does an embedding: here by raw ids
    same = [name for name in one if name.rpartition("/")[2] not in ("user", "candidate", "recent", "long", "classes")]
    assert {name.rpartition("/")[2] for name in same} >= {"cross", "bought", "recent_age", "lines", "days_since"}
    assert not differing({name: one[name] for name in same}, {name: other[name] for name in same})
    raw = []
    for made in (alone, beside):
        batch, items = train_batch(made.streams["d1/baskets"]), made.items_of("d1/baskets")
        raw.append([items.decode(batch[name].flatten().numpy()) for name in ("candidate", "recent", "long")])
        raw[-1].append(made.users_of("d1/baskets").decode(batch["user"].numpy()))
    assert all(a.equals(b) for a, b in zip(*raw, strict=True))


def test_one_domain_has_no_prefix_and_is_the_long_short_term(shop: Shop) -> None:
    made = prepared(shop, kind=CrossDomain)
    assert list(made.streams) == ["baskets", "pairs", "sequences"]
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
        split, own = Shop(rows, domain="site"), rows.filter(pl.col("site") == "x")
    else:
        assert shop.users is not None
        old = shop.users.filter(pl.col("age") == "old")["user"]
        split = Shop(shop.rows, shop.items, shop.users, domain="age")
        own = shop.rows.filter(pl.col("user").is_in(old.implode()))
    name = "old/baskets" if by == "user" else "x/baskets"
    made = made_of(CrossDomain, split, **SETTINGS)
    made.prepare([name])
    assert made.streams[name].rows == len(Past(own).chunks(SETTINGS["chunk"]))


def test_two_domains_of_one_prefix_are_not_merged_silently() -> None:
    rows = pl.DataFrame({"market": ["A B", "a-b"] * 50, "row": np.arange(100.0)})
    made = made_of(CrossDomain, Shop(rows, labels={"row": "number"}, domain="market"), AtRandom())
    with pytest.raises(UserError, match="A B"):
        made.prepare([])


def test_a_domain_nobody_buys_from_does_not_stop_a_look_at_the_others(shop: Shop) -> None:
    made = made_of(CrossDomain, of_departments(shop), **SETTINGS)
    made.prepare([])  # "a_department_to_come" sold nothing before the cut
    assert "d0/baskets" in made.streams


def test_link_tables_say_who_is_the_same(shop: Shop, tmp_path: Path) -> None:
    """Another shop calls the same users by names of its own, and one of them has no link."""
    mine = shop.rows.with_columns(domain=pl.lit("mine"))
    theirs = mine.with_columns(user="their " + pl.col("user"), time=DAYS - pl.col("time"), domain=pl.lit("theirs"))
    whole = Shop(pl.concat([mine, theirs]))
    links = pl.DataFrame({"own": [f"their u{n:02d}" for n in range(29)], "other": [f"u{n:02d}" for n in range(29)]})
    links.write_csv(tmp_path / "links.csv")
    made = made_of(
        CrossDomain, whole, links={"theirs": {"user": str(tmp_path / "links.csv")}}, overlap_users=1.0, **SETTINGS
    )
    made.prepare(["mine/baskets", "theirs/baskets"])
    everybody = made.users_of("mine/baskets")
    assert everybody is made.users_of("theirs/baskets")
    batch = train_batch(made.streams["theirs/baskets"])
    assert set(everybody.decode(batch["user"].numpy())) == {f"u{number:02d}" for number in range(29)} | {
        f"their {user}" for user in ("u29", *LATE_USERS)
    }
    assert "mine and theirs have in common: 29 users" in " ".join(made.card["notes"])
    pl.DataFrame({"own": ["their u00", "their u01"], "other": ["u00", "u00"]}).write_csv(tmp_path / "links.csv")
    with pytest.raises(DataError, match="DATA-044 theirs: the link table gives two users"):
        made.prepare([])


@pytest.mark.parametrize("named", ["brand", "maker"])
def test_platforms_share_a_table_of_that_name_only_if_it_is_declared(named: str, shop: Shop) -> None:
    """Be the name the column's own, or one that it gives its table."""
    columns = {"brand": Column("id", table="" if named == "brand" else named)}
    parts = {
        name: Shop(shop.rows[number:], shop.items, item_columns=columns) for number, name in enumerate(("one", "two"))
    }
    table = "item_brand" if named == "brand" else named
    for shared in ((), (named,)):
        made = prepared(Several(parts), kind=CrossPlatform, shared=shared)
        own = {name: made.schema([f"{name}/baskets"]).tables for name in parts}
        assert set(own["one"]) & set(own["two"]) == ({table} if shared else set())
        assert {table, "one/user", "one/item"} <= set(own["one"]) or {f"one/{table}"} <= set(own["one"])
    with pytest.raises(UserError, match=r"protocol\.shared: no platform has a column 'nothing'"):
        prepared(Several(parts), kind=CrossPlatform, shared=("nothing",))


def test_platforms_share_who_is_linked(shop: Shop, tmp_path: Path) -> None:
    pl.DataFrame({"two": ["u00", "u01"], "one": ["u01", "u05"]}).write_csv(tmp_path / "links.csv")
    parts = Several({name: Shop(shop.rows[number:]) for number, name in enumerate(("one", "two"))})
    made = prepared(parts, kind=CrossPlatform, links={"two": {"user": str(tmp_path / "links.csv")}})
    own = {name: made.schema([f"{name}/baskets"]).tables for name in ("one", "two")}
    assert set(own["one"]) & set(own["two"]) == {"user"}
    people = [set(made.users_of(f"{name}/baskets").decode(train_batch(made.streams[f"{name}/baskets"])["user"].numpy()))
              for name in own]  # fmt: skip
    assert people[0] & people[1] == {"u01", "u05"}
    assert people[1] > {"u01", "u05", "u02@two"}  # who is not linked is another, of the same name


@pytest.mark.parametrize("split", ["", "test"])
def test_only_listed_candidates_are_ranked(split: str, shop: Shop, tmp_path: Path) -> None:
    """Beside what a user chose; the lists speak of raw ids, whatever these are called among domains."""
    everybody, every = sorted(set(shop.rows["user"])), sorted(set(shop.rows["item"]))
    pairs = [(user, item) for number, user in enumerate(everybody) for item in [*every[number % 5 :: 5], 999]]
    frame = pl.DataFrame(pairs, schema=["user", "item"], orient="row")
    if split:
        frame = frame.with_columns(split=pl.lit(split))
    frame.write_csv(tmp_path / "lists.csv")
    whole = Shop(shop.rows.with_columns(site=pl.col("basket").cast(pl.Int64) % 2), domain="site")
    made = prepared(whole, kind=CrossDomain, lists=str(tmp_path / "lists.csv"), overlap_users=0.5, overlap_items=0.5)
    seen = alone = 0
    for name in ("0/baskets", "1/baskets"):
        users, items = made.users_of(name), made.items_of(name)
        for stage in ("val", "test"):
            for batch in made.streams[name].evaluation(stage):  # type: ignore[arg-type]
                if "relevant" not in batch:
                    continue
                assert ("listed" in batch) == (split != "test" or stage == "test")
                if "listed" not in batch:
                    continue
                catalogue = [
                    item.partition("@")[0] for item in items.decode(batch["catalogue"].numpy()).cast(pl.String)
                ]
                for row, user in enumerate(users.decode(batch["query"].numpy())):
                    own = {str(item) for who, item in pairs if who == user.partition("@")[0]}
                    if not batch["relevant"][row].any():  # whoever has no other candidate has no answer either
                        alone += 1
                        continue
                    expected = [
                        item in own or hit for item, hit in zip(catalogue, batch["relevant"][row].tolist(), strict=True)
                    ]
                    assert batch["listed"][row].tolist() == expected
                    seen += "@" in user
    assert seen > 10
    counts = [re.search(r": (\d+) of \d+ users of the .* no other candidate", note) for note in made.card["notes"]]
    assert alone == sum(int(found[1]) for found in counts if found)


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
    assert not card["stamps"]


@pytest.mark.parametrize("split", [LeaveLastOut(), AtRandom()])
def test_the_card_says_what_is_not_safe_in_time(split: Split, shop: Shop) -> None:
    assert prepared(shop, split).card["stamps"] == [split.stamp]
    assert split.stamp.startswith("not time-safe")


def test_the_fingerprint_is_of_the_rows_and_not_of_their_order(shop: Shop) -> None:
    def fingerprint(rows: pl.DataFrame) -> str:
        return str(prepared(shop.with_rows(rows)).card["fingerprint"])

    first = fingerprint(shop.rows)
    assert len(first) == 20
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
                assert int(values.max()) < both.tables[feature.table].entities
            else:
                assert values.dtype == torch.float32
        for label in stream.labels:
            assert label.name in batch
            if label.kind == "category":
                assert int(batch[label.name].min()) >= -1
                assert int(batch[label.name].max()) < label.classes
        if stream.cross:
            assert batch["cross"].shape == (*batch["candidate"].shape, len(stream.cross))


def test_more_negatives_than_memory_holds_are_refused_by_name(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is drawn: the sample that scales are fitted on would take as much as a batch."""
    monkeypatch.setattr("graftrec.data.protocols.base.memory", lambda: 10_000_000_000)
    made = made_of(CrossDomain, shop, **{**SETTINGS, "negatives": 2_000_000})
    with pytest.raises(
        UserError, match=r"candidates.negatives=2,000,000: [\d,]+ rows .* GB.*this machine has 10 GB; set"
    ):
        made.prepare(["baskets"])
    assert not made.streams
    made.prepare(["pairs"])  # which draw none
    made_of(CrossDomain, shop, **{**SETTINGS, "negatives": 100}).prepare(["baskets"])
