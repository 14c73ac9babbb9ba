"""No leaks: what holds for random tables, whatever the protocol and the split."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from graftrec.data.batch import Batch
from graftrec.data.datasets.base import Dataset
from graftrec.data.datasets.files import Files
from graftrec.data.datasets.multi import Several
from graftrec.data.features.history import MILLISECONDS as DAY
from graftrec.data.protocols.base import Protocol
from graftrec.data.protocols.cold_start import ColdStart
from graftrec.data.protocols.cross_domain import CrossDomain
from graftrec.data.protocols.cross_platform import CrossPlatform
from graftrec.data.protocols.long_short_term import LongShortTerm
from graftrec.data.schema import UNSEEN
from graftrec.data.splits.base import Parts, Split
from graftrec.data.splits.leave_last_out import LeaveLastOut
from graftrec.data.splits.predefined import Official
from graftrec.data.splits.random_split import AtRandom
from graftrec.data.splits.temporal import ByTime
from graftrec.data.streams.base import Stage
from graftrec.data.streams.baskets import BasketRows
from graftrec.data.streams.events import SUPPORT
from graftrec.data.streams.sequences import SequenceRows
from graftrec.data.tables.domains import Domain
from graftrec.data.tables.interactions import Column
from graftrec.models.encoder import Encoder
from graftrec.utils.errors import DataError
from graftrec.utils.seeds import derived, hashes, mixed, share
from shop import Shop, columns, differing, divided, everything, made_of, train_batch, trained

TINY: dict[str, Any] = {"long": 12, "short": 4, "chunk": 2, "negatives": 6, "min_users": 1, "lag": 0.0}
STAGES: tuple[Stage, ...] = ("val", "test")
USERS, ITEMS, SPAN = 7, 8, 20.0
NEW_USERS, NEW_ITEMS = ("a", "u35", "zz"), (1, 35, 99)  # before, between and after the others
LABELS = {"click": "binary", "row": "number", "mood": "category"}

PROTOCOLS: dict[str, tuple[type[Protocol], dict[str, Any]]] = {
    "long_short_term": (LongShortTerm, {}),
    "cross_domain": (CrossDomain, {}),
    "cross_domain users": (CrossDomain, {"shares": ["user"], "overlap_users": 0.5}),
    "cross_platform": (CrossPlatform, {"shared": ["site", "brand"]}),
    "cold_start": (ColdStart, {"users": 0.3, "items": 0.3}),
    "cold_start support": (ColdStart, {"users": 0.4, "support": 2}),
    "cold_start warm_b": (ColdStart, {"users": 0.3, "items": 0.2, "warm_up": 1, "phase": "warm_b"}),
}
SPLITS: dict[str, Split] = {
    "span": ByTime(0.6, 0.8, "span"),
    "rows": ByTime(0.6, 0.8, "rows"),
    "last": LeaveLastOut(),
    "last across": LeaveLastOut(across=True),
    "random": AtRandom(0.6, 0.2),
    "random user": AtRandom(0.6, 0.2, by="user"),
    "official": Official(),
}
ORDERED = ("last", "last across", "random", "official")  # possible without a clock


@dataclass(frozen=True)
class World:
    """A random table, a protocol and a split."""

    shop: Shop
    protocol: str
    split: str
    seed: int  # of what is changed

    def made(self, shop: Dataset | None = None, **more: Any) -> Protocol:
        """Prepared; a table of which nothing is trained on is no example."""
        cls, own = PROTOCOLS[self.protocol]
        protocol = made_of(cls, shop or self.shop, SPLITS[self.split], **{**TINY, **own, **more})
        try:
            protocol.prepare([])
        except DataError as error:
            assume(error.code not in ("DATA-052", "TASK-004"))
            raise
        return protocol

    @property
    def random(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)


def drawn_rows(random: np.random.Generator, count: int, steps: int) -> pl.DataFrame:
    """Rows in no order, on ``steps`` moments: the fewer, the more of them are tied."""
    site = random.choice(["s1", "s2", "s3"], count)
    return pl.DataFrame(
        {
            "user": [f"u{number}" for number in random.integers(0, USERS, count)],
            "item": 10 * random.integers(1, ITEMS + 1, count),
            "time": random.integers(0, steps + 1, count) * SPAN / steps,
            "site": [None if random.random() < 0.1 else value for value in site],
            "tags": [random.choice(["x", "y", "z"], random.integers(0, 4)).tolist() for _ in range(count)],
            "price": np.where(random.random(count) < 0.1, np.nan, random.normal(5, 2, count)),
            "click": np.where(random.random(count) < 0.1, np.nan, random.integers(0, 2, count)),
            "mood": random.choice(["bad", "good", "so so"], count),
            "event": random.integers(0, 4, count).astype(np.uint8),
            "split": random.choice(np.array([0, 0, 0, 1, 2, -1], dtype=np.int8), count),
            "domain": random.choice(["a", "b"], count),
        },
        schema_overrides={"tags": pl.List(pl.String), "site": pl.String},
    )


@st.composite
def worlds(
    draw: st.DrawFn, protocols: tuple[str, ...] = tuple(PROTOCOLS), splits: tuple[str, ...] = tuple(SPLITS),
    ordered: bool = True, unique: bool = True,
) -> World:  # fmt: skip
    """Tables with ties, doubles, missing values, domains, behaviours; some without domains, events or a clock."""
    protocol, split = draw(st.sampled_from(protocols)), draw(st.sampled_from(splits))
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    rows = drawn_rows(random, draw(st.integers(20, 60)), draw(st.sampled_from([2, 5, 40])))
    ends = drawn_rows(random, 4, 1).with_columns(
        time=pl.Series([0.0, 0.0, SPAN, SPAN]), domain=pl.Series(["a", "b"] * 2),
        split=pl.Series([0, 0, 2, 2], dtype=pl.Int8), event=pl.lit(3, dtype=pl.UInt8),
    )  # fmt: skip
    rows = pl.concat([ends, rows])
    more: dict[str, Any] = {}
    if draw(st.booleans()):
        more["behaviours"] = ("view", "buy")
    else:
        rows = rows.drop("event")
    if unique and draw(st.booleans()):
        rows, more["unique"] = rows.unique(["user", "item"], keep="first", maintain_order=True), True
    if ordered and split in ORDERED and draw(st.booleans()):
        more["clock"] = False
    if protocol != "cross_platform" and draw(st.booleans()):
        rows = rows.drop("domain")
    rows = rows.with_columns(row=pl.int_range(pl.len()).cast(pl.Float64))
    users = pl.DataFrame({"user": [f"u{n}" for n in range(USERS - 1)], "age": ["old", "young", None] * 2})
    items = pl.DataFrame(
        {
            "item": [10 * n for n in range(1, ITEMS)],
            "brand": random.choice(["p", "q", "r"], ITEMS - 1),
            "words": ["red one", "blue", None, "a red two", "", "blue blue", "three"],
            "weight": random.normal(0, 1, ITEMS - 1),
        }
    )
    shop = Shop(
        rows, items, users, LABELS, ("site",), ("price",), columns={"tags": Column("ids", length=3)},
        item_columns={"brand": Column("id"), "words": Column("text", buckets=7), "weight": Column("number")}, more=more,
    )  # fmt: skip
    return World(shop, protocol, split, draw(st.integers(0, 10_000)))


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file with negatives of some users, a few of which nobody can choose."""
    path = tmp_path_factory.mktemp("hard") / "hard.csv"
    pairs = [("u1", 10), ("u1", 20), ("u1", 998), ("u2", 30), ("u2", 80), ("u3", 999), ("nobody", 10)]
    pl.DataFrame(pairs, schema=["user", "item"], orient="row").write_csv(path)
    return str(path)


check = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow]
)


def kinds(protocol: Protocol, kind: str) -> Iterator[tuple[str, Any]]:
    """Streams of a kind that have training rows, with their prefix."""
    for name, stream in protocol.streams.items():
        if name.rpartition("/")[2] == kind and stream.rows:
            yield name.removesuffix(kind), stream


def parts_of(protocol: Protocol) -> dict[str, tuple[Domain, Parts, pl.DataFrame]]:
    """Prefix -> domain, its parts, and a frame with a line for each of its rows: raw ids, time, part, event, row."""
    found = {}
    for domain, parts in divided(protocol):
        data, rows = domain.data, domain.index()
        frame = pl.DataFrame(
            {
                "user": domain.keys("user").gather(data.keys["user"].codes[rows]).cast(pl.String),
                "item": domain.keys("item").gather(data.keys["item"].codes[rows]),
                "time": parts.time,
                "part": parts.part.astype(np.int64),
                "event": np.ones(len(rows), np.int64) if data.event is None else data.event[rows].astype(np.int64),
                "row": data.answers[rows, data.asked.index("row")].astype(np.int64),
            }
        )
        found[domain.prefix] = (domain, parts, frame)
    return found


# 1, 2 and 5: what is trained on


@check
@given(worlds(splits=("span", "rows"), protocols=tuple(name for name in PROTOCOLS if "warm" not in name)))
def test_nothing_at_or_after_the_cut_is_trained_on(world: World) -> None:
    made = world.made()
    found = parts_of(made)
    assert len({parts.cuts for _, parts, _ in found.values()}) == 1
    first = world.shop.rows["time"].min()
    for prefix, (_, parts, frame) in found.items():
        assert parts.cuts is not None
        low, high = parts.cuts
        assert 0 <= low <= high <= SPAN
        part = {row: (time >= low) + (time >= high) for row, time in frame.select("row", "time").iter_rows()}
        assert all(own in (part[row], -1, SUPPORT) for row, own in frame.select("row", "part").iter_rows())
        times = dict(world.shop.rows.select("row", "time").iter_rows())
        for kind, stream in kinds(made, "rows"):
            if kind == prefix:
                rows = train_batch(stream)["row"].tolist()
                assert all(times[row] - first < low for row in rows)
                assert sorted(rows) == sorted(frame.filter(pl.col("part") == 0)["row"])
        for kind, stream in kinds(made, "baskets"):
            if kind == prefix:
                assert float(stream.lines.time[stream.lines.part == 0].max()) < low


@check
@given(worlds(splits=("last", "last across"), protocols=("long_short_term", "cross_domain", "cross_platform")))
def test_parts_of_a_user_follow_each_other_and_the_last_row_tests(world: World) -> None:
    made = world.made()
    frames = [frame.with_columns(domain=pl.lit(prefix)) for prefix, (_, _, frame) in parts_of(made).items()]
    together = world.split == "last across" and world.protocol != "cross_platform"
    for _, own in pl.concat(frames).group_by(["user"] if together else ["user", "domain"]):
        shown = own.filter(pl.col("event") > 0)
        of = [shown.filter(pl.col("part") == part)["time"].to_list() for part in range(3)]
        if len(shown) < 3:
            assert own["part"].to_list() == [0] * len(own)
            continue
        assert (len(of[1]), len(of[2])) == (1, 1)
        assert max(of[0]) <= of[1][0] <= of[2][0] == max(shown["time"])
        silent = own.filter(pl.col("event") == 0)  # trained on if it comes before what is asked
        assert all(part == -1 or time <= of[1][0] for time, part in silent.select("time", "part").iter_rows())
        assert all(part == 0 or time >= of[1][0] for time, part in silent.select("time", "part").iter_rows())


@check
@given(worlds())
def test_no_row_is_in_two_parts(world: World) -> None:
    made = world.made()
    for prefix, stream in kinds(made, "rows"):
        of = {"train": train_batch(stream)["row"].tolist()}
        of |= {stage: [row for batch in stream.evaluation(stage) for row in batch["row"].tolist()] for stage in STAGES}
        assert {stage: len(rows) for stage, rows in of.items()} == stream.splits
        every = [row for rows in of.values() for row in rows]
        assert len(set(every)) == len(every)
        _, _, frame = parts_of(made)[prefix]
        part = dict(frame.select("row", "part").iter_rows())
        assert all(part[row] == number for number, rows in enumerate(of.values()) for row in rows)
        if world.split.startswith("random") and "warm" not in world.protocol:  # rows that are equal stay together
            line = dict(zip(frame["row"], frame.select("user", "item", "time").iter_rows(), strict=True))
            lines = [{line[row] for row in rows} for rows in of.values()]
            if world.shop.more.get("clock", True):
                assert not lines[0] & lines[1] | lines[0] & lines[2] | lines[1] & lines[2]
        if world.shop.more.get("unique"):
            pairs = [set(frame.filter(pl.col("part") == at).select("user", "item").iter_rows()) for at in range(3)]
            assert not pairs[0] & pairs[1] | pairs[0] & pairs[2] | pairs[1] & pairs[2]
    for _, stream in kinds(made, "baskets"):
        lines = stream.lines
        assert (torch.bincount(torch.unique(torch.stack([lines.basket, lines.part]), dim=1)[0]) == 1).all()


# 3: what comes later changes nothing


def reworked(rows: pl.DataFrame, hit: np.ndarray, random: np.random.Generator, items: bool = True) -> pl.DataFrame:
    """Rows of which those that are ``hit`` are other people's, of other items, with other features and labels."""
    other = drawn_rows(random, len(rows), 5).with_columns(
        user=pl.Series(random.choice([*NEW_USERS, "u1", "u2"], len(rows))),
        item=pl.Series(random.choice([*NEW_ITEMS, 10, 20, 30], len(rows))),
        site=pl.Series(random.choice(["a site to come", "s1"], len(rows))),
        tags=pl.Series([["to come", "x"]] * len(rows)),
        price=pl.Series(random.normal(1000, 1, len(rows))),
        mood=pl.Series(random.choice(["a mood to come", "good"], len(rows))),
    )
    changed = ["site", "tags", "price", "click", "mood", *(("user", "item", "event") if items else ())]
    mask = pl.Series("hit", hit)
    return rows.with_columns(
        pl.when(mask).then(other[name]).otherwise(rows[name]).alias(name) for name in changed if name in rows.columns
    )


def with_new(shop: Shop, rows: pl.DataFrame) -> Shop:
    """The shop with other rows, and something known of the users and items that are new."""
    assert shop.users is not None
    assert shop.items is not None
    users = pl.DataFrame({"user": NEW_USERS, "age": ["a new age", "old", None]})
    items = pl.DataFrame({"item": NEW_ITEMS, "brand": ["a new brand", "p", "zz"], "words": ["new", None, "red"],
                          "weight": [1e6, -1e6, 0.0]})  # fmt: skip
    return replace(shop, rows=rows, users=pl.concat([users, shop.users]), items=pl.concat([items, shop.items]))


draws = st.fixed_dictionaries(
    {
        "avoid": st.sampled_from(["basket", "history"]),
        "drawn": st.sampled_from(["uniform", "popularity", "batch", "file"]),
        "min_users": st.integers(1, 2),
    }
)


@check
@given(worlds(splits=("span", "rows"), protocols=tuple(name for name in PROTOCOLS if "warm" not in name)), draws)
def test_nothing_at_or_after_the_cut_changes_training(hard: str, world: World, draws: dict[str, Any]) -> None:
    more = draws | {"hard": hard if draws["drawn"] == "file" else "", "lag": None}
    made = world.made(**more)
    (cuts,) = {parts.cuts for _, parts, _ in parts_of(made).values()}
    assert cuts is not None
    rows, random = world.shop.rows, world.random
    late = rows["time"].to_numpy() - rows["time"].min() >= cuts[0]
    changed = reworked(rows, late & (random.random(len(rows)) < 0.8), random)
    if world.split == "span":  # a share of the rows would be of other rows
        extra = drawn_rows(random, 10, 7).with_columns(
            time=pl.Series(random.uniform(cuts[0] + 1e-6, SPAN, 10)), row=pl.Series(np.arange(1000.0, 1010.0))
        )
        dropped = late & (random.random(len(rows)) < 0.4) & (rows["time"].to_numpy() < SPAN)
        changed = pl.concat([changed.filter(~pl.Series(dropped)), extra.select(rows.columns).cast(dict(rows.schema))])
    assume(not changed.equals(rows))
    other = world.made(with_new(world.shop, changed), **more)
    assert not differing(trained(made), trained(other))


@check
@given(worlds(splits=("last", "last across", "random", "random user", "official")), draws)
def test_what_test_rows_say_changes_no_training(hard: str, world: World, draws: dict[str, Any]) -> None:
    """Their labels and features; and their items, where these do not decide what tests."""
    more = draws | {"hard": hard if draws["drawn"] == "file" else ""}
    made = world.made(**more)
    found = parts_of(made)
    tests = {row for _, _, frame in found.values() for row in frame.filter(pl.col("part") == 2)["row"]}
    rows, random = world.shop.rows, world.random
    double = rows.select("user", "item", "time").is_duplicated()  # which of them tests may be decided by what they say
    hit = np.array([row in tests for row in rows["row"]]) & ~double.to_numpy()
    changed = reworked(rows, hit, random, items=False)
    if world.split in ("random user", "official") and "cold" not in world.protocol:
        item = pl.Series(random.choice([10, 20, 30, 40], len(rows)))
        changed = changed.with_columns(item=pl.when(pl.Series(hit)).then(item).otherwise("item"))
    other = world.made(with_new(world.shop, changed), **more)
    assert not differing(trained(made), trained(other))


@check
@given(worlds())
def test_rows_that_a_filter_takes_out_are_not_there(world: World) -> None:
    """They are marked in the table and have no say in anything."""
    rows = world.shop.rows
    kept = (world.random.random(len(rows)) < 0.7) | rows["time"].is_in([0.0, SPAN]).to_numpy()
    marked = replace(world.shop, more={**world.shop.more, "kept": kept})
    left = replace(world.shop, rows=rows.filter(pl.Series(kept)))
    assert not differing(trained(world.made(marked)), trained(world.made(left)))


# 4: what a row knows


def check_windows(
    made: Protocol, prefix: str, known: pl.DataFrame, batch: Batch, asked: list[tuple[str, float]]
) -> None:
    """The windows of a batch hold what these users did strictly before these times, and nothing else."""
    items = made.items_of(f"{prefix}rows")
    kinds = "recent_behaviour" in batch
    lines = known.select("user", "time", "item", "event").sort("user", "time", "item", "event").rows()
    for at, (user, now) in enumerate(asked):
        past = [(time, item, event) for who, time, item, event in lines if who == user and time < now]
        for name, length in (("long", TINY["long"]), ("recent", TINY["short"])):
            got = items.decode(batch[name][at].numpy()).to_list()
            last = past[-length:]
            assert got == [None] * (length - len(last)) + [item for _, item, _ in last]
        last = past[-TINY["short"] :]
        padding = [0.0] * (TINY["short"] - len(last))
        ages = [math.log1p(now - time) for time, _, _ in last]
        assert batch["recent_age"][at].tolist() == pytest.approx(padding + ages, abs=1e-4)
        if kinds:
            assert batch["recent_behaviour"][at].tolist() == [int(p) for p in padding] + [kind for _, _, kind in last]


def known_rows(parts: Parts, frame: pl.DataFrame) -> pl.DataFrame:
    """Events that a row may know of, if they are earlier."""
    shown = frame.filter((pl.col("event") > 0) & (pl.col("part") >= 0))
    return shown if parts.forward else shown.filter(pl.col("part").is_in([0, SUPPORT]))


@check
@given(worlds())
def test_a_row_knows_what_is_strictly_before_it(world: World) -> None:
    made = world.made()
    found = parts_of(made)
    for prefix, stream in kinds(made, "rows"):
        _, parts, frame = found[prefix]
        asked = {row: (user, time) for user, time, row in frame.select("user", "time", "row").iter_rows()}
        for batch in (train_batch(stream), *(b for stage in STAGES for b in stream.evaluation(stage))):
            check_windows(made, prefix, known_rows(parts, frame), batch, [asked[row] for row in batch["row"].tolist()])


def straight(found: list[torch.Tensor], expected: list[list[float]]) -> None:
    """Columns (n, K) are those expected, up to one scale for all rows."""
    got, table = torch.stack(found).double().numpy(), np.array(expected)
    for k in range(table.shape[1]):
        if np.ptp(table[:, k]) < 1e-6:
            assert np.ptp(got[:, k]) < 1e-4
            continue
        slope, intercept = np.polyfit(got[:, k], table[:, k], 1)
        assert slope > 0
        assert got[:, k] * slope + intercept == pytest.approx(table[:, k], abs=5e-3)


@check
@given(worlds())
def test_a_basket_knows_what_is_strictly_before_it(world: World) -> None:
    """Windows, numbers and counts of training rows and of rankings; what everybody did counts if it is trained on."""
    made = world.made()
    found = parts_of(made)
    for prefix, stream in kinds(made, "baskets"):
        assert isinstance(stream, BasketRows)
        _, parts, frame = found[prefix]
        users, items, lines = made.users_of(f"{prefix}baskets"), made.items_of(f"{prefix}baskets"), stream.lines
        catalogue = set(items.decode(lines.items.numpy()))
        frame = frame.filter((pl.col("event") > 0) & (pl.col("part") >= 0) & pl.col("item").is_in(list(catalogue)))
        known = known_rows(parts, frame)
        clock = world.shop.more.get("clock", True)
        # the rows that are trained on: chunks of the baskets, in the order of the lines
        asked: list[tuple[str, float]] = []
        chunks: list[list[int]] = []
        table = pl.DataFrame({"basket": lines.basket.numpy(), "user": users.decode(lines.user.numpy()).cast(pl.String),
                              "time": lines.time.numpy(), "item": items.decode(lines.item.numpy()),
                              "part": lines.part.numpy()})  # fmt: skip
        assert Counter(table.select("user", "time", "item", "part").rows()) == Counter(
            frame.select("user", "time", "item", "part").rows()
        )
        for _, own in table.filter(pl.col("part") == 0).group_by("basket", maintain_order=True):
            assert own.select("user", "time").n_unique() == 1
            bought = sorted(set(own["item"]))
            for at in range(0, len(bought), TINY["chunk"]):
                asked.append((own["user"][0], own["time"][0]))
                chunks.append(bought[at : at + TINY["chunk"]])
        batch = train_batch(stream)
        assert len(batch["user"]) == len(chunks)
        assert users.decode(batch["user"].numpy()).cast(pl.String).to_list() == [user for user, _ in asked]
        for row, chunk in enumerate(chunks):
            got = items.decode(batch["candidate"][row, : TINY["chunk"]].numpy()).to_list()
            assert got == chunk + [None] * (TINY["chunk"] - len(chunk))
        check_windows(made, prefix, known, batch, asked)
        numbers, crosses = Columns(stream, known, clock, parts), Columns(stream, known, clock, parts)
        for row, (user, time) in enumerate(asked):
            numbers.number(batch, row, user, time)
            for place, number in enumerate(batch["candidate"][row].tolist()):
                if number:
                    crosses.cross(batch, row, place, user, items.keys[number - 1], time)
        for stage in STAGES:
            start: dict[str, float] = {}
            own = frame.filter(pl.col("part") == 1 + STAGES.index(stage))
            for user, time in own.select("user", "time").iter_rows():
                start[user] = min(time, start.get(user, math.inf))
            if parts.cuts is not None:
                start = dict.fromkeys(start, parts.cuts[STAGES.index(stage)])
            ranked = [batch for batch in stream.evaluation(stage) if "relevant" in batch]
            if not start:
                assert not ranked
                continue
            (batch,) = ranked
            who = users.decode(batch["query"].numpy()).cast(pl.String).to_list()
            assert who == sorted(start)
            check_windows(made, prefix, known, batch, [(user, start[user]) for user in who])
            inside = own.select("user", "item").rows()
            before = frame.filter(pl.col("part").is_in([0, SUPPORT, *range(1, 1 + STAGES.index(stage))]))
            past = before.select("user", "item").rows()
            for at, user in enumerate(who):
                ids = items.decode(lines.items.numpy()).to_list()
                chosen = [(user, item) in inside for item in ids]
                others = [
                    item for item in ids if (user, item) not in inside and (lines.seen or (user, item) not in past)
                ]
                assert batch["relevant"][at].tolist() == (chosen if others else [False] * len(ids))  # else no question
                fresh = batch["fresh" if lines.seen else "listed"]
                assert fresh[at].tolist() == [(user, item) not in past for item in ids]
                numbers.number(batch, at, user, start[user])
                for place in range(len(ids)):
                    crosses.cross(batch, at, place, user, ids[place], start[user])
        straight(numbers.found, numbers.expected)
        if crosses.names:
            straight(crosses.found, crosses.expected)


@settings(check, max_examples=80)
@given(worlds(splits=(*SPLITS, "random", "official")), st.sampled_from([0.0, 0.5]), st.integers(1, 5))
def test_a_sequence_holds_training_events_and_then_what_is_strictly_before(
    world: World, mask: float, length: int
) -> None:
    """Every event of a batch is named by its label ``row``, so that none of validation or test can hide in one."""
    made = world.made(short=length, mask=mask)
    found = parts_of(made)
    clicks = dict(world.shop.rows.select("row", "click").iter_rows())
    origin = min(parts.time.min() for _, parts, _ in found.values())  # all times are told from here
    for prefix, stream in kinds(made, "sequences"):
        assert isinstance(stream, SequenceRows)
        _, parts, frame = found[prefix]
        name = f"{prefix}sequences"
        users, items = made.users_of(name), made.items_of(name)
        catalogue = items.decode(stream.lines.items.numpy()).to_list()
        frame = frame.filter((pl.col("event") > 0) & (pl.col("part") >= 0) & pl.col("item").is_in(catalogue))
        number = {key: at + 1 for at, key in enumerate(items.keys)}
        of: dict[str, list[tuple[Any, ...]]] = {}
        for user, time, item, event, row in (
            frame.filter(part=0).select("user", "time", "item", "event", "row").iter_rows()
        ):
            click = clicks[float(row)]
            of.setdefault(user, []).append((time, item, event, math.inf if math.isnan(click) else click, row))
        batch = train_batch(stream)
        wide = batch["sequence"].shape[1]

        def padded(values: list[Any], padding: Any = 0, wide: int = wide) -> Any:
            return pytest.approx([padding] * (wide - len(values)) + values, abs=1e-5, nan_ok=True)

        row = 0
        for user in users.keys.cast(pl.String):
            own = sorted(of.get(user, []))
            ends = range(len(own), 0, -length) if mask else range(len(own) - 1, 0, -length)
            for end in ends if len(own) > 1 else ():
                low = max(0, end - length)
                read, follow = own[low:end], own[low:end] if mask else own[low + 1 : end + 1]
                assert users.keys.cast(pl.String)[int(batch["user"][row]) - 1] == user
                assert batch["sequence"][row].tolist() == padded([number[item] for _, item, *_ in read])
                assert (batch["sequence_time"][row] / DAY).tolist() == padded([time - origin for time, *_ in read])
                assert (batch["next_time"][row] / DAY).tolist() == padded([time - origin for time, *_ in follow])
                shown = batch["sequence_masked"][row].tolist() if mask else [False] * wide
                hidden = shown[wide - len(read) :]
                assert not any(shown[: wide - len(read)])
                assert any(hidden) == bool(mask)
                asked = hidden if mask else [True] * len(read)
                if "sequence_behaviour" in batch:
                    kinds_ = [0 if masked else event for (_, _, event, *_), masked in zip(read, hidden, strict=True)]
                    assert batch["sequence_behaviour"][row].tolist() == padded(kinds_)
                answers = {
                    "next": (-1, -1, [catalogue.index(item) for _, item, *_ in follow]),
                    "candidate": (0, 0, [number[item] for _, item, *_ in follow]),
                    "row": (math.nan, math.nan, [row_ for *_, row_ in follow]),
                    "click": (math.nan, math.nan, [math.nan if c == math.inf else c for *_, c, _ in follow]),
                }
                for bit, way in enumerate(("view", "buy") if "sequence_behaviour" in batch else ()):
                    places = [catalogue.index(item) if event >> bit & 1 else -1 for _, item, event, *_ in follow]
                    answers[f"next_{way}"] = (-1, -1, places)
                for column, (padding, missing, values) in answers.items():
                    values = [value if shown else missing for value, shown in zip(values, asked, strict=True)]
                    assert batch[column][row].tolist() == padded(values, padding), column
                row += 1
        assert row == stream.rows == len(batch["user"])
        if not mask:
            rows = [int(value) for value in batch["row"].flatten().tolist() if not math.isnan(value)]
            assert len(rows) == len(set(rows)) == sum(len(own) - 1 for own in of.values())  # a target once
            assert sorted(stream.labels("row").tolist()) == sorted(rows)
        known = known_rows(parts, frame).select("user", "time", "item", "event").sort(pl.all()).rows()
        for stage in STAGES:
            own_lines = {row: line for *line, row in frame.filter(part=1 + STAGES.index(stage))
                         .select("user", "time", "item", "row").iter_rows()}  # fmt: skip
            start: dict[str, float] = {}
            for user, time, _ in own_lines.values():
                start[user] = min(time, start.get(user, math.inf))
            if parts.cuts is not None:
                start = dict.fromkeys(start, parts.cuts[STAGES.index(stage)])
            before = frame.filter(pl.col("part").is_in([0, SUPPORT, *range(1, 1 + STAGES.index(stage))]))
            judged: list[int] = []
            ranked: list[str] = []
            for batch in stream.evaluation(stage):
                who = users.decode(batch["user"].numpy()).cast(pl.String).to_list()
                moments = [start[user] for user in who]
                if "relevant" in batch:
                    ranked += who
                    for bit, way in enumerate(("view", "buy") if "sequence_behaviour" in batch else ()):
                        chosen = frame.filter(
                            pl.col("part") == 1 + STAGES.index(stage), pl.col("event") // 2**bit % 2 == 1
                        )
                        expected = []
                        for user in who:
                            own = set(chosen.filter(user=user)["item"])
                            gone = set() if stream.lines.seen else set(before.filter(user=user)["item"])
                            others = set(catalogue) - own - gone  # without them it is no question
                            expected.append([item in own and bool(others) for item in catalogue])
                        assert batch[f"next_{way}_relevant"].tolist() == expected
                else:
                    rows = batch["row"][:, 0].long().tolist()
                    judged += rows
                    assert [own_lines[row][0] for row in rows] == who
                    assert batch["candidate"][:, 0].tolist() == [number[own_lines[row][2]] for row in rows]
                    expected = [clicks[float(row)] for row in rows]
                    assert batch["click"][:, 0].tolist() == pytest.approx(expected, nan_ok=True)
                    moments = [own_lines[row][1] for row in rows]
                for at, (user, moment) in enumerate(zip(who, moments, strict=True)):
                    past = [line[1:] for line in known if line[0] == user and line[1] < start[user]]
                    past = past[max(0, len(past) - length + bool(mask)) :] if length > bool(mask) else []
                    last = [(moment, None, 0)] if mask else []
                    times, what, kinds_ = zip(*past, *last, strict=True) if past or last else ((), (), ())
                    ids = [0 if item is None else number[item] for item in what]
                    assert batch["sequence"][at].tolist() == padded(ids, 0, length)
                    assert (batch["sequence_time"][at] / DAY).tolist() == padded(
                        [time - origin for time in times], 0, length
                    )
                    following = [time - origin for time in (times if mask else [*times[1:], moment])]
                    assert (batch["next_time"][at, -len(following) :] / DAY).tolist() == pytest.approx(
                        following, abs=1e-5
                    )
                    if "sequence_behaviour" in batch:
                        assert batch["sequence_behaviour"][at].tolist() == padded(list(kinds_), 0, length)
                    if mask:
                        assert batch["sequence_masked"][at].tolist() == [False] * (length - 1) + [True]
            assert sorted(judged) == sorted(own_lines)
            assert ranked == sorted(start)


class Columns:
    """Columns of rows, and slow answers of what they should be."""

    def __init__(self, stream: BasketRows, known: pl.DataFrame, clock: bool, parts: Parts) -> None:
        self.names = stream.cross.names
        self.numbers = ("lines", "lines_30", "days_since") if clock else ("lines",)
        self.clock, self.pairs = clock, not stream.lines.unique
        self.lines = known.select("user", "item", "time").rows()
        world = known if parts.cuts is not None else known.filter(pl.col("part") == 0)
        self.world = world.select("user", "item", "time").rows()
        keys = stream.lines.items.tolist()
        self.content = {name: dict(zip(keys, values[stream.lines.items].tolist(), strict=True))
                        for name, values in stream.lines.content.items()}  # fmt: skip
        self.found: list[torch.Tensor] = []
        self.expected: list[list[float]] = []
        self._number: dict[int, int] = {}

    def number(self, batch: Batch, row: int, user: str, time: float) -> None:
        times = [when for who, _, when in self.lines if who == user and when < time]
        answer = columns("lines", times, time, 30) | {
            "days_since": math.log1p(min([60.0, *(time - when for when in times)]))
        }
        self.found.append(torch.stack([batch[name][row] for name in self.numbers]))
        self.expected.append([answer[name] for name in self.numbers])

    def cross(self, batch: Batch, row: int, place: int, user: str, item: int, time: float) -> None:
        before = [line for line in self.lines if line[2] < time]
        world = [line for line in self.world if line[2] < time]
        answer = columns("pair", [t for u, i, t in before if (u, i) == (user, item)], time, 10, 30, 90)
        answer |= columns("item", [t for _, i, t in world if i == item], time, 30, 120)
        firsts: dict[str, float] = {}
        for who, what, when in world:
            if what == item:
                firsts[who] = min(when, firsts.get(who, math.inf))
        answer |= columns("first", list(firsts.values()), time, 60)
        names = [name for name in self.names if name in answer]
        assert ("pair" in names) == self.pairs
        assert ("item" in names) == self.clock
        at = [self.names.index(name) for name in names]
        self.found.append(batch["cross"][row, place, at])
        self.expected.append([answer[name] for name in names])


# 6: the order of rows


def evaluated(made: Protocol, name: str) -> dict[int, dict[str, Any]]:
    """Number of a row -> all that is evaluated of it."""
    found = {}
    for stage in STAGES:
        for batch in made.streams[name].evaluation(stage):
            for at, row in enumerate(batch["row"].tolist()):
                found[int(row)] = {"stage": stage} | {column: values[at].tolist() for column, values in batch.items()}
    return found


@check
@given(worlds())
def test_the_order_of_rows_is_no_matter(world: World) -> None:
    made = world.made()
    rows = world.shop.rows
    mixed = rows[world.random.permutation(len(rows))]
    assert world.shop.users is not None
    assert world.shop.items is not None
    other = world.made(replace(world.shop, rows=mixed, users=world.shop.users[::-1], items=world.shop.items[::-1]))
    one, two = parts_of(made), parts_of(other)
    for prefix, (_, _, frame) in one.items():
        assert set(frame.rows()) == set(two[prefix][2].rows())
    assert made.card == other.card
    ranked = [name for name in made.streams if not name.endswith("rows")]
    streams = [{name: values for name, values in everything(each).items() if name.startswith((*ranked, "table/"))}
               for each in (made, other)]  # fmt: skip
    assert not differing(*streams)
    for prefix, stream in kinds(made, "rows"):
        name = f"{prefix}rows"
        a, b = evaluated(made, name), evaluated(other, name)
        assert a.keys() == b.keys()
        for row, columns_ in a.items():
            for column, values in columns_.items():
                expected = pytest.approx(values, abs=1e-5, nan_ok=True) if column != "stage" else values
                assert b[row][column] == expected, column
        assert sorted(train_batch(stream)["row"].tolist()) == sorted(train_batch(other.streams[name])["row"].tolist())


# 7: negatives


@check
@given(worlds(), draws, st.integers(0, 2))
def test_what_was_chosen_is_no_negative(hard: str, world: World, draws: dict[str, Any], least: int) -> None:
    avoid, drawn = draws["avoid"], draws["drawn"]
    made = world.made(avoid=avoid, drawn=drawn, hard=hard if drawn == "file" else "", chunk=2, min_users=least)
    own = {user: set(items) for user, items in pl.read_csv(hard).group_by("user").agg("item").iter_rows()}
    for prefix, stream in kinds(made, "baskets"):
        users, items, lines = made.users_of(f"{prefix}baskets"), made.items_of(f"{prefix}baskets"), stream.lines
        train = torch.stack([lines.basket, lines.user, lines.item], 1)[lines.part == 0].tolist()
        of_basket: dict[int, set[int]] = {}
        of_user: dict[int, set[int]] = {}
        counts = Counter(item for _, _, item in train)
        for basket, user, item in train:
            of_basket.setdefault(basket, set()).add(item)
            of_user.setdefault(user, set()).add(item)
        chunks = [(basket, user) for basket, user in dict.fromkeys((basket, user) for basket, user, _ in train)
                  for _ in range(math.ceil(len(of_basket[basket]) / 2))]  # fmt: skip
        batch = train_batch(stream)
        assert len(batch["bought"]) == len(chunks)
        catalogue = set(lines.items.tolist())
        in_batch = set(batch["candidate"][:, :2].flatten().tolist())
        for row, (basket, user) in enumerate(chunks):
            chosen = of_basket[basket] if avoid == "basket" else of_user[user]
            mine = own.get(str(users.keys[user - 1]).partition("@")[0], set())
            hard_ones = {number + 1 for number, item in enumerate(items.keys.cast(pl.String)) if number + 1 in catalogue
                         and int(item.partition("@")[0]) in mine}  # fmt: skip
            for place, (item, label) in enumerate(
                zip(batch["candidate"][row].tolist(), batch["bought"][row].tolist(), strict=True)
            ):
                if place < 2:
                    assert label == 1 if item in of_basket[basket] else math.isnan(label)
                    continue
                assert item in catalogue
                assert math.isnan(label) if item in chosen else label == 0
                assert drawn != "popularity" or counts[item]
                assert drawn != "batch" or item in in_batch
                assert drawn != "file" or not hard_ones or item in hard_ones
        assert ("log_q" in batch) == (drawn in ("popularity", "batch"))
        if "log_q" in batch:
            share = torch.tensor([[max(counts[item], 0.5) for item in row] for row in batch["candidate"].tolist()])
            expected = torch.log(share / sum(counts.values()) * len(catalogue))
            shown = batch["bought"] >= 0
            assert torch.allclose(batch["log_q"][shown], expected[shown], atol=1e-5)
        again = train_batch(stream)
        assert not differing(batch, again)
        if len(catalogue) > 4 and len(chunks) > 4 and drawn == "uniform":
            assert differing(batch, train_batch(stream, 1))


# 8: ids that training never saw


@check
@given(worlds(), st.integers(0, 2))
def test_whoever_training_never_saw_has_no_row_of_its_own(world: World, least: int) -> None:
    """And everything that is trained and evaluated on can be encoded."""
    tests = {row for _, _, f in parts_of(world.made()).values() for row in f.filter(pl.col("part") > 0)["row"]}
    rows = world.shop.rows
    changed = reworked(rows, np.array([row in tests for row in rows["row"]]), world.random, world.split != "random")
    made = world.made(with_new(world.shop, changed), min_users=least)
    found = parts_of(made)
    for kind in ("user", "item"):
        seen: dict[str, set[str]] = {}
        for prefix, (domain, _, frame) in found.items():
            if f"{prefix}rows" in made.streams:
                own = seen.setdefault(domain.tables[kind], set())
                own |= set(frame.filter(pl.col("part") == 0)[kind].cast(pl.String))
        for prefix, (domain, _, _) in found.items():
            if f"{prefix}rows" not in made.streams:
                continue
            table = made.tables[domain.tables[kind]]
            entities = (made.users_of if kind == "user" else made.items_of)(f"{prefix}rows")
            assert table.rows is not None
            assert table.entities == len(entities)
            assert int(table.rows[0]) == 0
            of_key = dict(zip(entities.keys.cast(pl.String), table.rows[1:].tolist(), strict=True))
            assert {key for key, row in of_key.items() if row} == seen[domain.tables[kind]]
            assert sorted(row for row in of_key.values() if row) == list(range(1, table.size))
    encoder = Encoder(made.schema(made.streams), 4).eval()
    for stream in made.streams.values():
        schema = stream.schema
        batches = [(batch, UNSEEN) for stage in STAGES for batch in stream.evaluation(stage)]
        if stream.rows:  # whose classes are all that there are
            batches += [(train_batch(stream), -1), (stream.sample, -1)]
        for batch, least_class in batches:
            encoded = encoder(batch, schema, "candidate" in batch)
            for values in (encoded.fields, encoded.history, encoded.candidate, encoded.cross):
                assert values is None or values.isfinite().all()
            if "catalogue" in batch:
                assert encoder.items(schema.candidate)[batch["catalogue"]].isfinite().all()
            for label in schema.labels:
                if label.kind == "category" and label.name in batch:
                    assert least_class <= int(batch[label.name].min()) <= int(batch[label.name].max()) < label.classes


# 9 and 10: what domains have in common


def codes_of(domain: Domain, kind: str) -> np.ndarray:
    """Codes of the ids that a domain has rows of."""
    return np.unique(domain.take(domain.data.keys[kind].codes))


def linked(domains: list[tuple[Domain, Parts]], kind: str) -> set[str]:
    """Raw ids that mean the same in two domains."""
    names: list[dict[str, str]] = []
    for domain, _ in domains:
        codes = codes_of(domain, kind)
        own = domain.keys(kind).cast(pl.String).gather(codes)
        names.append(dict(zip(own, domain.data.keys[kind].keys.cast(pl.String).gather(codes), strict=True)))
    both = set(names[0]) & set(names[1])
    assert all(names[0][name] == names[1][name] for name in both)
    return {names[0][name] for name in both}


def two_platforms(world: World, text: bool = False) -> Dataset:
    """Each domain as a dataset of its own; ``text``: one of them has its ids as text."""
    parts = {}
    for name in ("a", "b"):
        rows = world.shop.rows.filter(pl.col("domain") == name).drop("domain")
        items = world.shop.items
        assert items is not None
        if text and name == "b":
            rows, items = (frame.with_columns(pl.col("item").cast(pl.String)) for frame in (rows, items))
        parts[name] = replace(world.shop, rows=rows, items=items)
    return Several(parts)


@settings(check, max_examples=25)  # four levels of each
@given(
    worlds(protocols=("cross_platform",), ordered=False), st.sampled_from(["user", "item"]),
    st.sampled_from(["one table", "two", "two, one of text"]), st.integers(1, 3),
)  # fmt: skip
def test_fewer_are_linked_and_no_row_moves(world: World, kind: str, tables: str, min_users: int) -> None:
    data = world.shop if tables == "one table" else two_platforms(world, "text" in tables)
    levels = {}
    for level in (0.0, 0.25, 0.5, 1.0):
        made = made_of(
            CrossDomain, data, SPLITS[world.split], **{**TINY, "min_users": min_users, f"overlap_{kind}s": level}
        )
        try:
            made.prepare([])
        except DataError as error:
            assume(error.code not in ("DATA-052", "TASK-004", "DATA-050"))
            raise
        levels[level] = made
    parts = {level: divided(made) for level, made in levels.items()}
    common = [linked(own, kind) for own in parts.values()]
    assert not common[0]
    assert common[0] <= common[1] <= common[2] <= common[3]
    a, b = (set(domain.data.keys[kind].keys.cast(pl.String).gather(codes_of(domain, kind))) for domain, _ in parts[1.0])
    assert common[3] == a & b
    whole = levels[1.0]
    for level, made in levels.items():
        for (_, own), (_, expected) in zip(parts[level], parts[1.0], strict=True):
            assert np.array_equal(own.part, expected.part)
            assert np.array_equal(own.time, expected.time)
        assert made.card["splits"] == whole.card["splits"]
        for name, stream in made.streams.items():
            for stage in STAGES if isinstance(stream, BasketRows) else ():
                assert ranked(made, name, stage) == ranked(whole, name, stage)


def ranked(made: Protocol, name: str, stage: Stage) -> dict[str, tuple[set[str], set[str]]]:
    """Raw id of a user -> raw ids of the items that are ranked, and of those that are right."""
    found = {}
    items = [str(item).partition("@")[0] for item in made.items_of(name).keys.cast(pl.String)]
    for batch in made.streams[name].evaluation(stage):
        if "relevant" not in batch:
            continue
        catalogue = [items[number - 1] for number in batch["catalogue"].tolist()]
        users = made.users_of(name).decode(batch["query"].numpy())
        for user, right in zip(users, batch["relevant"].tolist(), strict=True):
            chosen = {item for item, hit in zip(catalogue, right, strict=True) if hit}
            found[str(user).partition("@")[0]] = (set(catalogue), chosen)
    return found


@check
@given(
    worlds(protocols=("cross_platform",)), st.booleans(),
    st.sets(st.sampled_from(["site", "tags", "brand", "words", "weight", "age"])),
)  # fmt: skip
def test_platforms_share_what_is_declared_and_nothing_else(world: World, apart: bool, shared: set[str]) -> None:
    data = two_platforms(world) if apart else world.shop
    made = made_of(CrossPlatform, data, SPLITS[world.split], **{**TINY, "shared": sorted(shared)})
    try:
        made.prepare([])
    except DataError as error:
        assume(error.code not in ("DATA-052", "TASK-004", "DATA-050"))
        raise
    reached: dict[str, set[str]] = {}
    for domain, _ in divided(made):
        own = {name for name in made.streams if name.startswith(domain.prefix)}
        reached[domain.name] = set(made.schema(own).tables)
        for table in list(reached[domain.name]):
            reached[domain.name] |= {f"vector {name}" for name in made.tables[table].vectors}
    prefixes = {"site": "site", "tags": "tags", "brand": "item_brand", "words": "item_words", "age": "user_age"}
    names = prefixes | {"weight": "vector item_weight"}
    assert reached["a"] & reached["b"] == {names[name] for name in shared if names[name] in reached["a"] | reached["b"]}


# 11: who is cold


@check
@given(
    worlds(protocols=("cold_start",)), st.sampled_from([0.0, 0.3, 0.6]), st.sampled_from([0.0, 0.3, 0.6]),
    st.integers(0, 3), st.integers(0, 2),
)  # fmt: skip
def test_who_is_cold_is_not_trained_on(world: World, users: float, items: float, support: int, warm_up: int) -> None:
    assume(users + items > 0)
    shares = {"user": users, "item": items}

    def made(phase: str = "base") -> Protocol:
        """Not prepared: a phase may have nothing to train on."""
        return made_of(
            ColdStart, world.shop, SPLITS[world.split], **TINY, users=users, items=items, support=support,
            warm_up=warm_up, phase=phase,
        )  # fmt: skip

    whole = divided(made_of(CrossDomain, world.shop, SPLITS[world.split], **TINY))
    phases = [divided(made(phase)) for phase in (("base", "warm_a", "warm_b", "warm_c") if warm_up else ("base",))]
    for at, (domain, before) in enumerate(whole):
        own = [phase[at][1].part for phase in phases]
        base = own[0]
        assert set(np.unique(base[before.part == -1])) <= {-1}  # what the split leaves out stays out
        assert all(set(np.unique(part[before.part == -1])) <= {-1} for part in own)
        for stage in (1, 2):
            assert set(np.flatnonzero(base == stage)) <= set(np.flatnonzero(before.part == stage))
        groups = {}
        for kind in ("user", "item"):
            ids = domain.data.keys[kind]
            codes = ids.codes[domain.index()]
            share = np.array([chilled(key, kind, world) for key in ids.keys])[codes]
            groups[kind] = np.where(share < shares[kind] / 2, 1, np.where(share < shares[kind], 2, 0))
            assert not (base[groups[kind] > 0] == 0).any()  # a cold id has no training row
            for stage in (1, 2):  # and is cold in one stage
                assert not (base[groups[kind] == stage] == 3 - stage).any()
        cold = (groups["user"] > 0) | (groups["item"] > 0)
        assert np.array_equal(base[~cold], before.part[~cold])
        assert not (base[groups["user"] == 0] == SUPPORT).any()  # what is known of a cold user is of no one else
        if not support:
            assert not (base == SUPPORT).any()
        for user in np.unique(domain.data.keys["user"].codes[domain.index()][base == SUPPORT]):
            assert (base[domain.data.keys["user"].codes[domain.index()] == user] == SUPPORT).sum() <= support
        for earlier, later in pairwise(own):
            assert np.array_equal(earlier == 1, later == 1)
            assert np.array_equal(earlier == 2, later == 2)
            assert set(np.flatnonzero(earlier == 0)) <= set(np.flatnonzero(later == 0))


def chilled(key: Any, kind: str, world: World) -> float:
    """What decides whether an id is cold."""
    ids = pl.Series([key])
    seed = np.uint64(derived(SPLITS[world.split].seed, "cold", kind))
    return float(share(mixed(hashes(ids) ^ seed))[0])


# 12: columns that cannot be features


@pytest.mark.parametrize("place", ["features", "user_features", "item_features"])
@pytest.mark.parametrize("kind", ["id", "number", "date", "text"])
def test_what_is_known_after_the_row_is_no_feature(place: str, kind: str) -> None:
    known = {"user": "user", "item": "item", "users": "users.csv", "items": "items.csv"}
    with pytest.raises(ValueError, match="known only after the row"):
        Files("rows.csv", **known, labels={"click": "binary"}, known_after=["watched"], **{place: {"watched": kind}})  # type: ignore[arg-type]


@pytest.mark.parametrize("label", ["binary", "number", "category"])
@pytest.mark.parametrize("kind", ["id", "number", "text", "ids"])
def test_a_label_is_no_feature(label: Any, kind: str) -> None:
    with pytest.raises(ValueError, match="'click' is a label as well"):
        Files("rows.csv", features={"click": kind}, labels={"click": label})


def test_columns_nobody_named_are_no_features(tmp_path: Path) -> None:
    """Of rows: none; of attributes: all but those that are known later."""
    lines = "user,item,time,site,click,watched\nu,1,0,a,1,7\nv,2,1,b,0,8\n"
    (tmp_path / "rows.csv").write_text(lines)
    (tmp_path / "items.csv").write_text("item,brand,watched\n1,p,3\n2,q,4\n")
    data = Files(
        str(tmp_path / "rows.csv"), user="user", item="item", time="time", time_unit="days", features={"site": "id"},
        labels={"click": "binary"}, known_after=["watched"], items=str(tmp_path / "items.csv"),
    ).read()  # fmt: skip
    assert set(data.columns) == {"site"}
    assert data.items is not None
    assert set(data.items.columns) == {"brand"}


def test_no_label_is_a_feature_of_any_stream() -> None:
    rows = drawn_rows(np.random.default_rng(0), 60, 40).with_columns(row=pl.int_range(60).cast(pl.Float64))
    for protocol, (cls, own) in PROTOCOLS.items():
        shared = {"shared": ["site"]} if protocol == "cross_platform" else own
        made = made_of(cls, Shop(rows, labels=LABELS, ids=("site",), numbers=("price",)), SPLITS["rows"],
                       **{**TINY, **shared})  # fmt: skip
        made.prepare([])
        for stream in made.streams.values():
            labels = {label.name for label in stream.schema.labels}
            features = {feature.name for feature in stream.schema.features}
            assert not labels & features
            assert not {table for feature in stream.schema.features for table in [feature.table] if "label" in table}
