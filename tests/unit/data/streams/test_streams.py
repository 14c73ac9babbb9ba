"""Baskets, pairs and plain rows against slow answers from the lines of a small shop."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
import torch

from graftrec.data.batch import Batch
from graftrec.data.features.train_statistics import Fitted
from graftrec.data.protocols.base import Protocol
from graftrec.data.protocols.cross_domain import CrossDomain
from graftrec.data.splits.temporal import ByTime
from graftrec.data.streams import rows as plain
from graftrec.data.streams.base import Stage, StreamData
from graftrec.data.streams.baskets import BasketRows
from graftrec.data.streams.pairs import PairRows
from graftrec.data.streams.rows import Place, TableRows
from graftrec.data.tables.builder import interactions
from graftrec.data.tables.entities import Entities
from graftrec.data.tables.interactions import Column
from shop import (
    CUTS,
    DAYS,
    LATE_ITEMS,
    LATE_USERS,
    SETTINGS,
    Past,
    Shop,
    differing,
    everything,
    made_of,
    open_shop,
    prepared,
    train_batch,
    trained,
)

STAGES: list[Stage] = ["val", "test"]
START = {"val": CUTS[0], "test": CUTS[1]}


@pytest.fixture(scope="module")
def shop() -> Shop:
    return open_shop()


@pytest.fixture(scope="module")
def past(shop: Shop) -> Past:
    return Past(shop.rows)


@pytest.fixture(scope="module")
def fresh_states(shop: Shop) -> Protocol:
    """Training rows see everything up to their basket."""
    return prepared(shop, lag=0.0)


@pytest.fixture(scope="module")
def protocol(shop: Shop) -> Protocol:
    return prepared(shop)


def baskets(protocol: Protocol) -> BasketRows:
    return cast(BasketRows, protocol.streams["baskets"])


def attributes(shop: Shop) -> dict[str, dict[int, str | None]]:
    assert shop.items is not None
    return {name: dict(zip(shop.items["item"], shop.items[name], strict=True)) for name in ("department", "brand")}


def straightened(columns: torch.Tensor, raw: np.ndarray) -> np.ndarray:
    """Standardised columns (n, K) on the scale of the raw ones: one mean and one spread for all rows of a column."""
    found = columns.double().numpy().copy()
    for k in range(raw.shape[1]):
        slope, intercept = np.polyfit(found[:, k], raw[:, k], 1) if np.ptp(raw[:, k]) > 1e-6 else (1.0, raw[0, k])
        assert slope > 0
        found[:, k] = found[:, k] * slope + intercept
    return found


# Training rows of baskets


def test_a_row_is_a_chunk_of_distinct_items_of_one_training_basket(past: Past, fresh_states: Protocol) -> None:
    stream, size = baskets(fresh_states), SETTINGS["chunk"]
    batch, chunks = train_batch(stream), past.chunks(size)
    assert stream.rows == len(chunks) == len(batch["user"])
    assert len({len(items) for _, items, _ in chunks}) == size  # full ones and both kinds of rest
    for row, (basket, items, _) in enumerate(chunks):
        user, time, _ = past.baskets[basket]
        assert time < CUTS[0]
        assert int(batch["user"][row]) == past.who(user) > 0
        bought = [past.number(item) for item in items]
        assert batch["candidate"][row, :size].tolist() == bought + [0] * (size - len(bought))
        assert batch["bought"][row, : len(bought)].tolist() == [1.0] * len(bought)
        assert batch["bought"][row, len(bought) : size].isnan().all()


def test_negatives_are_of_the_catalogue_and_never_of_the_basket(past: Past, protocol: Protocol) -> None:
    size, drawn = SETTINGS["chunk"], Counter[int]()
    batch = train_batch(baskets(protocol))
    hits = 0
    for row, (basket, _, _) in enumerate(past.chunks(size)):
        inside = {past.number(item) for item in past.baskets[basket][2]}  # of other chunks as well
        items, labels = batch["candidate"][row, size:].tolist(), batch["bought"][row, size:].tolist()
        assert len(items) == SETTINGS["negatives"]
        drawn.update(items)
        for item, label in zip(items, labels, strict=True):
            assert math.isnan(label) if item in inside else label == 0.0
            hits += item in inside
    assert hits > 100  # small catalogue: it does happen
    assert set(drawn) == {past.number(item) for item in past.items}
    assert max(drawn.values()) < 2 * min(drawn.values())  # uniformly


def test_history_and_counts_end_before_the_basket(past: Past, shop: Shop, fresh_states: Protocol) -> None:
    stream = baskets(fresh_states)
    assert list(stream.cross.names) == list(past.cross("u00", past.items[0], 1.0, attributes(shop)))
    batch, chunks = train_batch(stream), past.chunks(SETTINGS["chunk"])
    raw, found = [], []
    for row in range(0, len(chunks), 9):
        user, time, _ = past.baskets[chunks[row][0]]
        recent = past.history(user, time, SETTINGS["short"])
        assert batch["recent"][row].tolist() == [item for item, _ in recent]
        assert batch["recent_age"][row].tolist() == pytest.approx([math.log1p(age) for _, age in recent], abs=1e-5)
        assert batch["long"][row].tolist() == [item for item, _ in past.history(user, time, SETTINGS["long"])]
        for place, number in enumerate(batch["candidate"][row].tolist()):
            if number:
                raw.append(list(past.cross(user, past.item(number), time, attributes(shop)).values()))
                found.append(batch["cross"][row, place])
    table = np.array(raw)
    assert straightened(torch.stack(found), table) == pytest.approx(table, abs=2e-3)


def test_numbers_of_the_user_end_before_the_basket(past: Past, fresh_states: Protocol) -> None:
    batch, raw = train_batch(baskets(fresh_states)), []
    for basket, _, _ in past.chunks(SETTINGS["chunk"]):
        user, time, _ = past.baskets[basket]
        ages = [time - when for who, _, when, _ in past.lines if who == user and when < time]
        since = min([*ages, 60.0])
        raw.append([math.log1p(len(ages)), math.log1p(sum(2 ** (-age / 30) for age in ages)), math.log1p(since)])
    columns = torch.stack([batch[name] for name in ("lines", "lines_30", "days_since")], 1)
    assert straightened(columns, np.array(raw)) == pytest.approx(np.array(raw), abs=1e-3)
    assert columns.mean(0).abs().max() < 0.3  # standardised on training rows
    assert (columns.std(0) - 1).abs().max() < 0.3


def test_a_lagged_state_is_as_old_as_the_window_of_validation_at_most(past: Past, protocol: Protocol) -> None:
    """The age of the newest event says when the state was taken; all else has to agree with that moment."""
    batch, lag, lags = train_batch(baskets(protocol)), CUTS[1] - CUTS[0], []
    for row, (basket, _, _) in enumerate(past.chunks(SETTINGS["chunk"])):
        user, time, _ = past.baskets[basket]
        own = [when for who, _, when, _ in past.lines if who == user and when < time]
        recent, ages = batch["recent"][row].tolist(), batch["recent_age"][row].double().expm1().tolist()
        if not recent[-1]:
            assert not any(when < time - lag for when in own)
            assert not batch["long"][row].any()
            continue
        moments = {when + ages[-1] for when in own if time - lag - 1e-3 <= when + ages[-1] <= time + 1e-3}
        agreeing = [
            moment
            for moment in moments
            if [item for item, _ in past.history(user, moment, len(recent))] == recent
            and [age for _, age in past.history(user, moment, len(recent))] == pytest.approx(ages, abs=1e-3)
            and [item for item, _ in past.history(user, moment, SETTINGS["long"])] == batch["long"][row].tolist()
        ]
        assert agreeing
        lags.append(time - agreeing[0])
    assert len(lags) > 300
    assert 0.4 * lag < float(np.mean(lags)) < 0.6 * lag  # uniform in [0, lag]
    assert min(lags) < 0.05 * lag
    assert max(lags) > 0.95 * lag


def test_next_labels_are_of_one_line_of_the_basket_and_only_in_its_first_chunk(
    past: Past, shop: Shop, protocol: Protocol
) -> None:
    stream = baskets(protocol)
    assert [label.name for label in stream.schema.labels] == ["bought", "next_department", "next_brand"]
    batch, seen = train_batch(stream), Counter[str]()
    for name, of in attributes(shop).items():
        known = sorted({value for item in past.items if (value := of[item]) is not None})
        assert stream.schema.label(f"next_{name}").classes == len(known)
        label = batch[f"next_{name}"]
        assert torch.equal(label, stream.labels(f"next_{name}"))
        for row, (basket, _, opens) in enumerate(past.chunks(SETTINGS["chunk"])):
            values = {of[item] for item in past.baskets[basket][2]}
            allowed = {-1 if value is None else known.index(value) for value in values} if opens else {-1}
            assert int(label[row]) in allowed
            seen["missing, not the first chunk"] += not opens
            seen[f"{name} missing in a first chunk"] += opens and int(label[row]) == -1
    assert seen["missing, not the first chunk"] > 100
    assert seen["brand missing in a first chunk"] > 10
    assert seen["department missing in a first chunk"] == 0


# Evaluation of baskets


@pytest.mark.parametrize("stage", STAGES)
def test_the_state_is_frozen_at_the_cut(stage: Stage, past: Past, shop: Shop, protocol: Protocol) -> None:
    stream, cut = baskets(protocol), START[stage]
    everybody = past.everybody
    inside = {b: v for b, v in past.baskets.items() if past.window(v[1]) == 1 + STAGES.index(stage)}
    batches = list(stream.evaluation(stage))
    predicted = [batch for batch in batches if "relevant" not in batch]
    ranked = [batch for batch in batches if "relevant" in batch]
    assert stream.splits[stage] == len(inside) == sum(len(batch["user"]) for batch in predicted)

    # every basket once, in the order of their ids, for the labels of its next line
    row = 0
    for batch in predicted:
        for at in range(len(batch["user"])):
            user, _, items = list(inside.values())[row]
            assert int(batch["user"][at]) == past.who(user)
            history = past.history(user, cut, SETTINGS["short"])
            assert batch["recent"][at].tolist() == [item for item, _ in history]
            departments = {attributes(shop)["department"][item] for item in items}
            assert f"d{int(batch['next_department'][at])}" in departments
            row += 1

    # every user of the window once, strangers among them
    users = torch.cat([batch["query"] for batch in ranked]).tolist()
    assert [everybody[number - 1] for number in users] == sorted({user for user, _, _ in inside.values()})
    assert set(LATE_USERS) & {everybody[number - 1] for number in users}
    raw, found = [], []
    choices = [(u, i) for u, i, t, _ in past.lines if t < START["val"]]
    share = {i: len({u for u, j in choices if j == i}) / len({u for u, _ in choices}) for i in past.items}
    for batch in ranked:
        assert batch["popularity"].tolist() == pytest.approx([share[item] for item in past.items])
        assert batch["catalogue"].tolist() == [past.number(item) for item in past.items]
        for at, number in enumerate(batch["query"].tolist()):
            user = everybody[number - 1]
            assert int(batch["user"][at]) == past.who(user)
            history = past.history(user, cut, SETTINGS["short"])
            assert batch["recent"][at].tolist() == [item for item, _ in history]
            assert batch["recent_age"][at].tolist() == pytest.approx([math.log1p(age) for _, age in history], abs=1e-5)
            before = {i for u, i, t, _ in past.lines if u == user and t < cut}
            window = {i for b, (u, _, items) in inside.items() if u == user for i in items}
            assert batch["relevant"][at].tolist() == [item in window for item in past.items]
            assert batch["fresh"][at].tolist() == [item not in before for item in past.items]
            assert int(batch["history"][at]) == len([u for u, _, t, _ in past.lines if u == user and t < cut])
            own = sum(share[item] for item in before) / len(before) if before else math.nan
            assert float(batch["own_popularity"][at]) == pytest.approx(own, nan_ok=True)
            for place in range(at % 4, len(past.items), 4):
                raw.append(list(past.cross(user, past.items[place], cut, attributes(shop)).values()))
                found.append(batch["cross"][at, place])
    table = np.array(raw)
    assert straightened(torch.stack(found), table) == pytest.approx(table, abs=2e-3)


def test_evaluation_and_training_are_on_one_scale(past: Past, shop: Shop, fresh_states: Protocol) -> None:
    """The scale of the training rows, not one of each stage."""
    stream = baskets(fresh_states)
    batch, chunks = train_batch(stream), past.chunks(SETTINGS["chunk"])
    ranked = next(batch for batch in stream.evaluation("test") if "relevant" in batch)
    everybody = sorted(set(shop.rows["user"]))
    raw, found = [], []
    for row in range(0, len(chunks), 40):
        user, time, _ = past.baskets[chunks[row][0]]
        raw.append(list(past.cross(user, chunks[row][1][0], time, attributes(shop)).values()))
        found.append(batch["cross"][row, 0])
    for at, number in enumerate(ranked["query"].tolist()):
        raw.append(list(past.cross(everybody[number - 1], past.items[3], CUTS[1], attributes(shop)).values()))
        found.append(ranked["cross"][at, 3])
    table = np.array(raw)
    assert straightened(torch.stack(found), table) == pytest.approx(table, abs=2e-3)


def test_few_users_at_once_rank_the_same(protocol: Protocol, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = baskets(protocol)
    whole = [batch for batch in stream.evaluation("test") if "relevant" in batch]
    monkeypatch.setattr(BasketRows, "ranked_at_once", 4)
    parts = [batch for batch in stream.evaluation("test") if "relevant" in batch]
    assert len(whole) == 1
    assert len(parts) > 3
    for name, values in whole[0].items():
        once = name in ("catalogue", "cold_item", "popularity")
        together = parts[0][name] if once else torch.cat([part[name] for part in parts])
        torch.testing.assert_close(values, together, rtol=0, atol=0, equal_nan=True)


# What the catalogue and the tables know


def test_items_and_users_after_the_cut_are_unknown(shop: Shop, past: Past, protocol: Protocol) -> None:
    """They have a number, and no row of an embedding."""
    items, users = protocol.items_of("baskets"), protocol.users_of("baskets")
    assert items.keys.to_list() == past.every_item
    assert users.keys.to_list() == past.everybody
    assert not set(LATE_ITEMS) & set(past.items)
    stream = baskets(protocol)
    assert stream.lines.items.tolist() == [past.number(item) for item in past.items]
    for name, known, every in (("item", past.items, past.every_item), ("user", past.users, past.everybody)):
        table = protocol.tables[name]
        assert table.size == len(known) + 1
        assert table.entities == len(every) + 1
        assert table.rows is not None
        assert table.rows.tolist() == [0] + [known.index(key) + 1 if key in known else 0 for key in every]  # type: ignore[arg-type]
    late = [past.who(user) for user in LATE_USERS]
    ranked = next(batch for batch in stream.evaluation("test") if "relevant" in batch)
    rows = [row for row, number in enumerate(ranked["query"].tolist()) if number in late]
    assert len(rows) == len(LATE_USERS)
    assert ranked["cold_user"].nonzero().squeeze(1).tolist() == rows
    assert not ranked["cold_item"].any()
    assert ranked["relevant"][rows].any(1).all()
    bought_before = [row for row in rows if ranked["recent"][row].any()]
    assert bought_before  # in the validation window: their history is known, their row is not


def test_attributes_are_numbered_by_what_training_saw(shop: Shop, past: Past, protocol: Protocol) -> None:
    for name, of in attributes(shop).items():
        known = sorted({value for item in past.items if (value := of[item]) is not None})
        assert protocol.tables[f"item_{name}"].size == len(known) + 1
        content = protocol.tables["item"].content[f"item_{name}"]
        values = [of[item] for item in past.every_item]
        assert content.tolist() == [0] + [known.index(value) + 1 if value in known else 0 for value in values]
    assert shop.users is not None
    age = dict(shop.users.iter_rows())
    assert protocol.tables["user_age"].size == 3  # "a_new_age" is of users whom training never saw
    expected = [{"old": 1, "young": 2}.get(age.get(user, ""), 0) for user in past.everybody]
    assert protocol.tables["user"].content["user_age"].tolist() == [0, *expected]
    assert 0 in expected  # some have no row in the file of users


def test_an_attribute_without_a_value_has_no_label_and_one_without_any_works(shop: Shop) -> None:
    assert shop.items is not None
    items = shop.items.with_columns(pl.lit("one").alias("brand"), pl.lit(None).alias("empty"))
    made = prepared(Shop(shop.rows, items), negatives=2)
    assert [label.name for label in baskets(made).schema.labels] == ["bought", "next_department"]
    assert made.tables["item_empty"].size == 1
    assert not made.tables["item"].content["item_empty"].any()
    assert all(
        batch["cross"].isfinite().all() for batch in made.streams["baskets"].evaluation("val") if "cross" in batch
    )


def test_min_users_counts_distinct_users_before_the_cut(shop: Shop) -> None:
    added = (
        (900, ["u00", "u00", "u01"], [1.0, 2.0, 3.0]),
        (901, ["u00", "u01", "u02"], [1.0, 2.0, 85.0]),
        (902, ["u03", "u04", "u05"], [1.0, 2.0, 3.5]),
    )
    lines = [pl.DataFrame({"user": users, "item": [item] * 3, "time": times}) for item, users, times in added]
    rows = pl.concat([shop.rows.drop("basket"), *lines])
    rows = rows.with_columns(pl.struct("user", "time").rank("dense").cast(pl.Int64).alias("basket"))
    made = prepared(shop.with_rows(rows), min_users=3)
    catalogue = made.items_of("baskets").decode(baskets(made).lines.items.numpy()).to_list()
    assert {900, 901, 902} & set(catalogue) == {902}
    rows_of_items = made.tables["item"].rows
    assert rows_of_items is not None
    assert torch.nonzero(rows_of_items).squeeze(1).tolist() == baskets(made).lines.items.tolist()


def test_without_baskets_the_lines_of_one_user_and_time_are_one(shop: Shop) -> None:
    made = prepared(shop.with_rows(shop.rows.drop("basket")))
    named = shop.rows.with_columns(pl.struct("user", "time").rank("dense").cast(pl.Int64).alias("basket"))
    past = Past(named)
    batch, chunks = train_batch(baskets(made)), past.chunks(SETTINGS["chunk"])
    expected = [
        (past.who(past.baskets[basket][0]), [past.number(item) for item in items]) for basket, items, _ in chunks
    ]
    size = SETTINGS["chunk"]
    got = [
        (int(user), [item for item in candidates if item])
        for user, candidates in zip(batch["user"], batch["candidate"][:, :size].tolist(), strict=True)
    ]
    assert got == expected


def test_attributes_of_ids_of_another_type_are_of_no_item(shop: Shop) -> None:
    items = pl.DataFrame({"item": ["200", "a coupon"], "brand": ["p", "q"]})
    made = prepared(Shop(shop.rows, items))
    assert made.tables["item_brand"].size == 2
    assert int(made.tables["item"].content["item_brand"].sum()) == 1


# Leaks


def test_nothing_after_the_cut_changes_training(shop: Shop) -> None:
    """Who, what and with what: baskets after the cut are other people's, of other items."""
    late = pl.col("time") >= CUTS[0]
    changed = shop.rows.with_columns(
        pl.when(late).then(pl.concat_str(pl.lit("n"), pl.col("basket"))).otherwise("user").alias("user"),
        pl.when(late).then(pl.col("item").reverse()).otherwise("item").alias("item"),
    )
    assert not changed.equals(shop.rows)
    assert not differing(trained(prepared(shop)), trained(prepared(shop.with_rows(changed))))


def test_what_remains_after_the_cut_does_not_change_training(shop: Shop) -> None:
    """One line has to stay, since the cut is a share of the time span."""
    left = shop.rows.filter((pl.col("time") < CUTS[0]) | (pl.col("basket") == 20_001))
    assert not differing(trained(prepared(shop)), trained(prepared(shop.with_rows(left))))


def test_the_test_window_does_not_change_validation(shop: Shop) -> None:
    left = shop.rows.filter((pl.col("time") < CUTS[1]) | (pl.col("basket") == 20_001))

    def validation(made: Protocol) -> dict[str, torch.Tensor]:
        batch = next(batch for batch in made.streams["baskets"].evaluation("val") if "relevant" in batch)
        known = (batch["user"] > 0).nonzero().squeeze(1)
        shown = {name: batch[name][known] for name in ("user", "recent", "long", "relevant", "fresh", "cross", "lines")}
        pairs = next(made.streams["pairs"].evaluation("val"))
        return shown | {f"pairs/{name}": values for name, values in pairs.items()}

    assert not differing(validation(prepared(shop)), validation(prepared(shop.with_rows(left))))


def test_the_order_of_lines_in_files_is_no_matter(shop: Shop) -> None:
    assert shop.items is not None
    assert shop.users is not None
    expected = everything(prepared(shop))
    for seed in (1, 2):
        mixed = Shop(
            shop.rows.sample(fraction=1, shuffle=True, seed=seed),
            shop.items.sample(fraction=1, shuffle=True, seed=seed),
            shop.users.sample(fraction=1, shuffle=True, seed=seed),
        )
        assert not mixed.rows.equals(shop.rows)
        assert not differing(expected, everything(prepared(mixed)))


def test_the_order_inside_baskets_is_no_matter(shop: Shop) -> None:
    turned = shop.rows.with_row_index("at").sort("basket", -pl.col("at").cast(pl.Int64), maintain_order=True).drop("at")
    assert not differing(everything(prepared(shop)), everything(prepared(shop.with_rows(turned))))


def test_the_split_seed_draws_next_labels_and_nothing_of_a_split(shop: Shop) -> None:
    one, other = prepared(shop), prepared(shop, ByTime(of="span", seed=1))
    assert one.card["splits"] == other.card["splits"]
    changed = differing(trained(one), trained(other))
    assert "baskets/label/next_department" in changed
    assert "baskets/0/bought" not in changed
    assert "baskets/0/candidate" not in changed


def test_baskets_numbered_anew_for_each_user_stay_apart(shop: Shop) -> None:
    rows = shop.rows.with_columns(pl.col("basket").rank("dense").over("user").cast(pl.Int64).alias("basket"))
    apart = rows.with_columns(pl.struct("user", "basket").rank("dense").cast(pl.Int64).alias("basket"))
    assert sorted(bought(prepared(shop.with_rows(rows)))) == sorted(bought(prepared(shop.with_rows(apart))))


def test_a_basket_of_several_moments_does_not_see_itself(shop: Shop) -> None:
    once = pl.DataFrame(
        {"user": ["once"] * 4, "item": [200, 201, 202, 203], "time": [40.0, 40.0, 41.0, 42.0], "basket": [77_777] * 4}
    )
    made = prepared(shop.with_rows(pl.concat([shop.rows, once])), lag=0.0)
    batch, items = train_batch(baskets(made)), made.items_of("baskets")
    number = made.users_of("baskets").keys.index_of("once")
    assert number is not None
    seen = [
        (set(items.decode(batch["candidate"][row][batch["bought"][row] == 1].numpy())),
         {item for item in items.decode(batch["recent"][row].numpy()) if item})
        for row in (batch["user"] == number + 1).nonzero().squeeze(1).tolist()
    ]  # fmt: skip
    assert seen == [({200, 201}, set()), ({202}, {200, 201}), ({203}, {200, 201, 202})]  # a row for each moment


def bought(protocol: Protocol) -> list[tuple[int, ...]]:
    """User and items of all training rows."""
    batch = train_batch(baskets(protocol))
    return [
        (int(u), *c) for u, c in zip(batch["user"], batch["candidate"][:, : SETTINGS["chunk"]].tolist(), strict=True)
    ]


# Pairs


def similarities(past: Past, window: int) -> dict[tuple[int, int], tuple[int, float]]:
    """Support and cosine of all pairs of items in the baskets of a window."""
    inside = [set(items) for _, time, items in past.baskets.values() if past.window(time) == window]
    count = Counter(item for items in inside for item in items)
    both = Counter(pair for items in inside for pair in combinations(sorted(items), 2))
    return {
        (past.number(a), past.number(b)): (support, support / math.sqrt(count[a] * count[b]))
        for (a, b), support in both.items()
    }


def test_training_pairs_are_counted_before_the_cut(past: Past, protocol: Protocol) -> None:
    stream = protocol.streams["pairs"]
    expected = {pair: cosine for pair, (support, cosine) in similarities(past, 0).items() if support >= 2}
    batch = train_batch(stream)
    assert stream.rows == len(expected)
    a, b = batch["item"].tolist(), batch["candidate"][:, 0].tolist()
    label = batch["similarity"][:, 0].tolist()
    assert list(zip(a, b, strict=True))[: stream.rows] == sorted(expected)
    assert len(a) == 2 * stream.rows
    assert label[: stream.rows] == stream.labels("similarity").tolist()
    kinds = Counter[str]()
    for one, other, value in zip(a, b, label, strict=True):
        if one == other:
            assert math.isnan(value)
        else:
            assert value == pytest.approx(expected.get((min(one, other), max(one, other)), 0.0), rel=1e-6)
        kinds["same" if one == other else "turned" if one > other else "straight"] += 1
    assert min(kinds["same"], kinds["turned"]) > 0
    assert 0.0 in label  # pairs never bought together


@pytest.mark.parametrize("stage", STAGES)
def test_held_out_pairs_are_counted_in_their_own_window(stage: Stage, past: Past, protocol: Protocol) -> None:
    stream = protocol.streams["pairs"]
    own, before = similarities(past, 1 + STAGES.index(stage)), similarities(past, 0)
    expected = {pair: cosine for pair, (support, cosine) in own.items() if support >= 5}
    assert stream.splits[stage] == len(expected) > 10
    (batch,) = stream.evaluation(stage)
    pairs = list(zip(batch["item"].tolist(), batch["candidate"][:, 0].tolist(), strict=True))
    assert pairs == sorted(expected)
    assert batch["similarity"][:, 0].tolist() == pytest.approx([expected[pair] for pair in pairs], rel=1e-6)
    assert stream.baselines == ("training_similarity",)
    support = [before.get(pair, (0, 0.0)) for pair in pairs]
    reference = [cosine if count >= 2 else 0.0 for count, cosine in support]
    assert batch["training_similarity"].tolist() == pytest.approx(reference, rel=1e-6)


def test_many_held_out_pairs_come_in_parts_with_each_pair_once() -> None:
    items = 400  # 79,800 pairs
    item = torch.arange(1, items + 1).repeat(7)
    basket = torch.arange(7).repeat_interleave(items)
    window = torch.tensor([0, 0, 1, 1, 1, 1, 1]).repeat_interleave(items)
    stream = PairRows("pairs", basket, item, window, torch.arange(1, items + 1), 0, reach=items)
    batches = list(stream.evaluation("val"))
    assert [len(batch["item"]) for batch in batches] == [65_536, 79_800 - 65_536]
    pairs = torch.stack([torch.cat([b["item"] for b in batches]), torch.cat([b["candidate"][:, 0] for b in batches])])
    assert torch.equal(pairs, torch.triu_indices(items, items, 1) + 1)
    assert not list(stream.evaluation("test"))


# Plain rows


def table_rows() -> TableRows:
    n = 30
    row = np.arange(n)
    frame = pl.DataFrame({"site": row, "device": row + 100, "age": row / 2, "click": row % 2, "rating": -row})
    columns = {"site": Column("id"), "age": Column("number"), "device": Column("id")}
    data = interactions("table", frame, columns, {"click": "binary", "rating": "number"})
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0)).numpy()
    splits = {"train": order[:20], "val": order[20:27], "test": order[27:]}
    part = np.full(n, 0, np.int8)
    keys = dict(zip(data.ids, data.id_keys, strict=True))
    places = {name: Place(name, Entities([of_name]).table(of_name)) for name, of_name in keys.items()}
    fitted = Fitted(data, part)
    fitted.mean[:], fitted.spread[:] = 0.0, 1.0
    return TableRows("rows", data, splits, fitted, places, {}, None, None, 0)


def check_rows(batch: Batch) -> list[int]:
    """Row numbers of a batch, all of whose columns say the same ones."""
    row = batch["site"] - 1  # numbers from 1, in the order of the ids
    assert torch.equal(batch["device"], row + 1)
    assert torch.equal(batch["age"], row.float() / 2)
    assert torch.equal(batch["click"], (row % 2).float())
    assert torch.equal(batch["rating"], -row.float())
    return cast(list[int], row.tolist())


def test_rows_of_a_table_are_each_in_one_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "EVALUATED_AT_ONCE", 4)
    stream = table_rows()
    train = check_rows(train_batch(stream))
    held_out = {stage: [row for batch in stream.evaluation(stage) for row in check_rows(batch)] for stage in STAGES}
    assert sorted(train + held_out["val"] + held_out["test"]) == list(range(30))
    assert stream.splits == {"train": 20, "val": 7, "test": 3}
    assert [len(batch["site"]) for batch in stream.evaluation("val")] == [4, 3]
    assert stream.labels("rating").tolist() == [-row for row in train]
    assert check_rows(stream.batch(torch.tensor([3, 3, 1]), torch.Generator())) == [train[3], train[3], train[1]]
    assert set(check_rows(stream.sample)) <= set(train)


def table_shop(seed: int = 0) -> Shop:
    """Rows with ids, numbers and labels, some of them missing or new after the cut."""
    random = np.random.default_rng(seed)
    n = 400
    time = random.permutation(n) / (n - 1) * DAYS
    site = [f"s{number}" for number in random.integers(0, 6, n)]
    site = [
        "new" if when >= CUTS[0] and number % 5 == 0 else value
        for number, (value, when) in enumerate(zip(site, time, strict=True))
    ]
    price = [None if number % 7 == 0 else float(value) for number, value in enumerate(random.normal(50, 8, n))]
    price = [
        None if value is None else value + 1000 * (when >= CUTS[0]) for value, when in zip(price, time, strict=True)
    ]
    click = [None if number % 11 == 0 else float(value) for number, value in enumerate(random.integers(0, 2, n))]
    rows = pl.DataFrame({"time": time, "site": site, "price": price, "click": click})
    return Shop(rows, ids=("site",), numbers=("price",), labels={"click": "binary"})


def test_rows_of_a_dataset_against_its_lines() -> None:
    shop = table_shop()
    made = made_of(CrossDomain, shop)
    made.prepare(["rows"])
    stream = made.streams["rows"]
    batches = {"train": train_batch(stream), **{stage: next(stream.evaluation(stage)) for stage in STAGES}}
    windows = {"train": (-1.0, CUTS[0]), "val": CUTS, "test": (CUTS[1], math.inf)}
    train = shop.rows.filter(pl.col("time") < CUTS[0])
    known = sorted(set(train["site"]))
    prices = [value for value in train["price"] if value is not None]
    mean, spread = float(np.mean(prices)), float(np.std(prices))
    assert made.tables["site"].size == len(known) + 1 == 7
    for name, (low, high) in windows.items():
        lines = shop.rows.filter((pl.col("time") >= low) & (pl.col("time") < high))
        expected: list[dict[str, Any]] = [
            {
                "site": known.index(line["site"]) + 1 if line["site"] in known else 0,
                "price": 0.0 if line["price"] is None else (line["price"] - mean) / spread,
                "click": math.nan if line["click"] is None else line["click"],
            }
            for line in lines.iter_rows(named=True)
        ]
        assert stream.splits[name] == len(expected) > 0
        for column in ("site", "price", "click"):
            got = batches[name][column].tolist()
            assert got == pytest.approx([line[column] for line in expected], abs=1e-3, nan_ok=True)
    assert (batches["test"]["site"] == 0).any()


def test_the_shop_has_what_these_tests_are_about(shop: Shop, past: Past) -> None:
    """Else they would pass for want of cases."""
    window = [past.window(time) for _, time, _ in past.baskets.values()]
    assert min(Counter(window).values()) > 40
    assert shop.rows.is_duplicated().any()
    late = shop.rows.filter(pl.col("time") >= CUTS[0])
    assert set(LATE_USERS) <= set(late["user"])
    assert set(LATE_ITEMS) <= set(late["item"])
    assert sum(1 for count in Counter((u, t) for u, t, _ in past.baskets.values()).values() if count > 1) > 3
    ids = [basket for basket, (_, time, _) in past.baskets.items() if time >= CUTS[0]]
    assert min(ids) < float(np.median(list(past.baskets))) < max(ids)
    assert isinstance(prepared(shop).streams["baskets"], StreamData)
