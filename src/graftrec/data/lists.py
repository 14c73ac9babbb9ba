"""Lists of items per user from a file: candidates of a published table, or hard negatives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from torch import Tensor

from graftrec.data import readers
from graftrec.data.entities import Entities
from graftrec.errors import DataError


@dataclass(frozen=True, eq=False)
class Listed:
    """Pairs of raw ids with the part that they are for, ``all`` where the file names none."""

    frame: pl.DataFrame  # user, item, split

    def pairs(self, users: Entities, items: Entities) -> dict[str, tuple[Tensor, Tensor]]:
        """Part -> users (L,) and items (L,) that exist."""
        who = users.vocabulary.encode(self.frame["user"])
        what = items.vocabulary.encode(self.frame["item"])
        known = (who > 0) & (what > 0)
        split = self.frame["split"].to_numpy()
        return {
            str(part): (torch.from_numpy(who[known & (split == part)]), torch.from_numpy(what[known & (split == part)]))
            for part in np.unique(split)
        }


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
