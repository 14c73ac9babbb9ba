"""A small shop with all that goes wrong in a real one, and slow plain-Python answers about it."""

from __future__ import annotations

import inspect
import math
import random
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl
import torch

from graftrec.data.batch import Batch
from graftrec.data.datasets.base import Dataset
from graftrec.data.protocols.base import Protocol
from graftrec.data.protocols.long_short_term import LongShortTerm
from graftrec.data.schema import Stream, Table
from graftrec.data.splits.base import Parts, Split
from graftrec.data.splits.temporal import ByTime
from graftrec.data.streams.sampling_config import Candidates, History
from graftrec.data.tables.builder import interactions
from graftrec.data.tables.domains import Domain, domains_of
from graftrec.data.tables.interactions import Column, Interactions

START = 18_262.0  # days from 1970 to 2020
DAYS, TRAIN_UNTIL, VAL_UNTIL = 100.0, 0.8, 0.9
CUTS = (TRAIN_UNTIL * DAYS, VAL_UNTIL * DAYS)
LATE_ITEMS = (100, 401)  # the smallest and the largest id: a vocabulary of all rows would number every item anew
LATE_USERS = ("a_late", "m_late", "z_late")
SETTINGS: dict[str, Any] = {"long": 30, "short": 6, "chunk": 3, "negatives": 10, "min_users": 1}


@dataclass
class Shop(Dataset):
    """A dataset of frames, whose times are days since 2020.

    Args:
        domain: column of the rows, the items or the users. more: further fields of `Interactions`.
    """

    rows: pl.DataFrame
    items: pl.DataFrame | None = None
    users: pl.DataFrame | None = None
    labels: dict[str, str] = field(default_factory=dict)
    ids: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    domain: str = ""
    columns: dict[str, Column] = field(default_factory=dict)
    user_columns: dict[str, Column] | None = None
    item_columns: dict[str, Column] | None = None
    more: dict[str, Any] = field(default_factory=dict)

    def read(self) -> Interactions:
        rows = self.rows
        for key, frame in (("item", self.items), ("user", self.users)):
            if self.domain and self.domain not in rows.columns and frame is not None and self.domain in frame.columns:
                rows = rows.join(frame.select(key, self.domain), on=key, how="left", maintain_order="left")
        if self.domain:
            rows = rows.with_columns(domain=self.domain)
        if "time" in rows.columns and self.more.get("clock", True):
            rows = rows.with_columns(pl.col("time") + START)
        columns = {name: Column("id") for name in self.ids} | {name: Column("number") for name in self.numbers}
        return interactions(
            "shop", rows, columns | self.columns, self.labels, self.users, self.items, self.user_columns,
            self.item_columns, **self.more,
        )  # fmt: skip

    def with_rows(self, rows: pl.DataFrame) -> Shop:
        return replace(self, rows=rows)


def open_shop(seed: int = 0) -> Shop:
    """Half-day time steps give ties, ids of baskets say nothing of time, some lines are double."""
    draw = random.Random(seed)
    users = [f"u{number:02d}" for number in range(30)]
    clusters = [[200 + 10 * group + place for place in range(8)] for group in range(3)]
    lines, ids = [], draw.sample(range(10_000), 600)
    for basket in ids:
        time = draw.randrange(int(2 * DAYS) + 1) / 2
        late = time >= CUTS[0]
        user = draw.choice(LATE_USERS) if late and draw.random() < 0.15 else draw.choice(users)
        pool = clusters[draw.randrange(3)]
        if draw.random() < 0.3:
            pool = [*pool, *clusters[0]]
        chosen = draw.sample(sorted(set(pool)), draw.randint(1, 6))
        if late and draw.random() < 0.2:
            chosen.append(draw.choice(LATE_ITEMS))
        if draw.random() < 0.2:
            chosen.append(chosen[0])
        lines += [(user, item, time, basket) for item in chosen]
    lines += [("u00", 200, 0.0, 20_000), ("u01", 210, DAYS, 20_001)]
    lines += [("u02", 201, 40.0, 20_002), ("u02", 202, 40.0, 20_003)]  # two baskets at once
    rows = pl.DataFrame(lines, schema=["user", "item", "time", "basket"], orient="row")
    items = [(item, f"d{group}", None if item % 4 == 0 else f"b{item % 3}") for group in range(3)
             for item in clusters[group]]  # fmt: skip
    items += [(item, "a_department_to_come", "b_to_come") for item in LATE_ITEMS]
    people = [(user, "old" if number % 3 else "young") for number, user in enumerate(users[:25])]
    people += [(user, "a_new_age") for user in LATE_USERS]
    return Shop(
        rows,
        pl.DataFrame(items, schema=["item", "department", "brand"], orient="row"),
        pl.DataFrame(people, schema=["user", "age"], orient="row"),
    )


def made_of(kind: type[Protocol], dataset: Dataset, split: Split | None = None, **settings: Any) -> Protocol:
    """A protocol whose settings are given flat, whichever part they belong to."""
    parts = []
    for part in (History, Candidates):
        own = inspect.signature(part).parameters
        parts.append(part(**{name: settings.pop(name) for name in list(settings) if name in own}))
    return kind(dataset, split or ByTime(TRAIN_UNTIL, VAL_UNTIL, "span"), *parts, **settings)


def prepared(
    shop: Dataset, split: Split | None = None, kind: type[Protocol] = LongShortTerm, **settings: Any
) -> Protocol:
    protocol = made_of(kind, shop, split, **{**SETTINGS, **settings})
    protocol.prepare([])
    return protocol


def divided(protocol: Protocol) -> list[tuple[Domain, Parts]]:
    """What the protocol's split says of each domain."""
    domains = protocol.arrange(domains_of(protocol.dataset.parts()))
    return list(zip(domains, protocol.divide(domains), strict=True))


def everything(protocol: Protocol) -> dict[str, torch.Tensor]:
    """All tensors that training and evaluation can see, by name."""
    tables = {
        f"table/{name}/all/{other}": values
        for name, table in protocol.tables.items()
        for other, values in [*table.content.items(), *table.vectors.items(), ("rows", table.rows)]
        if values is not None
    }
    return (
        trained(protocol)
        | tables
        | {
            f"{name}/{stage}/{number}/{column}": values
            for name, stream in protocol.streams.items()
            for stage in ("val", "test")
            for number, batch in enumerate(stream.evaluation(stage))
            for column, values in batch.items()
        }
    )


def trained(protocol: Protocol) -> dict[str, torch.Tensor]:
    """All tensors of training, and of the tables, as the network sees them: entities are rows of the embedding."""
    found: dict[str, torch.Tensor] = {}
    for name, stream in protocol.streams.items():
        found[f"{name}/size"] = torch.tensor(stream.rows)
        if not stream.rows:
            continue
        for seed in (0, 1):
            batch = stream.batch(torch.arange(stream.rows), torch.Generator().manual_seed(seed))
            batch = embedded(batch, stream.schema, protocol.tables)
            found |= {f"{name}/{seed}/{column}": values for column, values in batch.items()}
        batch = embedded(stream.sample, stream.schema, protocol.tables)
        found |= {f"{name}/sample/{column}": values for column, values in batch.items()}
        found |= {f"{name}/label/{label.name}": stream.labels(label.name) for label in stream.schema.labels}
        found |= {f"{name}/label/{label.name}/classes": torch.tensor(label.classes) for label in stream.schema.labels}
    for name, table in protocol.tables.items():
        found[f"table/{name}"] = torch.tensor(table.size)
        own = torch.arange(table.size) if table.rows is None else torch.nonzero(table.rows).squeeze(1)
        found |= {f"table/{name}/{other}": values[own] for other, values in table.content.items()}
        found |= {f"table/{name}/{other}": values[own] for other, values in table.vectors.items()}
    return found


def embedded(batch: Batch, schema: Stream, tables: dict[str, Table]) -> Batch:
    """A batch with rows of embeddings in place of entities, whose numbers say nothing to a network."""
    names = {feature.name: feature.table for feature in schema.features if feature.table}
    names |= {name: schema.candidate for name in ("candidate", "catalogue") if schema.candidate and name in batch}
    found = dict(batch)
    for name, table in names.items():
        rows = tables[table].rows
        if rows is not None:
            found[name] = rows[batch[name]]
    return found


def differing(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    """Names of tensors that are not bit for bit the same."""
    assert one.keys() == other.keys(), sorted(one.keys() ^ other.keys())
    same = {
        name: values.shape == other[name].shape and torch.equal(values.nan_to_num(-7.0), other[name].nan_to_num(-7.0))
        for name, values in one.items()
    }
    return [name for name, equal in same.items() if not equal]


@dataclass
class Past:
    """Lines of a shop as plain Python, and what was known at a time."""

    rows: pl.DataFrame
    cuts: tuple[float, float] = CUTS

    def __post_init__(self) -> None:
        early = self.rows.filter(pl.col("time") < self.cuts[0])
        self.items: list[int] = sorted(set(early["item"]))  # the catalogue
        self.users: list[str] = sorted(set(early["user"]))
        self.every_item: list[int] = sorted(set(self.rows["item"]))
        self.everybody: list[str] = sorted(set(self.rows["user"]))
        lines = self.rows.select("user", "item", "time", "basket").iter_rows()
        self.lines = [line for line in lines if line[1] in set(self.items)]
        self.baskets: dict[int, tuple[str, float, list[int]]] = {}  # in the order of user, time and id
        found = defaultdict(set)
        for user, item, time, basket in self.lines:
            found[basket].add((user, time, item))
        for basket in sorted(found, key=lambda basket: (*min(found[basket])[:2], basket)):
            (user, time), *others = {(user, time) for user, time, _ in found[basket]}
            assert not others
            self.baskets[basket] = user, time, sorted(item for _, _, item in found[basket])

    def window(self, time: float) -> int:
        return (time >= self.cuts[0]) + (time >= self.cuts[1])

    def number(self, item: int) -> int:
        """The item's number among all items."""
        return self.every_item.index(item) + 1

    def item(self, number: int) -> int:
        return self.every_item[number - 1]

    def who(self, user: str) -> int:
        """The user's number among all users."""
        return self.everybody.index(user) + 1

    def chunks(self, size: int) -> list[tuple[int, list[int], bool]]:
        """Basket, items of the chunk, whether it is the basket's first, of all training baskets."""
        return [
            (basket, items[at : at + size], at == 0)
            for basket, (_, time, items) in self.baskets.items()
            if self.window(time) == 0
            for at in range(0, len(items), size)
        ]

    def history(self, user: str, time: float, length: int) -> list[tuple[int, float]]:
        """Item numbers and days since, newest last, padded on the left."""
        seen = sorted((when, item) for who, item, when, _ in self.lines if who == user and when < time)[-length:]
        return [(0, 0.0)] * (length - len(seen)) + [(self.number(item), time - when) for when, item in seen]

    def cross(self, user: str, item: int, time: float, values: dict[str, dict[int, str | None]]) -> dict[str, float]:
        """The columns of `Cross`, counted anew for each question; a missing attribute is a value of its own."""
        before = [line for line in self.lines if line[2] < time]
        pair = [t for u, i, t, _ in before if (u, i) == (user, item)]
        answer = columns("pair", pair, time, 10, 30, 90)
        for name, of in values.items():
            answer |= columns(name, [t for u, i, t, _ in before if u == user and of[i] == of[item]], time, 60)
        answer |= columns("item", [t for _, i, t, _ in before if i == item], time, 30, 120)
        buyers = {u for u, i, _, _ in before if i == item}
        firsts = [min(t for u, i, t, _ in before if (u, i) == (buyer, item)) for buyer in buyers]
        return answer | columns("first", firsts, time, 60)


def columns(name: str, times: list[float], now: float, *half_lives: int) -> dict[str, float]:
    """log(1 + count), and the same with each event counting half after a half-life."""
    aged = {f"{name}_{life}": math.log1p(sum(2 ** ((t - now) / life) for t in times)) for life in half_lives}
    return {name: math.log1p(len(times)), **aged}


def train_batch(stream: Any, seed: int = 0) -> Batch:
    """All training rows in order."""
    batch: Batch = stream.batch(torch.arange(stream.rows), torch.Generator().manual_seed(seed))
    return batch
