"""Sequences that hold what a user chose in another domain, worked out by hand and against plain Python."""

from __future__ import annotations

import random
from typing import Any

import polars as pl
import pytest
import torch

from graftrec.data.protocols.base import Protocol
from graftrec.data.protocols.cross_domain import CrossDomain
from graftrec.data.splits.base import Split
from graftrec.data.splits.leave_last_out import LeaveLastOut
from graftrec.data.splits.temporal import ByTime
from graftrec.data.streams.sequences import SequenceRows
from graftrec.utils.errors import UserError
from shop import Shop, prepared

NAMES = ("food/sequences", "kitchen/sequences")
ROWS = pl.DataFrame(
    [
        ("a", "f1", 0.0, "food"), ("a", "k1", 1.0, "kitchen"), ("a", "f2", 2.0, "food"), ("a", "k2", 3.0, "kitchen"),
        ("a", "k3", 4.0, "kitchen"), ("a", "f3", 5.0, "food"), ("a", "k4", 6.0, "kitchen"),
        ("b", "k1", 0.0, "kitchen"), ("b", "f1", 1.0, "food"), ("b", "f2", 2.0, "food"), ("b", "k2", 3.0, "kitchen"),
        ("b", "f3", 4.0, "food"),
        ("c", "k3", 0.0, "kitchen"), ("c", "k4", 1.0, "kitchen"), ("c", "f3", 2.0, "food"),
    ],
    schema=["user", "item", "time", "domain"], orient="row",
)  # fmt: skip


def made(rows: pl.DataFrame = ROWS, split: Split | None = None, short: int = 4, **more: Any) -> Protocol:
    shop = Shop(rows, domain="domain")
    settings = {"short": short, "across": True, "min_users": 0, **more}
    return prepared(shop, split or LeaveLastOut(across=True), CrossDomain, **settings)


def stream(protocol: Protocol, name: str, beside: tuple[str, ...] = NAMES) -> SequenceRows:
    found = protocol.stream(name, beside)
    assert isinstance(found, SequenceRows)
    return found


def named(protocol: Protocol, items: torch.Tensor) -> list[list[str]]:
    """Items (B, L) by their names, without padding."""
    keys = protocol.items_of(NAMES[0])
    return [[str(keys.decode(each.numpy()[None])[0]) for each in row if each] for row in items]


def everything(rows: SequenceRows) -> dict[str, torch.Tensor]:
    return rows.batch(torch.arange(rows.rows), torch.Generator())


def test_events_of_the_other_domain_are_read_and_never_asked() -> None:
    protocol = made()
    kitchen = stream(protocol, NAMES[1])
    batch = everything(kitchen)
    sequences = named(protocol, batch["sequence"])
    assert sequences == [["f1", "k1", "f2", "k2"]]  # of b and c no further kitchen event trains
    places = named(protocol, batch["catalogue"][batch["next"].clamp_min(0)])
    asked = [[item for item, place in zip(row, own, strict=True) if place >= 0]
             for row, own in zip(places, batch["next"].tolist(), strict=True)]  # fmt: skip
    assert asked == [["k1", "k2", "k3"]]
    food = everything(stream(protocol, NAMES[0]))
    assert named(protocol, food["sequence"]) == [["f1", "k1", "f2", "k2"], ["k1", "f1"]]  # f2 is asked, and f1 and f2


def test_an_evaluation_reads_what_came_before_in_both_and_no_test_row_of_the_other() -> None:
    protocol = made(short=9)
    (ranking,) = list(stream(protocol, NAMES[1]).evaluation("test"))
    assert named(protocol, ranking["sequence"]) == [["f1", "k1", "f2", "k2", "k3", "f3"]]
    (ranking,) = list(stream(protocol, NAMES[0]).evaluation("val"))
    assert named(protocol, ranking["sequence"]) == [["f1", "k1", "f2", "k2", "k3"]]
    own = [("b", "k5", 5.0, "kitchen")]  # b's last is in the kitchen now, so f3 validates
    more = made(pl.concat([ROWS, pl.DataFrame(own, schema=ROWS.schema, orient="row")]), short=9)
    rankings = list(stream(more, NAMES[1]).evaluation("test"))
    assert ["k1", "f1", "f2", "k2", "f3"] in named(more, torch.cat([each["sequence"] for each in rankings]))


def test_a_target_alone_sees_its_own_domain_alone() -> None:
    protocol, apart = made(), made(across=False)
    alone = stream(protocol, NAMES[1], (NAMES[1],))
    assert alone is protocol.streams[NAMES[1]]
    assert stream(apart, NAMES[1]) is apart.streams[NAMES[1]]
    for one, other in ((everything(alone), everything(stream(apart, NAMES[1]))),):
        assert all(torch.equal(values, other[name]) for name, values in one.items())
    protocol.use(NAMES, NAMES[1:], 0)
    assert {name: len(rows) for name, rows in named_rows(protocol).items()} == {NAMES[0]: 2, NAMES[1]: 1}
    protocol.use(NAMES[1:], NAMES[1:], 0)
    assert named_rows(protocol) == {NAMES[1]: [["k1", "k2"]]}


def named_rows(protocol: Protocol) -> dict[str, list[list[str]]]:
    (batches,) = list(protocol.train_dataloader())
    return {name: named(protocol, batch["sequence"]) for name, batch in batches.items()}


def generated(seed: int) -> pl.DataFrame:
    draw = random.Random(seed)
    lines = []
    for user in range(12):
        for _ in range(draw.randint(2, 12)):
            domain = draw.choice(("food", "kitchen"))
            lines.append((f"u{user:02d}", f"{domain[0]}{draw.randint(1, 6)}", draw.randint(0, 30) / 2, domain))
    return pl.DataFrame(lines, schema=ROWS.schema, orient="row")


@pytest.mark.parametrize("seed", range(4))
def test_every_own_training_event_with_a_past_is_asked_once_with_the_newest_before_it(seed: int) -> None:
    protocol = made(generated(seed), short=3)
    both = {name: stream(protocol, name) for name in NAMES}
    told = []  # (user, time, item, domain) of all training lines, in the order of their histories
    for name, rows in both.items():
        lines = rows.lines
        train = torch.nonzero(lines.part == 0).squeeze(1)
        told += [(int(lines.user[at]), float(lines.time[at]), int(lines.item[at]), name) for at in train]
    told.sort()
    for name, rows in both.items():
        expected = []
        for user in {who for who, *_ in told}:
            own = [event for event in told if event[0] == user]
            expected += [(user, event[2]) for at, event in enumerate(own) if event[3] == name and at]
        batch = everything(rows)
        found = []
        for row, user in enumerate(batch["user"].tolist()):
            items = [each[2] for each in told if each[0] == user]
            read = [item for item in batch["sequence"][row].tolist() if item]
            assert any(items[at : at + len(read)] == read for at in range(len(items)))
            assert len(read) <= 3
            assert int((batch["next"][row] >= 0).sum()) > 0
            for place in batch["next"][row].tolist():
                found += [(user, int(batch["catalogue"][place]))] if place >= 0 else []
        assert sorted(found) == sorted(expected)
        assert len(rows.labels("next")) == len(expected)


def test_what_the_test_holds_moves_nothing_before_it() -> None:
    protocol = made(short=9)
    other = ROWS.with_columns(
        pl.when((pl.col("user") == "a") & (pl.col("item") == "k4")).then(pl.lit("k1")).otherwise("item").alias("item")
    )
    changed = made(other, short=9)
    for name in NAMES:
        one, two = (everything(stream(each, name)) for each in (protocol, changed))
        assert named(protocol, one["sequence"]) == named(changed, two["sequence"])
        reads = [
            [named(each, batch["sequence"]) for batch in stream(each, name).evaluation("val")]
            for each in (protocol, changed)
        ]
        assert reads[0] == reads[1]


def test_domains_need_one_clock() -> None:
    for split in (LeaveLastOut(),):
        with pytest.raises(UserError, match=r"split=leave_last_out split\.across=true"):
            made(split=split)
    assert stream(made(split=ByTime(0.7, 0.85, "span")), NAMES[1]).rows


def test_one_behaviour_each() -> None:
    shop = Shop(ROWS.with_columns(event=pl.lit(1, pl.UInt8)), domain="domain", more={"behaviours": ("seen", "bought")})
    protocol = prepared(shop, LeaveLastOut(across=True), CrossDomain, short=4, across=True, min_users=0)
    with pytest.raises(UserError, match="one behaviour"):
        protocol.stream(NAMES[1], NAMES)
