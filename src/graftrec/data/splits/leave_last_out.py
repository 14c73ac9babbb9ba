"""Each user's last row tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graftrec.data.splits.base import Parts, Split, events, in_order, need
from graftrec.data.tables.domains import KINDS, Domain
from graftrec.data.tables.entities import Entities


class LeaveLastOut(Split):
    """The last row of each user tests, the one before it validates, the others train.

    Only rows that belong to the history count (`Files` ``events``); others train if they come before.

    The cut is each user's own, so training may hold rows that are later than another user's test: a model could know
    the future of the world, if not of the user, and the data card says so. A user with fewer rows than ``least`` only
    trains. Rows of one time are ordered by their item, or as the file has them where its order is all there is.

    Args:
        least: rows that a user needs to be split.
        across: over all domains, so that only the domain of the very last row tests; else in each.
    """

    stamp = "not time-safe: the last row of each user is left out, so there is no cut in time for everybody"

    def __init__(self, least: int = 3, across: bool = False, seed: int = 0) -> None:
        if least < 3:
            raise ValueError(f"least should be at least 3: one row for each part. Found {least}.")
        self.least, self.across, self.seed = least, across, seed
        self.one_clock = across

    def divide(self, domains: Sequence[Domain]) -> list[Parts]:
        need(domains, "leave_last_out", "user", "item", "time")
        if self.across and len({domain.tables["user"] for domain in domains}) == 1:
            return self._divided(domains)
        return [self._divided([domain])[0] for domain in domains]

    def _divided(self, domains: Sequence[Domain]) -> list[Parts]:
        user, item = (
            np.concatenate([entities.table(d.keys(kind))[d.take(d.data.keys[kind].codes)] for d in domains])
            for kind in KINDS
            for entities in [Entities([d.keys(kind) for d in domains])]
        )
        time = np.concatenate([d.take(np.asarray(d.data.time)) for d in domains])
        where = np.repeat(np.arange(len(domains)), [d.size for d in domains])
        event = np.concatenate([events(domain) for domain in domains])
        order = in_order(domains, user, time, where, item)
        first = np.flatnonzero(np.diff(user[order], prepend=-1))
        size = np.diff(first, append=len(user))
        # how many events of its user a row and those after it are: 1 from the last event on, 2 from the one before it
        own = event[order]
        total = np.add.reduceat(own.astype(np.int64), first) if len(first) else np.zeros(0, np.int64)
        before = np.cumsum(own) - own - np.repeat(np.cumsum(total) - total, size)
        left = np.repeat(total, size) - before
        part = np.where(left == 1, 2, np.where(left == 2, 1, 0)).astype(np.int8)
        part[~own] = np.where(left[~own] <= 1, -1, 0)  # what comes after training is not trained on
        part[np.repeat(total < self.least, size)] = 0
        back = np.empty(len(user), dtype=np.int8)
        back[order] = part
        since = time - time.min(initial=0.0)
        ends = np.cumsum([d.size for d in domains])
        return [
            Parts(back[e - d.size : e], since[e - d.size : e], None, True) for d, e in zip(domains, ends, strict=True)
        ]
