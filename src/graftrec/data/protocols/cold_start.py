"""New users and new items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from graftrec.data.datasets.base import Dataset
from graftrec.data.protocols.base import Protocol
from graftrec.data.protocols.long_short_term import need_columns
from graftrec.data.splits.base import Parts, Split, in_order
from graftrec.data.streams.events import SUPPORT
from graftrec.data.streams.loader import Mixing
from graftrec.data.streams.sampling_config import Candidates, History
from graftrec.data.tables.domains import KINDS, Domain
from graftrec.utils.errors import UserError
from graftrec.utils.seeds import derived, hashes, mixed, share

Phase = Literal["base", "warm_a", "warm_b", "warm_c"]
Test = Literal["drawn", "split"]


class ColdStart(Protocol):
    """Users and items that training never saw: a share of them loses all its training rows.

    Which are cold is decided by a hash of the id, half of them for validation and half for the test, so that a choice
    made on validation was made on cold ids as well. The split decides first; then every row of a cold id outside its
    own evaluation is taken out. Metrics come per cohort: ``warm``, ``cold_user``, ``cold_item``, ``cold_both``.

    Warm-up phases are those of MWUF and CVAR (Zhu et al., SIGIR 2021, https://doi.org/10.1145/3404835.3462843): the
    first 3 * ``warm_up`` rows of a cold id are three batches, of which the phase ``warm_a`` has trained on the first,
    ``warm_b`` on two and ``warm_c`` on all; the same rows test in every phase. A sweep over ``protocol.phase`` draws
    the curve.

    With ``test=split`` the test is the split's own and stays whole: cold in it is who has no training row, such as the
    new users and new items of an official split. Shares are then of ids that are cold in validation alone: a method
    is chosen with shares above 0, where these ids are missing in training, and trained once more with 0 of both. What
    users did is then their training rows and their support, even where the split would show more; support has no new
    item, of which nothing is told.

    Args:
        users, items: share of them that is cold, in [0, 1).
        support: rows of a cold user that a model may look at (as history) and never trains on.
        warm_up: rows of a cold id in each warm-up batch; 0: none. phase: which of them training has seen.
        test: whose ids are cold in the test: ``drawn``, as those of validation are, or the ``split``'s own.
        domain: where they are cold; empty: in all domains. A user who is cold in one may be known in the others.
        batch_size: rows of the target's stream per step. mixing: see `TrainLoader`.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: Split | None = None,
        history: History | None = None,
        candidates: Candidates | None = None,
        users: float = 0.2,
        items: float = 0.0,
        support: int = 0,
        warm_up: int = 0,
        phase: Phase = "base",
        domain: str = "",
        test: Test = "drawn",
        batch_size: int = 128,
        mixing: Mixing = "proportional",
    ) -> None:
        super().__init__(dataset, split, history, candidates, batch_size, mixing)
        if test not in get_args(Test):
            raise ValueError(f"test should be drawn or split. Found {test}.")
        if not (0 <= users < 1 and 0 <= items < 1 and (users + items > 0 or test == "split")):
            raise ValueError(f"users and items should be in [0, 1), and not both 0. Found {users} and {items}.")
        if support < 0 or warm_up < 0:
            raise ValueError(f"support and warm_up should be at least 0. Found {support} and {warm_up}.")
        if phase not in get_args(Phase):
            raise ValueError(f"phase should be one of {', '.join(get_args(Phase))}. Found {phase}.")
        if phase != "base" and not warm_up:
            raise ValueError(f"phase={phase} needs warm_up, the rows of a warm-up batch.")
        self.shares = {"user": users, "item": items}
        self.support, self.warm_up, self.phase, self.domain = support, warm_up, phase, domain
        self.test = test

    def arrange(self, domains: list[Domain]) -> list[Domain]:
        if self.domain and self.domain not in [domain.name for domain in domains]:
            known = ", ".join(domain.name for domain in domains) or "none"
            raise UserError(f"protocol.domain: there is no domain '{self.domain}'; there are {known}")
        for domain in domains:
            need_columns(domain, "cold_start", "user", "item")
        return domains

    def divide(self, domains: Sequence[Domain]) -> list[Parts]:
        divided = super().divide(domains)
        return [
            parts if self.domain not in ("", domain.name) else self._cooled(domain, parts)
            for domain, parts in zip(domains, divided, strict=True)
        ]

    def _cooled(self, domain: Domain, parts: Parts) -> Parts:
        part = parts.part.copy()
        never = np.iinfo(np.int64).max
        whole = self.test == "split"
        place = of_user = np.full(len(part), never)
        kept = (parts.part == 2) & whole  # the split's own test
        known = np.ones(len(part), dtype=bool)  # rows of which a new user's support is taken
        found: dict[str, tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]] = {}
        for kind in KINDS:
            ids = domain.data.keys[kind]
            drawn = share(mixed(hashes(ids.keys) ^ np.uint64(derived(self.split.seed, "cold", kind))))
            codes = domain.take(ids.codes)
            group = np.where(drawn < self.shares[kind], np.where((drawn < self.shares[kind] / 2) | whole, 1, 2), 0)
            if whole:
                group[np.bincount(codes[parts.part == 0], minlength=len(group)) == 0] = 2
            found[kind] = codes, group[codes]  # 0 warm, 1 cold in validation, 2 cold in the test
            if whole and kind == "item":  # nothing is told of a new item
                known = group[codes] == 0
        for kind, (codes, cold) in found.items():
            later = np.where(known | (kind == "item"), 0.0, parts.time.max(initial=0.0) + 1.0)
            own = np.where(cold > 0, _place(domain, codes, replace(parts, time=parts.time + later)), never)
            place, of_user = np.minimum(place, own), own if kind == "user" else of_user
            part[(cold > 0) & (parts.part != cold) & ~kept] = -1
        given = kept & (found["user"][1] == 2)  # all rows of a new user are the test's, and some become support
        cooled = (part != parts.part) | given
        warm = (parts.part >= 0) & (place < 3 * self.warm_up)
        batches = get_args(Phase).index(self.phase)
        part[warm] = -1  # these test in no phase
        part[warm & (place < batches * self.warm_up)] = 0
        time = parts.time
        if self.support:
            told = cooled & known & ((part == -1) | given) & (of_user < self.support)
            part[told] = SUPPORT
            if not (domain.data.has("time") and domain.data.clock):  # an order that was drawn: what is told comes first
                time = time - np.where(told & given, 1.0, 0.0)
        return replace(parts, part=part, time=time, forward=parts.forward and not whole)


def _place(domain: Domain, codes: npt.NDArray[np.int32], parts: Parts) -> npt.NDArray[np.int64]:
    """How many earlier rows (n,) the same id has."""
    order = in_order([domain], codes, parts.time)
    first = np.flatnonzero(np.diff(codes[order], prepend=-2))
    size = np.diff(first, append=len(codes))
    found = np.empty(len(codes), dtype=np.int64)
    found[order] = np.arange(len(codes)) - np.repeat(first, size)
    return found
