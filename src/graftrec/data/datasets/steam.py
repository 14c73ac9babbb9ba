"""Steam: games that are bought, and how long they are played."""

from __future__ import annotations

import polars as pl

from graftrec.data.datasets.folder import Folder
from graftrec.data.tables.builder import interactions
from graftrec.data.tables.interactions import Column, Interactions


class Steam(Folder):
    """Purchases of 5,155 games by 12,393 users (Kaggle tamber/steam-video-games: not to be passed on), without times.

    129,511 purchases, of which 707 stand there twice. Labels, one after the other: ``played`` at all, and
    ``log_hours``, log(1 + hours), missing where the game was not played. Items have their name.

    Args:
        root: folder of ``purchase.parquet``, ``play.parquet`` and ``items.parquet``.
    """

    origin = "https://www.kaggle.com/datasets/tamber/steam-video-games (of its authors: not to be passed on)"

    def read(self) -> Interactions:
        bought = self.frame("purchase.parquet", ["user", "item"])
        played = self.frame("play.parquet", ["user", "item", "hours"])
        rows = bought.unique(maintain_order=True).join(
            played.group_by("user", "item").agg(pl.col("hours").max()), on=["user", "item"], how="left"
        )
        twice = len(bought) - len(rows)
        return interactions(
            "steam",
            rows.select(
                "user",
                "item",
                pl.col("hours").is_not_null().cast(pl.UInt8).alias("played"),
                pl.col("hours").log1p().alias("log_hours"),
            ),
            labels={"played": "binary", "log_hours": "number"},
            items=self.frame("items.parquet", ["item", "name"]).rename({"name": "title"}),
            item_columns={"title": Column("text")},
            unique=True,
            refused={"purchase that stands there twice": twice} if twice else {},
        )
