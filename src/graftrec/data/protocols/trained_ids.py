"""Which ids have vectors that can have learnt something, when only some of the streams train."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from graftrec.data.features.train_statistics import Fitted
from graftrec.data.schema import Table
from graftrec.data.splits.base import Parts
from graftrec.data.streams.rows import Place
from graftrec.data.tables.domains import Domain

Mask = npt.NDArray[np.bool_]


class Learnt:
    """The ids of every table that each domain's training rows have, by themselves or as what is known of others.

    Rows of tables are numbered over all domains, so in a model that reads some of them the others' ids have a vector
    that no step ever moves: noise, where an unknown id has row 0. Words and buckets of numbers are no ids.

    Args:
        used: domains, parts and kinds of their streams. people: for each, user or item -> whom its training rows have
            (E,). tables: of everything. attributes: names of those whose ids are attributes. places: of the domains
            with rows, where the ids of their columns go.
    """

    def __init__(
        self,
        used: Sequence[tuple[Domain, Parts, Sequence[str]]],
        people: Sequence[Mapping[str, Mask]],
        tables: Mapping[str, Table],
        attributes: Collection[str],
        places: Mapping[int, Mapping[str, Place]],
    ) -> None:
        self._used, self._people, self._tables, self._places = used, people, tables, places
        self._attributes = set(attributes)
        self._masks: dict[int, dict[str, Mask]] = {}

    def table(self, name: str, streams: Collection[str]) -> Table:
        """A table in which ids that no training row of these streams' domains has read row 0, as unknown ones do."""
        whole = self._tables[name]
        content = {}
        for other, ids in whole.content.items():
            kept = self._kept(other, streams) if other in self._attributes else None
            content[other] = ids if kept is None else torch.where(kept[ids], ids, 0)
        kept = self._kept(name, streams)
        if kept is None:
            return replace(whole, content=content)
        own = torch.arange(whole.size) if whole.rows is None else whole.rows
        return replace(whole, content=content, rows=torch.where(kept, own, 0))

    def _kept(self, name: str, streams: Collection[str]) -> torch.Tensor | None:
        """Entities (E,) bool of a table that keep their row; none: all of them."""
        chosen = [
            at
            for at, (domain, _, kinds) in enumerate(self._used)
            if any(f"{domain.prefix}{kind}" in streams for kind in kinds)
        ]
        if len(chosen) == len(self._used):
            return None
        masks = [mask for at in chosen for mask in [self._of(at).get(name)] if mask is not None]
        return torch.from_numpy(np.logical_or.reduce(masks)) if masks else None

    def _of(self, at: int) -> dict[str, Mask]:
        """Table -> entities (E,) that the training rows of the ``at``-th domain have."""
        if at not in self._masks:
            found: dict[str, Mask] = {}
            for table, entities in self._seen(at):
                mask = found.setdefault(table, np.zeros(self._tables[table].entities, dtype=bool))
                mask[entities] = True
            self._masks[at] = found
        return self._masks[at]

    def _seen(self, at: int) -> Iterator[tuple[str, npt.NDArray[np.int64]]]:
        domain, parts, _ = self._used[at]
        for kind, mask in self._people[at].items():
            owner = self._tables[domain.tables[kind]]
            yield owner.name, np.flatnonzero(mask)
            for other in owner.content:
                if other in self._attributes:
                    yield other, np.unique(owner.content[other].numpy()[mask])
        if at in self._places:
            part = np.full(domain.data.size, -1, dtype=np.int8)
            fitted = Fitted.of(domain.data, domain.put(parts.part, part))
            for column, seen in fitted.columns(domain.data):
                place = self._places[at][column]
                if place.table in self._tables:  # a label's ids are classes
                    yield place.table, place.entity[:-1][seen]
