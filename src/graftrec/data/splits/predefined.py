"""The split that comes with the data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graftrec.data.splits.base import Part, Parts, Split, drawn_order, row_hashes
from graftrec.data.tables.domains import KINDS, Domain
from graftrec.data.tables.id_matching import Joined, joined, refuse_strangers
from graftrec.data.tables.interactions import distinct
from graftrec.utils.errors import UserError
from graftrec.utils.seeds import derived, mixed, share


class Official(Split):
    """The dataset's own column or files say what trains and what tests.

    Args:
        val: share of the training rows, in (0, 1), that validates where the dataset names no validation rows.
        seed: of that draw.
    """

    stamp = "not time-safe: the split is the dataset's own"

    def __init__(self, val: float = 0.1, seed: int = 0) -> None:
        if not 0 < val < 1:
            raise ValueError(f"val should be in (0, 1). Found {val}.")
        self.val, self.seed = val, seed

    def divide(self, domains: Sequence[Domain]) -> list[Parts]:
        found = []
        for domain in domains:
            if domain.data.split is None:
                raise UserError(f"split=official: {domain.data.name} comes without a split; see dataset.split")
            part = domain.take(domain.data.split).copy()
            if not (part == 1).any():
                drawn = share(mixed(row_hashes(domain, derived(self.seed, "official"))))
                part[(part == 0) & (drawn < self.val)] = 1
            time = domain.data.time
            real = time is not None and domain.data.clock
            place = domain.take(np.asarray(time)) if real else drawn_order(domain, part, self.seed)
            met = known_of(domain, part)
            if len(met) == len(KINDS) and all(each.written_in_two_ways for each in met):
                refuse_strangers(met)  # users and items that are new, as a test of cold start has them, are not
            found.append(Parts(part, place - (place.min() if len(place) else 0.0), None, not real))
        return found


def known_of(domain: Domain, part: Part) -> list[Joined]:
    """How many users and items of the test rows stand in the training rows; nothing where there are none of either."""
    where, found = f" of '{domain.name}'" if domain.name else "", []
    for kind in KINDS:
        if domain.data.has(kind) and (part == 0).any() and (part == 2).any():
            ids = domain.data.keys[kind]
            codes = domain.take(ids.codes)
            trained, tested = (ids.keys.gather(distinct(codes[part == stage])) for stage in (0, 2))
            found.append(joined("split=official", f"{kind}s of the test{where} are in training", tested, trained))
    return found
