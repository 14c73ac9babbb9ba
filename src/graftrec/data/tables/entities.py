"""Users and items of all domains that share a table: one number each, and a vector if training saw them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import torch
from torch import Tensor

from graftrec.data.tables.interactions import Ints
from graftrec.data.tables.vocabulary import Vocabulary


class Entities:
    """Everything with a raw id, numbered from 1 in sorted order; 0 is a stranger.

    Args:
        keys: raw ids, of each domain.
        kept: keys that count, for each of them (K,) bool; the others become 0.
    """

    def __init__(self, keys: Sequence[pl.Series], kept: Sequence[np.ndarray] | None = None) -> None:
        masks = kept if kept is not None else [np.ones(len(part), dtype=bool) for part in keys]
        chosen = [part.filter(pl.Series(mask)) for part, mask in zip(keys, masks, strict=True)]
        if len({part.dtype for part in chosen}) > 1:
            chosen = [part.cast(pl.String) for part in chosen]
        self.vocabulary = Vocabulary(pl.concat(chosen))
        self.rows = np.zeros(len(self.vocabulary), dtype=np.int64)  # embedding rows

    def __len__(self) -> int:
        """Numbers that are given, the stranger's 0 among them."""
        return len(self.vocabulary)

    def table(self, keys: pl.Series) -> Ints:
        """The number of each key (K + 1,), and last a 0: what the code -1 finds."""
        return np.concatenate([self.vocabulary.encode(keys), [0]])

    def trained(self, numbers: Sequence[Ints]) -> None:
        """Give a vector of its own to each of these and to nobody else; the others take row 0."""
        seen = np.zeros(len(self), dtype=bool)
        for part in numbers:
            seen[part] = True
        seen[0] = False
        self.rows = np.where(seen, np.cumsum(seen), 0)

    @property
    def size(self) -> int:
        """Rows of the embedding table."""
        return int(self.rows.max(initial=0)) + 1

    @property
    def row_of(self) -> Tensor:
        """Embedding row (entities,) int64 of each number."""
        return torch.from_numpy(self.rows)

    @property
    def cold(self) -> Tensor:
        """Who training never saw (entities,) bool."""
        return torch.from_numpy(self.rows == 0)
