"""One cut in time for everybody."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graftrec.data.domains import Domain
from graftrec.data.splits.base import Parts, Split, need
from graftrec.errors import UserError


class ByTime(Split):
    """Training before a moment, validation before another, the test after; the same moments for all domains.

    Args:
        train_until, val_until: shares of the time span of all domains together, in (0, 1).
    """

    def __init__(self, train_until: float = 0.8, val_until: float = 0.9, seed: int = 0) -> None:
        if not 0 < train_until < val_until < 1:
            raise ValueError(f"0 < train_until < val_until < 1 is needed. Found {train_until} and {val_until}.")
        self.train_until, self.val_until, self.seed = train_until, val_until, seed

    def divide(self, domains: Sequence[Domain]) -> list[Parts]:
        need(domains, "time", "time")
        if not all(domain.data.clock for domain in domains):
            raise UserError("split=time: these rows have an order and no time; set split=leave_last_out")
        times = [domain.take(np.asarray(domain.data.time)) for domain in domains]
        first = min(float(time.min()) for time in times)
        last = max(float(time.max()) for time in times)
        # days since the first row of all: small numbers, and counts of the past need positive ones
        cuts = (self.train_until * (last - first), self.val_until * (last - first))
        found = []
        for time in times:
            since = time - first
            part = (since >= cuts[0]).astype(np.int8) + (since >= cuts[1]).astype(np.int8)
            found.append(Parts(part, since, cuts, True))
        return found
