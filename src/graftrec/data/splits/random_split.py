"""Rows, users or items drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from graftrec.data.splits.base import Parts, Split, drawn_order, need, row_hashes
from graftrec.data.tables.domains import Domain
from graftrec.utils.seeds import derived, hashes, mixed, share

By = Literal["row", "user", "item"]


class AtRandom(Split):
    """A hash of the row's own content, or of its user or item, decides; equal rows stay together.

    Args:
        train, val: shares in (0, 1); the rest tests.
        by: what is drawn: ``row``, or all rows of a ``user`` or ``item`` together.
        seed: of the draw.
    """

    stamp = "not time-safe: rows are split at random"

    def __init__(self, train: float = 0.8, val: float = 0.1, by: By = "row", seed: int = 0) -> None:
        if not (0 < train < 1 and 0 < val < 1 and train + val < 1):
            raise ValueError(f"train, val and their sum should be in (0, 1). Found {train} and {val}.")
        if by not in get_args(By):
            raise ValueError(f"by should be row, user or item. Found {by}.")
        self.train, self.val, self.by, self.seed = train, val, by, seed

    def divide(self, domains: Sequence[Domain]) -> list[Parts]:
        if self.by != "row":
            need(domains, "random", self.by)
        return [self._divided(domain) for domain in domains]

    def _divided(self, domain: Domain) -> Parts:
        seed = derived(self.seed, "split", self.by)
        if self.by == "row":
            drawn = share(row_hashes(domain, seed))
        else:
            ids = domain.data.keys[self.by]
            drawn = share(mixed(hashes(ids.keys) ^ np.uint64(seed)))[domain.take(ids.codes)]
        part = (drawn >= self.train).astype(np.int8) + (drawn >= self.train + self.val).astype(np.int8)
        time = domain.data.time
        real = time is not None and domain.data.clock
        place = domain.take(np.asarray(time)) if real else drawn_order(domain, part, seed)
        return Parts(part, place - (place.min() if len(place) else 0.0), None, not real)
