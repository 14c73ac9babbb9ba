"""Platforms whose ids never meet by accident."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from graftrec.data.datasets.base import Dataset
from graftrec.data.protocols.base import Protocol
from graftrec.data.protocols.cross_domain import linked
from graftrec.data.splits.base import Split
from graftrec.data.streams.loader import Mixing
from graftrec.data.streams.sampling_config import Candidates, History
from graftrec.data.tables.domains import KINDS, Domain
from graftrec.utils.errors import UserError


class CrossPlatform(Protocol):
    """Platforms that have nothing in common but what is declared.

    Every platform's users, items, features and attributes have tables of their own: 17 on one platform is not 17 on the
    other. What crosses is named: columns whose values mean the same (genres, words of a title, an embedding), and link
    tables of ids. Their columns may differ.

    Args:
        shared: feature and attribute columns whose vectors all platforms share.
        links: platform -> ``user`` or ``item`` -> a file of two columns, this platform's id and what the others call
            it; that kind of id is then shared, and an id without a link stays the platform's own.
        batch_size: rows of the target's stream per step. mixing: see `TrainLoader`.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: Split | None = None,
        history: History | None = None,
        candidates: Candidates | None = None,
        shared: Sequence[str] = (),
        links: Mapping[str, Mapping[str, str]] | None = None,
        batch_size: int = 128,
        mixing: Mixing = "proportional",
    ) -> None:
        super().__init__(dataset, split, history, candidates, batch_size, mixing)
        self.shared, self.links = tuple(shared), dict(links or {})

    def arrange(self, domains: list[Domain]) -> list[Domain]:
        if len(domains) < 2:
            raise UserError(
                "protocol=cross_platform needs several platforms: dataset=several, or a column dataset.domain"
            )
        known = {name for domain in domains for name in names_of(domain)}
        odd = [name for name in self.shared if name not in known]
        if odd:
            raise UserError(
                f"protocol.shared: no platform has a column '{odd[0]}'; there are {', '.join(sorted(known))}"
            )
        alone = [name for name in self.shared if sum(name in names_of(domain) for domain in domains) == 1]
        if alone:
            raise UserError(f"protocol.shared: only one platform has a column '{alone[0]}', so it would carry nothing")
        found = []
        reference: dict[str, str] = {}  # kind -> the platform whose ids the link tables speak of
        for domain in linked(domains, self.links, alone=True):
            tables = {}
            for kind in KINDS:
                own = kind in self.links.get(domain.name, {})
                if not own and any(kind in link for link in self.links.values()):
                    own = reference.setdefault(kind, domain.name) == domain.name
                tables[kind] = kind if own else f"{domain.prefix}{kind}"
            found.append(replace(domain, shared=self.shared, tables=tables))
        return found


def names_of(domain: Domain) -> set[str]:
    """Feature and attribute columns, by the name that they are shared under."""
    found = {column.table or name for name, column in domain.data.columns.items()}
    for known in (domain.data.users, domain.data.items):
        if known is not None:
            found |= {column.table or name for name, column in known.columns.items()}
    return found
