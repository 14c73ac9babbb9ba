"""Sequences of items: the files behind the published tables of SASRec and S3-Rec."""

from __future__ import annotations

from typing import Literal, get_args

import polars as pl

from graftrec.data.datasets.folder import Folder
from graftrec.data.tables.builder import interactions
from graftrec.data.tables.interactions import Column, Interactions

Name = Literal["Beauty", "Sports_and_Outdoors", "Toys_and_Games", "Yelp", "LastFM"]


class Sequences(Folder):
    """Items of each user in order, without times, 5-core (S3-Rec; Amazon, Yelp and HetRec: research use).

    Beauty 198,502 rows of 22,363 users and 12,101 items; Sports 296,337; Toys 167,597; Yelp 316,354, where 11,830 rows
    repeat an item of their user; LastFM 52,551. No label: the next item is what is asked. Items have attributes, which
    are ids without names. The order is the only time: choose ``split=leave_last_out``.

    Args:
        root: folder of ``<name>.parquet`` and ``<name>_attributes.parquet``. name: which of the five.
    """

    origin = "https://github.com/RUCAIBox/CIKM2020-S3Rec, data/ (research use)"

    def __init__(self, root: str, name: Name = "LastFM") -> None:
        super().__init__(root)
        if name not in get_args(Name):
            raise ValueError(f"name should be one of {', '.join(get_args(Name))}. Found {name}.")
        self.name = name

    def read(self) -> Interactions:
        lists = self.frame(f"{self.name}.parquet", ["user"], ["items"])
        rows = lists.with_columns(pl.int_ranges(pl.col("items").list.len()).alias("time")).explode("items", "time")
        rows = rows.select("user", pl.col("items").cast(pl.UInt32).alias("item"), pl.col("time").cast(pl.Float64))
        items = self.frame(f"{self.name}_attributes.parquet", ["item"], ["attributes"])
        return interactions(
            self.name.lower(),
            rows,
            items=items.with_columns(pl.col("attributes").list.unique(maintain_order=True)),
            item_columns={"attributes": Column("ids")},
            clock=False,
            unique=self.name != "Yelp",
            stamps=("not time-safe: every user and item with fewer than 5 rows was dropped, over all of the time",),
        )
