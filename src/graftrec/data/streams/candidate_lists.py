"""Lists of items per user from a file: candidates of a published table, or hard negatives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import torch
from torch import Tensor

from graftrec.data.sources import table_reader, value_parsers
from graftrec.data.tables.domains import KINDS, Domain
from graftrec.data.tables.id_matching import Joined, places, reason
from graftrec.data.tables.interactions import Ints
from graftrec.utils.errors import DataError

Pairs = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Listed:
    """Pairs of raw ids with the part that they are for, ``all`` where the file names none.

    Args:
        setting: that names the file. path: of the file. known: kind -> which rows (L,) any domain has an id of, and raw
        ids of the domains that were asked.
    """

    setting: str
    path: str
    frame: pl.DataFrame  # user, item, split
    doubles: int = 0
    known: dict[str, Ints] = field(default_factory=dict)
    keys: dict[str, list[pl.Series]] = field(default_factory=dict)

    def pairs(self, domain: Domain, entity_of: Mapping[str, Ints]) -> dict[str, Pairs]:
        """Part -> users (L,) and items (L,) that exist, given the numbers (K + 1,) of the raw ids of a domain."""
        numbers = {}
        for kind in KINDS:
            keys = domain.data.keys[kind].keys
            numbers[kind] = entity_of[kind][places(self.frame[kind], keys)]
            self.known[kind] = np.maximum(self.known.get(kind, np.zeros(1, np.int64)), numbers[kind] > 0)
            self.keys.setdefault(kind, []).append(keys.cast(pl.String))
        who, what = numbers["user"], numbers["item"]
        both = (who > 0) & (what > 0)
        split = self.frame["split"].to_numpy()
        return {
            str(part): (torch.from_numpy(who[both & (split == part)]), torch.from_numpy(what[both & (split == part)]))
            for part in np.unique(split)
            if (both & (split == part)).any()
        }

    def joined(self) -> list[Joined]:
        """How many of its users and items any domain has that it was asked for."""
        found = []
        for kind, known in self.known.items():
            ids, here = self.frame[kind], pl.Series(known > 0)
            asked, matched = ids.drop_nulls().n_unique(), ids.filter(here).n_unique()
            strangers = ids.filter(~here).drop_nulls().unique(maintain_order=True)
            why, alike = reason(strangers, pl.concat(self.keys[kind]))
            doubles = self.doubles if kind == "item" else 0
            what = f"{kind}s of {self.path} are in the data"
            found.append(Joined(self.setting, what, matched, asked, doubles, why, alike))
        return found


def read_lists(setting: str, path: str) -> Listed:
    """Columns ``user`` and ``item``, which may hold a list, and optionally ``split``.

    Raises:
        DataError: a part that is neither val nor test.
    """
    there = table_reader.columns(path)
    raw = table_reader.read(path, ["user", "item", *(["split"] if "split" in there else [])], lists=["item"])
    nested = isinstance(raw.frame.schema["item"], pl.List)
    item = value_parsers.listed(raw, "item") if nested else value_parsers.words(raw, "item")
    split = pl.col("split").cast(pl.String) if "split" in there else pl.lit("all").alias("split")
    frame = raw.frame.select(value_parsers.words(raw, "user").alias("user"), item.alias("item"), split)
    odd = [part for part in frame["split"].unique() if part not in ("val", "test")]
    if odd and "split" in there:
        raise DataError("DATA-045", f"{path}: split should be val or test, found '{odd[0]}'")
    frame = frame.explode("item", empty_as_null=False, keep_nulls=False) if nested else frame
    single = frame.unique(maintain_order=True)
    return Listed(setting, path, single, len(frame) - len(single))
