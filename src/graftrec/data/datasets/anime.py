"""Anime: what is watched, rated and how well."""

from __future__ import annotations

from typing import Literal

import polars as pl

from graftrec.data.datasets.folder import Folder
from graftrec.data.tables.builder import interactions
from graftrec.data.tables.interactions import Column, Interactions


class Anime(Folder):
    """520,609 watched series and films of 5,000 of MyAnimeList's users (Kaggle CooperUnion), without times.

    Labels, one after the other: ``rated`` at all, and ``score``, 1 to 10, missing where it was not rated. Of the items
    their columns ``rating`` and ``members`` are left out: they are counted over everybody's answers, test rows among
    them, and would leak. Kept are name, genres, type and number of episodes.

    Args:
        root: folder of ``interactions.parquet`` and ``items.parquet``.
        domain: ``type``: TV, film, OVA, special, ONA and music are domains of the same users.
    """

    origin = "https://www.kaggle.com/datasets/CooperUnion/anime-recommendations-database (CC0; 5,000 users)"

    def __init__(self, root: str, domain: Literal["", "type"] = "") -> None:
        super().__init__(root)
        if domain not in ("", "type"):
            raise ValueError(f"domain should be type or empty. Found {domain}.")
        self.domain = domain

    def read(self) -> Interactions:
        rows = self.frame("interactions.parquet", ["user", "item", "rating"])
        items = self.frame("items.parquet", ["item", "name", "genre", "type", "episodes"])
        items = items.rename({"name": "title", "genre": "genres"}).with_columns(pl.col("item").cast(rows["item"].dtype))
        refused = {}
        if self.domain:
            rows = rows.join(items.select("item", domain="type"), on="item", how="left", maintain_order="left")
            outside = rows["domain"].null_count()
            refused = {"no type": outside} if outside else {}
            rows = rows.drop_nulls("domain")
        score = pl.col("rating").cast(pl.Float32)
        return interactions(
            "anime",
            rows.with_columns(score.is_not_null().cast(pl.UInt8).alias("rated"), score.alias("score")).drop("rating"),
            labels={"rated": "binary", "score": "number"},
            items=items,
            item_columns={
                "title": Column("text"),
                "genres": Column("ids", separator=","),
                "type": Column("id"),
                "episodes": Column("number", log=True),
            },
            unique=True,
            refused=refused,
        )
