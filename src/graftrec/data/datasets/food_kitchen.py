"""Amazon Food and Kitchen: two domains of the same users, with times."""

from __future__ import annotations

import polars as pl

from graftrec.data.datasets.folder import Folder, days
from graftrec.data.tables.builder import interactions
from graftrec.data.tables.interactions import Column, Interactions


class FoodKitchen(Folder):
    """173,548 reviews of 28,095 products by 7,144 users of both domains, the files of ABXI (Amazon 2014: research use).

    2000 to 2014, in whole days. No label: a row says that a user reviewed a product, once. Items have a title where
    LLMCDSR has one (23,357 of them). A third of the users tie on their last two days; such rows are ordered by item, as
    in the file.

    Args:
        root: folder of ``interactions_abxi.parquet`` and ``items_abxi.parquet``.
        apart: rows of one day follow each other, 86 ms apart, so that each is in the history of the next, as ABXI takes
            them; else they are one basket.
    """

    origin = "https://github.com/DiMarzioBian/ABXI, data/afk/ (Amazon reviews 2014: research use)"

    def __init__(self, root: str, apart: bool = False) -> None:
        super().__init__(root)
        self.apart = apart

    def read(self) -> Interactions:
        rows = self.frame("interactions_abxi.parquet", ["user", "item", "domain", "timestamp"])
        day = days("timestamp")
        if self.apart:
            rows = rows.sort("user", "timestamp", "item")
            day = day + 1e-6 * pl.int_range(pl.len()).over("user")
        domain = pl.col("domain").replace_strict({0: "food", 1: "kitchen"}, return_dtype=pl.String)
        return interactions(
            "food_kitchen",
            rows.select("user", "item", domain, day),
            items=self.frame("items_abxi.parquet", ["item", "title"]),
            item_columns={"title": Column("text")},
            unique=True,
            stamps=("not time-safe: only users with rows in both domains were kept, over all of the time",),
        )
