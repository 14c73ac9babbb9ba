"""From purchases to the streams ``baskets`` and ``pairs``: what both protocols of histories share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from graftrec.data.streams.base import StreamData
from graftrec.data.streams.baskets import BasketRows, Lines
from graftrec.data.streams.pairs import PairRows
from graftrec.data.table import Interactions
from graftrec.data.vocab import Vocabulary
from graftrec.errors import DataError
from graftrec.schema import Table

KINDS = ("baskets", "pairs")
NEEDS = ("user", "item", "time")


@dataclass(frozen=True)
class Windows:
    """Sizes of what a row of the stream ``baskets`` sees; see `BasketRows`."""

    long: int
    short: int
    chunk: int
    negatives: int
    lag: float | None


class Purchases:
    """Purchases as numbers: vocabularies and the catalogue from training rows, the same for all domains.

    Args:
        data: with user, item and time. train_until, val_until: shares of the time span in (0, 1).
        min_users: distinct users who bought an item before the cut, for it to be in the catalogue.

    Raises:
        DataError: nobody bought any item often enough.
    """

    def __init__(self, data: Interactions, train_until: float, val_until: float, min_users: int) -> None:
        last = float(data.rows.select(last="time").max().item())
        self.cuts = (train_until * last, val_until * last)
        early = data.rows.filter(pl.col("time") < self.cuts[0])
        bought = early.group_by("item").agg(pl.col("user").n_unique().alias("users"))
        kept = bought.filter(pl.col("users") >= min_users)["item"]
        if kept.is_empty():
            raise DataError("DATA-052", f"{data.name}: no item was bought by {min_users} users before the cut")
        self.items = Vocabulary(kept)
        self.rows = data.rows.filter(pl.col("item").is_in(kept.implode()))
        outside = len(data.rows) - len(self.rows)
        who = "nobody" if min_users == 1 else f"fewer than {min_users} users"
        self.refused = {f"item that {who} bought before the cut": outside} if outside else {}
        # a basket is one user's at one moment: files number baskets per user, and a line may come later than the others
        key = ["user", "time", *(["basket"] if data.has("basket") else [])]
        self.rows = self.rows.sort(*key, "item").with_columns(pl.struct(key).rle_id().cast(pl.Int64).alias("basket"))
        self.everybody = Vocabulary(data.rows["user"])
        trained = Vocabulary(early["user"])
        self.users = trained
        self.row_of = torch.from_numpy(np.concatenate([[0], trained.encode(self.everybody.keys)]))
        self.tables = {
            "user": Table("user", len(trained), {}),
            "item": Table("item", len(self.items), {}),
        }
        self.content = self._attributes("item", data.items, self.items)
        self._attributes("user", data.users, trained)

    def _attributes(self, kind: str, frame: pl.DataFrame | None, rows: Vocabulary) -> dict[str, torch.Tensor]:
        """Tables for the attributes of users or items; attribute -> value (rows,) int64, 0 unknown."""
        found: dict[str, torch.Tensor] = {}
        if frame is None:
            return found
        own = pl.DataFrame({kind: rows.keys}).join(
            frame.with_columns(pl.col(kind).cast(rows.keys.dtype, strict=False))
            .drop_nulls(kind)
            .unique(kind, keep="first", maintain_order=True),
            on=kind, how="left", maintain_order="left",
        )  # fmt: skip
        for name in frame.columns:
            if name == kind:
                continue
            values = Vocabulary(own[name])
            coded = torch.from_numpy(np.concatenate([[0], values.encode(own[name])]))
            self.tables[f"{kind}_{name}"] = Table(f"{kind}_{name}", len(values))
            found[name] = coded
        self.tables[kind] = Table(kind, len(rows), {f"{kind}_{name}": coded for name, coded in found.items()})
        return found

    def streams(
        self, prefix: str, kinds: Sequence[str], windows: Windows, seed: int, rows: pl.DataFrame
    ) -> dict[str, StreamData]:
        """The streams ``<prefix><kind>`` of ``rows``, which are all of `rows` or a domain's; none if there is none."""
        if rows.is_empty():
            return {}
        item = self.items.encode(rows["item"])
        time = rows["time"].to_numpy(writable=True)
        catalogue = torch.from_numpy(np.unique(item))
        basket = torch.from_numpy(_dense(rows["basket"]))
        made: dict[str, StreamData] = {}
        for kind in kinds:
            if kind == "pairs":
                window = (time >= self.cuts[0]).astype(np.int64) + (time >= self.cuts[1])
                numbers = torch.from_numpy(item), torch.from_numpy(window)
                made[prefix + kind] = PairRows(prefix + kind, basket, *numbers, catalogue, seed)
                continue
            lines = Lines(
                user=torch.from_numpy(self.everybody.encode(rows["user"])),
                item=torch.from_numpy(item),
                time=torch.from_numpy(time),
                basket=basket,
                row_of=self.row_of,
                items=catalogue,
                content=self.content,
                classes={name: self.tables[f"item_{name}"].size - 1 for name in self.content},
                cuts=self.cuts,
            )
            lag = self.cuts[1] - self.cuts[0] if windows.lag is None else windows.lag
            made[prefix + kind] = BasketRows(
                prefix + kind, lines, windows.long, windows.short, windows.chunk, windows.negatives, lag, seed
            )
        return made


def _dense(values: pl.Series) -> npt.NDArray[np.int64]:
    """Numbers from 0 in the order of the values."""
    return Vocabulary(values).encode(values) - 1
