"""Lines: who chose what and when, in one order, which baskets and sequences are made of."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from graftrec.data.schema import Edges
from graftrec.data.tables.interactions import distinct

SUPPORT = 3  # the part of rows that are known of a user and are not trained on


@dataclass(frozen=True, eq=False)
class Lines:
    """Lines of one domain, sorted by user, time and item, so that file order is no matter.

    Attributes:
        user, item: numbers of the entities, from 1. time: days. basket: numbered from 0; a basket is in one part.
        part: (n,) int64 0 train, 1 validation, 2 test, 3 `SUPPORT`.
        cuts: days of the end of training and of validation, where they are everybody's; else a user's rows of a stage
            are asked about as of the first of them.
        forward: what came before a row may be known to it, whatever its part; else only training and support rows.
        clock: whether times are real ones, so that ages and what everybody does mean something.
        behaviour: (n,) what each line was, in [0, ``kinds``), if there are several.
        items: (N,) the catalogue. content: attribute -> value (E,) int64 of each item. classes: how many values.
        unique: whether nobody chooses an item twice. seen: whether what a user chose before is ranked as well.
        cold_user, cold_item: (U,), (E,) bool: who and what training never saw. overlap: (U,) bool: who is also in the
            training rows of another domain.
        listed: stage -> (users (L,), items (L,)), the only ones that are ranked for a user.
        origin: days of the first row of all domains.
        answers: label -> (n,) float32 of each line, NaN where missing; only where a stream asks for them.
    """

    user: Tensor
    item: Tensor
    time: Tensor
    basket: Tensor
    part: Tensor
    cuts: tuple[float, float] | None
    forward: bool
    clock: bool
    items: Tensor
    content: dict[str, Tensor]
    classes: dict[str, int]
    cold_user: Tensor
    cold_item: Tensor
    overlap: Tensor | None = None
    behaviour: Tensor | None = None
    kinds: int = 0
    unique: bool = False
    seen: bool = True
    listed: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    origin: float = 0.0
    answers: dict[str, Tensor] = field(default_factory=dict)

    def edges(self, people: str) -> Edges:
        """Who chose what in training; ``people`` names the table of users."""
        users, items = len(self.cold_user), len(self.cold_item)
        train = self.part == 0
        pairs = torch.from_numpy(distinct((self.user[train] * items + self.item[train]).numpy()))
        return Edges(pairs // items, pairs % items, users, items, people)

    def known(self, stage: str) -> Tensor:
        """Lines (n,) bool that came before a stage; ``latest``: all."""
        before = {"val": 1, "test": 2, "latest": 3}[stage]
        return (self.part < before) | (self.part == SUPPORT)

    def times(self, stage: str) -> Tensor:
        """As of when each user (U,) is asked about, in days."""
        users = len(self.cold_user)
        if stage == "latest":
            return torch.full((users,), float(self.time.max()) + 1e-6, dtype=torch.float64)
        if self.cuts is not None:
            return torch.full((users,), self.cuts[0 if stage == "val" else 1], dtype=torch.float64)
        inside = self.part == (1 if stage == "val" else 2)
        found = torch.full((users,), float(self.time.max()) + 1e-6, dtype=torch.float64)
        return found.scatter_reduce(0, self.user[inside], self.time[inside], "amin")
