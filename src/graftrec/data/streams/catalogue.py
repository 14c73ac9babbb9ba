"""The catalogue that is ranked for users, and what its rankings are judged by."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from graftrec.data.batch import Batch
from graftrec.data.streams.base import Stage
from graftrec.data.streams.events import Lines
from graftrec.data.tables.interactions import distinct


def beside_others(relevant: Tensor, listed: Tensor | None) -> Tensor:
    """The answers (B, N) of users who have something else to be ranked; nothing else is a question."""
    others = ~relevant if listed is None else ~relevant & listed
    return relevant & others.any(1, keepdim=True)


class Catalogue:
    """Items (N,) of one domain's lines, and who chose which of them when.

    Args:
        lines: all of them.

    Attributes:
        place: item -> its place in the catalogue, (E,) int64.
    """

    def __init__(self, lines: Lines) -> None:
        self.lines = lines
        self.place = torch.zeros(len(lines.cold_item), dtype=torch.int64)
        self.place[lines.items] = torch.arange(len(lines.items))
        self._before: dict[Stage, tuple[Tensor, Tensor]] = {}

    def at_once(self, columns: int = 0) -> int:
        """Users whose candidates, each with so many ``columns``, fit into about 100 MB."""
        return max(1, 25_000_000 // (len(self.lines.items) * (columns + 4)))

    def answers(self, users: Tensor, stage: Stage) -> Batch:
        """What a ranking is judged by, for users (B,).

        ``relevant`` (B, N): chosen in the stage; nothing for a user who has nothing else to be ranked, since any score
        would find it. ``listed`` (B, N): what is ranked at all, where that is not all:
        lists were given, or what was seen is not ranked. ``fresh`` (B, N): never chosen before, where what was is
        ranked as well. ``cold_user`` (B,) and ``cold_item`` (N,), if anything is cold: training never saw them;
        ``overlap`` (B,): another domain did see the user. ``history`` (B,): events of the user before the stage.
        ``popularity`` (N,): share of the users of training who chose the item; ``own_popularity`` (B,): its mean over
        the items that the user chose before the stage, NaN where there are none.
        """
        lines, inside = self.lines, self._inside(stage)
        relevant = self._matrix(users, lines.user[inside], lines.item[inside])
        fresh = self.fresh(users, stage)
        found: Batch = {"relevant": relevant, "fresh" if lines.seen else "listed": fresh}
        if bool(lines.cold_user[self.users(stage)].any()) or bool(lines.cold_item[lines.items].any()):
            found |= {"cold_user": lines.cold_user[users], "cold_item": lines.cold_item[lines.items]}
        if lines.overlap is not None:
            found["overlap"] = lines.overlap[users]
        if stage in lines.listed:
            listed = self._matrix(users, *lines.listed[stage]) | relevant
            found["listed"] = listed if lines.seen else listed & fresh
        found["relevant"] = beside_others(relevant, found.get("listed"))
        history, own = self._of_users(stage)
        found |= {"history": history[users], "own_popularity": own[users]}
        return found | {"popularity": self._popularity[lines.items]}

    def alone(self, stage: Stage) -> int:
        """How many of the users of a stage have no candidate in its lists but what they chose."""
        lines, items = self.lines, len(self.place)
        inside = self._inside(stage)
        left = inside if lines.seen else inside | lines.known(stage)
        given = distinct((lines.listed[stage][0] * items + lines.listed[stage][1]).numpy())
        chosen = distinct((lines.user[left] * items + lines.item[left]).numpy())
        others = given[~np.isin(given, chosen, assume_unique=True)] // items
        return int((~np.isin(self.users(stage).numpy(), others)).sum())

    @cached_property
    def _popularity(self) -> Tensor:
        """Share of the users of training who chose each item, (E,) float64."""
        user, item = self._pairs(self.lines.part == 0)
        return torch.bincount(item, minlength=len(self.place)).double() / max(1, len(torch.unique(user)))

    def _of_users(self, stage: Stage) -> tuple[Tensor, Tensor]:
        """Events of each user before a stage, (U,) int64, and how popular their items are on average, (U,) float64."""
        if stage not in self._before:
            kept, people = self.lines.known(stage), len(self.lines.cold_user)
            user, item = self._pairs(kept)
            own = torch.bincount(user, self._popularity[item], people) / torch.bincount(user, minlength=people)
            self._before[stage] = torch.bincount(self.lines.user[kept], minlength=people), own
        return self._before[stage]

    def _pairs(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Distinct users and items of lines (n,) bool."""
        keys = self.lines.user[kept] * len(self.place) + self.lines.item[kept]
        pairs = torch.from_numpy(distinct(keys.numpy()))
        return pairs // len(self.place), pairs % len(self.place)

    def fresh(self, users: Tensor, at: str) -> Tensor:
        """Items (B, N) that users (B,) never chose before a stage, or at all if it is ``latest``."""
        fresh = torch.ones(len(users), len(self.lines.items), dtype=torch.bool)
        fresh[self.before(users, at)] = False
        return fresh

    def events(self, users: Tensor) -> Tensor:
        """How many events users (B,) have in all data, (B,) int64."""
        low, high = (torch.searchsorted(self.lines.user, users, right=side) for side in (False, True))
        return high - low

    def before(self, users: Tensor, at: str) -> tuple[Tensor, Tensor]:
        """Rows (n,) of users (B,) and places (n,) of all that they chose before a stage, or at all if ``latest``."""
        low, high = (torch.searchsorted(self.lines.user, users, right=side) for side in (False, True))
        count = high - low
        row = torch.repeat_interleave(torch.arange(len(users)), count)
        line = torch.arange(len(row)) + (low + count - count.cumsum(0))[row]
        kept = self.lines.known(at)[line]
        return row[kept], self.place[self.lines.item[line[kept]]]

    def chosen(self, users: Tensor, stage: Stage, bit: int) -> Tensor:
        """Items (B, N) that users (B,) chose in a stage in the way that a bit of ``behaviour`` says."""
        inside = self._inside(stage)
        if self.lines.behaviour is not None:
            inside &= (self.lines.behaviour >> bit) % 2 == 1
        return self._matrix(users, self.lines.user[inside], self.lines.item[inside])

    def users(self, stage: Stage) -> Tensor:
        """Users (U,) who chose something in the stage, sorted."""
        users: Tensor = torch.unique(self.lines.user[self._inside(stage)])
        return users

    def _inside(self, stage: Stage) -> Tensor:
        """Lines (n,) bool of the stage."""
        return self.lines.part == (1 if stage == "val" else 2)

    def _matrix(self, users: Tensor, who: Tensor, what: Tensor) -> Tensor:
        """Which of the pairs ``who`` (n,), ``what`` (n,) are these users' (B, N)."""
        distinct, inverse = torch.unique(users, return_inverse=True)
        found = torch.zeros(len(distinct), len(self.lines.items), dtype=torch.bool)
        if not len(distinct):  # a process that got no row
            return found
        row = torch.searchsorted(distinct, who).clamp_max(len(distinct) - 1)
        kept = distinct[row] == who
        found[row[kept], self.place[what[kept]]] = True
        return found[inverse]
