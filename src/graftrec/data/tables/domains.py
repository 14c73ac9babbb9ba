"""Domains: which rows they have, and whose ids mean the same."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from graftrec.data.sources.provenance import shown
from graftrec.data.tables.id_matching import Joined, joined
from graftrec.data.tables.interactions import Attributes, Interactions, Ints, distinct
from graftrec.utils.errors import DataError, UserError
from graftrec.utils.seeds import derived, hashes, mixed, share

KINDS = ("user", "item")
MOST = 500  # domains that a column may tell apart: each gets streams, and often tables, of its own
LONGEST = 60  # letters of a domain's name, which files and tasks are named by


@dataclass(frozen=True, eq=False)
class Domain:
    """Rows of one domain.

    Attributes:
        name: empty where there is only one. data: the table that it is part of. rows: (n,) of that table; none: all.
        tables: kind (user, item) -> name of the table of its ids; domains that name the same table share it.
        names: kind -> what its raw ids are called there, where that is something else.
        shared: feature columns whose vectors are shared by name over domains; none: all of them.
        joined: link tables, and how many of their ids it has.
    """

    name: str
    data: Interactions
    rows: Ints | None = None
    tables: dict[str, str] = field(default_factory=lambda: {kind: kind for kind in KINDS})
    names: dict[str, pl.Series] = field(default_factory=dict)
    shared: tuple[str, ...] | None = None
    joined: tuple[Joined, ...] = ()

    def keys(self, kind: str) -> pl.Series:
        """What the raw ids of the table are called, by code: equal names of one table mean the same."""
        return self.names.get(kind, self.data.keys[kind].keys)

    def attributes(self, kind: str) -> Attributes | None:
        """What is known of its users or items, under the names that they have here."""
        known = self.data.users if kind == "user" else self.data.items
        if known is None or kind not in self.names:
            return known
        renamed = pl.DataFrame({"key": self.data.keys[kind].keys.cast(pl.String), "new": self.names[kind]})
        frame = known.frame.with_columns(pl.col("key").cast(pl.String)).join(renamed, on="key", how="inner")
        return replace(known, frame=frame.drop("key").rename({"new": "key"}))

    @property
    def prefix(self) -> str:
        """What the names of its streams begin with."""
        return f"{self.name}/" if self.name else ""

    @property
    def size(self) -> int:
        """Number of rows."""
        return self.data.size if self.rows is None else len(self.rows)

    def take(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A column of the table for its own rows; not a copy where these are all."""
        return values if self.rows is None else values[self.rows]

    def index(self) -> Ints:
        """Its rows in the table."""
        return np.arange(self.data.size) if self.rows is None else self.rows

    def put(self, values: npt.NDArray[Any], into: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """``values`` of its own rows written into a column of the table; not a copy where these are all."""
        if self.rows is None:
            return values
        into[self.rows] = values
        return into

    def table(self, column: str, kind: str = "") -> str:
        """The table of a feature column, of an attribute if ``kind`` says of what."""
        known = {"": self.data, "user": self.data.users, "item": self.data.items}[kind]
        meaning = None if known is None else known.columns.get(column)
        own = "" if meaning is None else meaning.table
        alone = self.shared is not None and (own or column) not in self.shared
        name = own or (f"{kind}_{column}" if kind else column)
        return f"{self.prefix}{name}" if alone else name


def domains_of(parts: Mapping[str, Interactions]) -> list[Domain]:
    """Domains of a dataset: its parts, or what the column ``domain`` tells apart; in the order of their names.

    Raises:
        UserError: more than `MOST` values, or two that would have the same name. DataError: two parts are the same
        data.
    """
    if len(parts) > 1:
        for one, other in itertools.combinations(parts, 2):
            if _same(parts[one], parts[other]):
                raise DataError(
                    "DATA-050", f"'{one}' and '{other}' have identical rows: source and target are the same data"
                )
        return [Domain(slug(name), data, _kept(data)) for name, data in parts.items()]
    data = next(iter(parts.values()))
    if not data.has("domain"):
        return [Domain("", data, _kept(data))]
    ids = data.keys["domain"]
    rows = np.arange(data.size) if data.kept is None else np.flatnonzero(data.kept)
    rows = rows[np.argsort(ids.codes[rows], kind="stable")]  # of one domain together, and in their order there
    bounds = np.searchsorted(ids.codes[rows], np.arange(len(ids.keys) + 1))
    count = int((np.diff(bounds) > 0).sum())
    if count > MOST:
        raise UserError(
            f"dataset.domain: the column has {count:,} values, such as {', '.join(map(shown, ids.keys.head(3)))}; "
            f"{MOST} domains can be told apart: name a column with fewer, or make this one a feature of kind id"
        )
    found: dict[str, str] = {}
    domains = []
    for code in ids.keys.arg_sort():
        value = str(ids.keys[code])
        name = slug(value)
        if name in found:
            raise UserError(f"dataset.domain: '{found[name]}' and '{value}' would both be the domain '{name}'")
        found[name] = value
        if bounds[code] < bounds[code + 1]:
            domains.append(Domain(name, data, rows[bounds[code] : bounds[code + 1]]))
    return domains


def _kept(data: Interactions) -> Ints | None:
    return None if data.kept is None else np.flatnonzero(data.kept)


def _same(one: Interactions, other: Interactions) -> bool:
    """Whether two tables have the same rows in the same order: one file that was named twice."""
    if one.size != other.size or one.keys.keys() != other.keys.keys():
        return False
    pairs = [(one.time, other.time), (one.codes, other.codes), (one.values, other.values), (one.answers, other.answers)]
    pairs += [(one.keys[role].codes, other.keys[role].codes) for role in one.keys]
    if not all((a is None) == (b is None) for a, b in pairs):
        return False
    if not all(
        a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        for a, b in pairs
        if a is not None and b is not None
    ):
        return False
    return all(one.keys[role].keys.equals(other.keys[role].keys) for role in one.keys)


def slug(value: str) -> str:
    """A name that can stand in a stream's name."""
    name = re.sub(r"\W+", "_", value).strip("_").lower() or "other"
    if len(name) <= LONGEST:
        return name
    return f"{name[: LONGEST - 9].rstrip('_')}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def unlinked(domains: Sequence[Domain], kind: str, linked: float, seed: int) -> list[Domain]:
    """The domains with only a share of the ids that several of them have still meaning the same.

    The others get a fresh id in every domain; no row is dropped. Which stay linked is decided by a hash of the id, so
    25 % are part of 50 %, and rows, splits and test users are the same at every level.

    Args:
        domains: with a table of ``kind`` in common. linked: share in [0, 1]. seed: of the choice.
    """
    if linked == 1.0:
        return list(domains)
    found = []
    text = len({domain.keys(kind).dtype for domain in domains}) > 1  # as `Entities` compares them
    for domain in domains:
        keys = domain.keys(kind).cast(pl.String) if text else domain.keys(kind)
        cut = share(mixed(hashes(keys) + np.uint64(derived(seed, "linked", kind)))) >= linked
        frame = pl.DataFrame({"key": keys.cast(pl.String), "cut": cut})
        fresh = pl.when("cut").then(pl.format("{}@" + domain.name, "key")).otherwise("key")
        found.append(replace(domain, names={**domain.names, kind: frame.select(fresh.alias("new"))["new"]}))
    return found


def linked_by(domain: Domain, kind: str, link: pl.DataFrame, alone: bool, path: str) -> Domain:
    """The domain with ids replaced by those that a link table (own id, the others' id) says mean the same.

    Args:
        path: of the table. alone: an id without a link is made one that no other domain has; else equal ids still mean
            the same.

    Raises:
        DataError: two ids of the domain would become the same.
    """
    own, other = (link[name].cast(pl.String) for name in link.columns)
    pairs = pl.DataFrame({"key": own, "new": other}).drop_nulls()
    doubles, pairs = len(pairs), pairs.unique("key", keep="first", maintain_order=True)
    meets = joined(
        f"protocol.links.{domain.name}.{kind}", f"{kind}s of {path} are in '{domain.name}'",
        pairs["key"], domain.keys(kind).cast(pl.String), doubles - len(pairs),
    )  # fmt: skip
    rest = pl.format("{}@" + domain.name, "key") if alone else pl.col("key")
    keys = (
        pl.DataFrame({"key": domain.keys(kind).cast(pl.String)})
        .join(pairs, on="key", how="left", maintain_order="left")
        .select(pl.coalesce("new", rest).alias("new"))["new"]
    )
    used = keys.gather(distinct(domain.take(domain.data.keys[kind].codes)))  # domains of one table share its keys
    if used.n_unique() < len(used):
        raise DataError("DATA-044", f"{domain.name}: the link table gives two {kind}s of this domain the same id")
    return replace(domain, names={**domain.names, kind: keys}, joined=(*domain.joined, meets))
