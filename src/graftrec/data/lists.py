"""Lists of items per user from a file: candidates of a published table, or hard negatives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from torch import Tensor

from graftrec.data import readers
from graftrec.data.domains import KINDS, Domain
from graftrec.data.table import Ints
from graftrec.data.vocab import Vocabulary
from graftrec.errors import DataError


@dataclass(frozen=True, eq=False)
class Listed:
    """Pairs of raw ids with the part that they are for, ``all`` where the file names none."""

    frame: pl.DataFrame  # user, item, split

    def pairs(self, domain: Domain, entity_of: Mapping[str, Ints]) -> dict[str, tuple[Tensor, Tensor]]:
        """Part -> users (L,) and items (L,) that exist, given the numbers (K + 1,) of the raw ids of a domain."""
        who, what = (self._numbers(kind, domain.data.keys[kind].keys, entity_of[kind]) for kind in KINDS)
        known = (who > 0) & (what > 0)
        split = self.frame["split"].to_numpy()
        return {
            str(part): (torch.from_numpy(who[known & (split == part)]), torch.from_numpy(what[known & (split == part)]))
            for part in np.unique(split)
        }

    def _numbers(self, kind: str, keys: pl.Series, entity_of: Ints) -> Ints:
        codes = np.concatenate([[-1], keys.arg_sort().to_numpy()])
        found: Ints = entity_of[codes[Vocabulary(keys).encode(self.frame[kind])]]
        return found


def read_lists(path: str) -> Listed:
    """Columns ``user`` and ``item``, which may hold a list, and optionally ``split``.

    Raises:
        DataError: a part that is neither val nor test.
    """
    there = readers.columns(path)
    raw = readers.read(path, ["user", "item", *(["split"] if "split" in there else [])], lists=["item"])
    frame = raw.frame
    if isinstance(frame.schema["item"], pl.List):
        frame = frame.explode("item")
    if "split" not in frame.columns:
        return Listed(frame.with_columns(pl.lit("all").alias("split")))
    odd = frame["split"].unique().cast(pl.String).to_list()
    odd = [part for part in odd if part not in ("val", "test")]
    if odd:
        raise DataError("DATA-045", f"{path}: split should be val or test, found '{odd[0]}'")
    return Listed(frame.with_columns(pl.col("split").cast(pl.String)))
