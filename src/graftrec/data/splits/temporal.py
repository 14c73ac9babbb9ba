"""One cut in time for everybody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from graftrec.data.splits.base import Days, Parts, Split, need
from graftrec.data.tables.domains import Domain
from graftrec.utils.errors import DataError, UserError

Of = Literal["rows", "span"]


class ByTime(Split):
    """Training before a moment, validation before another, the test after; the same moments for all domains.

    Args:
        train_until, val_until: shares in (0, 1) of the rows of all domains together, or of the time that they span.
        of: ``rows`` or ``span``; a platform that grows has most of its rows in the last years of its span.
    """

    one_clock = True

    def __init__(
        self,
        train_until: float = 0.8,
        val_until: float = 0.9,
        of: Of = "rows",
        seed: int = 0,
    ) -> None:
        if not 0 < train_until < val_until < 1:
            raise ValueError(f"0 < train_until < val_until < 1 is needed. Found {train_until} and {val_until}.")
        if of not in get_args(Of):
            raise ValueError(f"of should be rows or span. Found {of}.")
        self.train_until, self.val_until, self.of, self.seed = train_until, val_until, of, seed

    def divide(self, domains: Sequence[Domain]) -> list[Parts]:
        need(domains, "time", "time")
        if not all(domain.data.clock for domain in domains):
            raise UserError("split=time: these rows have an order and no time; set split=leave_last_out")
        times = [domain.take(np.asarray(domain.data.time)) for domain in domains]
        first = min(float(time.min()) for time in times)
        last = max(float(time.max()) for time in times)
        if first == last:
            raise DataError(
                "DATA-054",
                f"{domains[0].data.name}: all times are equal, so split=time has no training row; choose split=random "
                "or leave_last_out, or another dataset.time",
            )
        # days since the first row of all: small numbers, and counts of the past need positive ones
        cuts = self._cuts(times, first, last)
        found = []
        for time in times:
            since = time - first
            part = (since >= cuts[0]).astype(np.int8) + (since >= cuts[1]).astype(np.int8)
            found.append(Parts(part, since, cuts, True))
        return found

    def _cuts(self, times: Sequence[Days], first: float, last: float) -> tuple[float, float]:
        """The moments of the cuts, in days since the first row."""
        shares = (self.train_until, self.val_until)
        if self.of == "span":
            return shares[0] * (last - first), shares[1] * (last - first)
        everything = times[0] if len(times) == 1 else np.concatenate(times)
        places = [min(len(everything) - 1, int(share * len(everything))) for share in shares]
        low, high = np.partition(everything, places)[places] - first
        return float(low), float(high)
