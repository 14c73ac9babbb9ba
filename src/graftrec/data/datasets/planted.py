"""One target and three sources whose effect is known, since it was planted: help, noise and hurt."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from graftrec.data.datasets.base import Dataset
from graftrec.data.tables.builder import interactions
from graftrec.data.tables.interactions import Interactions
from graftrec.utils.seeds import derived

Array = npt.NDArray[np.float64]
PARTS = ("target", "help", "noise", "hurt")
SOURCES = PARTS[1:]


class Planted(Dataset):
    """Four domains with one binary label ``y`` each, drawn in training, validation and test rows (`split=official`).

    target, help:  P(y = 1 | u, i) = sigmoid(s <p_u, q_i>)     the same users, items and factors p, q ~ N(0, I / sqrt r)
    hurt:          P(y = 1 | u, i) = sigmoid(s <p'_u, q'_i>)   the same users and items, factors of their own
    noise:         P(y = 1) = 1/2                              other users and other items

    The target has too few rows to learn its factors from. A source has many: in ``help`` they are the target's factors;
    in ``hurt`` they are others, which vectors that are shared and have no room for both take on instead of the
    target's; ``noise`` has nothing to give, and no vector of the target to spoil. Without shared factors ``seed`` moves
    the data alone, so audits of different training seeds look at the same truth.

    Args:
        users, items: of each domain. rank: r. scale: s, above 0. rows: of the target's training. val, test: rows of
        every domain. source_rows: of each source's training. seed: of everything that is drawn.
    """

    origin = "drawn by code"

    def __init__(
        self,
        users: int = 100,
        items: int = 50,
        rank: int = 2,
        scale: float = 4.0,
        rows: int = 1_600,
        source_rows: int = 4_000,
        val: int = 2_000,
        test: int = 4_000,
        seed: int = 0,
    ) -> None:
        if min(users, items, rank, rows, source_rows, val, test) < 1:
            raise ValueError(
                "users, items, rank, rows, source_rows, val and test should be at least 1. Found "
                f"{users}, {items}, {rank}, {rows}, {source_rows}, {val}, {test}."
            )
        if scale <= 0:
            raise ValueError(f"scale should be above 0. Found {scale}.")
        self.users, self.items, self.rank, self.scale = users, items, rank, scale
        self.rows, self.source_rows, self.evaluated, self.seed = rows, source_rows, (val, test), seed

    def factors(self, whose: str) -> tuple[Array, Array]:
        """p (users, r) and q (items, r) of ``target`` (which are those of ``help``) or ``hurt``."""
        random = np.random.default_rng(derived(self.seed, "planted", "factors", whose))
        spread = self.rank**-0.25  # so that <p, q> has the variance 1
        return random.normal(0, spread, (self.users, self.rank)), random.normal(0, spread, (self.items, self.rank))

    def chances(self, part: str) -> Array:
        """P(y = 1) of every pair of a domain, (users, items)."""
        if part == "noise":
            return np.full((self.users, self.items), 0.5)
        p, q = self.factors("hurt" if part == "hurt" else "target")
        found: Array = 1 / (1 + np.exp(-self.scale * p @ q.T))
        return found

    def read(self) -> Interactions:
        return self._part("target")

    def parts(self) -> dict[str, Interactions]:
        return {part: self._part(part) for part in PARTS}

    def _part(self, part: str) -> Interactions:
        random = np.random.default_rng(derived(self.seed, "planted", "rows", part))
        sizes = (self.rows if part == "target" else self.source_rows, *self.evaluated)
        user, item = (random.integers(count, size=sum(sizes)) for count in (self.users, self.items))
        y = random.random(sum(sizes)) < self.chances(part)[user, item]
        offset = (self.users, self.items) if part == "noise" else (0, 0)
        frame = pl.DataFrame(
            {
                "user": user + offset[0],
                "item": item + offset[1],
                "split": np.repeat(np.arange(3), sizes),
                "y": y.astype(np.float64),
            }
        )
        return interactions(f"planted_{part}", frame, labels={"y": "binary"}, notes=(f"made by code: {part}",))
