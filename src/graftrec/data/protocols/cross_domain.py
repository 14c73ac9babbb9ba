"""Several domains side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import polars

from graftrec.data.datasets.base import Dataset
from graftrec.data.protocols.base import Protocol
from graftrec.data.sources import table_reader, value_parsers
from graftrec.data.splits.base import Parts, Split
from graftrec.data.streams.loader import Mixing
from graftrec.data.streams.sampling_config import Candidates, History
from graftrec.data.tables.domains import KINDS, Domain, linked_by, unlinked
from graftrec.data.tables.id_matching import joined, refuse_strangers
from graftrec.utils.errors import UserError


class CrossDomain(Protocol):
    """Domains that share users and, where ids are the same, items; under a time split one cut for all of them.

    Histories and counts are the domain's own, so a target trained alone sees its own domain and nothing else. Domains
    are what ``dataset.domain`` tells apart, or the parts of a dataset of several; one domain is allowed.

    Args:
        shares: whose ids mean the same in all domains: ``user``, ``item``, both or neither.
        links: domain -> ``user`` or ``item`` -> a file of two columns, this domain's id and what it is called in the
            others.
        overlap_users, overlap_items: share in [0, 1] of the ids in several domains that stay linked. The others get
            fresh ids; rows, splits and test users stay the same, and 25 % is a part of 50 %.
        batch_size: rows of the target's stream per step. mixing: see `TrainLoader`.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: Split | None = None,
        history: History | None = None,
        candidates: Candidates | None = None,
        shares: Sequence[Literal["user", "item"]] = ("user", "item"),
        links: Mapping[str, Mapping[str, str]] | None = None,
        overlap_users: float = 1.0,
        overlap_items: float = 1.0,
        batch_size: int = 128,
        mixing: Mixing = "proportional",
    ) -> None:
        super().__init__(dataset, split, history, candidates, batch_size, mixing)
        if set(shares) - set(KINDS):
            raise ValueError(f"shares should be of user and item. Found {', '.join(shares)}.")
        if not (0 <= overlap_users <= 1 and 0 <= overlap_items <= 1):
            raise ValueError(f"overlaps should be in [0, 1]. Found {overlap_users} and {overlap_items}.")
        self.shares, self.links = tuple(shares), dict(links or {})
        self._whole: list[Domain] = []
        self.overlap = {"user": overlap_users, "item": overlap_items}

    def arrange(self, domains: list[Domain]) -> list[Domain]:
        domains = self._whole = apart(linked(domains, self.links), self.shares)
        for kind in self.shares:
            if len(domains) > 1 and all(domain.data.has(kind) for domain in domains):
                domains = unlinked(domains, kind, self.overlap[kind], self.split.seed)
        return domains

    def divide(self, domains: Sequence[Domain]) -> list[Parts]:
        return super().divide(self._whole)  # as it would be if all ids were linked


def linked(domains: Sequence[Domain], links: Mapping[str, Mapping[str, str]], alone: bool = False) -> list[Domain]:
    """The domains with the ids that link tables give them; ``alone``: an id without a link is only the domain's own.

    Raises:
        UserError: a link of a domain that is not there, or a file of one column. DataError: two ids of a domain that
        would become the same, and tables of which no id is in the domain or in no other.
    """
    names = [domain.name for domain in domains]
    unknown = [name for name in links if name not in names]
    if unknown:
        raise UserError(f"protocol.links: there is no domain '{unknown[0]}'; there are {', '.join(names)}")
    tables = {
        (name, kind): (path, _link(name, kind, path)) for name, own in links.items() for kind, path in own.items()
    }
    found = []
    for domain in domains:
        for kind in links.get(domain.name, {}):
            path, link = tables[domain.name, kind]
            domain = linked_by(domain, kind, link, alone, path)
        found.append(domain)
    meets = []
    for (name, kind), (path, link) in tables.items():
        others = [
            domain.keys(kind).cast(polars.String)
            for domain in found
            if domain.name != name and kind in domain.data.keys
        ]
        if others:
            what = f"{kind}s of {path}, second column, are in another domain"
            meets.append(joined(f"protocol.links.{name}.{kind}", what, link["other"], polars.concat(others)))
    refuse_strangers([*(each for domain in found for each in domain.joined), *meets])
    return [replace(found[0], joined=(*found[0].joined, *meets)), *found[1:]]


def _link(name: str, kind: str, path: str) -> polars.DataFrame:
    """The first two columns of a link table, ``own`` and ``other``, as text."""
    there = table_reader.columns(path)
    if len(there) < 2:
        raise UserError(f"protocol.links.{name}.{kind}: {path} has one column, two are needed: own id, the others' id")
    raw = table_reader.read(path, there[:2])
    return polars.DataFrame(
        {
            key: value_parsers.words(raw, column).cast(polars.String)
            for key, column in zip(("own", "other"), there, strict=False)
        }
    )


def apart(domains: Sequence[Domain], shares: Sequence[str]) -> list[Domain]:
    """The domains with a table of their own for every kind of id that is not shared."""
    if len(domains) == 1:
        return list(domains)
    return [
        replace(domain, tables={kind: kind if kind in shares else f"{domain.prefix}{kind}" for kind in KINDS})
        for domain in domains
    ]
