"""Online Retail: invoices of a British shop for gifts."""

from __future__ import annotations

from typing import Literal

import polars as pl

from graftrec.data.datasets.folder import Folder
from graftrec.data.tables.builder import interactions
from graftrec.data.tables.interactions import DAY, Column, Interactions
from graftrec.utils.errors import DataError

Years = Literal["2009-2010", "2010-2011", "both"]
FILES = {
    "2009-2010": ("year2009_2010",),
    "2010-2011": ("year2010_2011",),
    "both": ("year2009_2010", "year2010_2011"),
}
COLUMNS = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "CustomerID", "Country")


class OnlineRetail(Folder):
    """Lines of invoices with minutes, December 2009 to December 2011 (UCI, Chen; second year CC0, first CC BY 4.0).

    Refused are cancellations (an invoice ``C...``, or a quantity that is not positive), lines without a customer, lines
    that are no product (postage, fees: a code that does not begin with five digits), and lines that repeat an item of
    their invoice. No label: a basket is an invoice, and all of its lines have its first time. Items have the
    description that stands there most often; customers a country. Prices and quantities are left out.

    Args:
        root: folder of ``year2009_2010.parquet`` and ``year2010_2011.parquet``.
        years: which of them, or ``both``; an invoice that both have counts once.
        domain: ``country``: the countries are domains.
    """

    origin = "https://archive.ics.uci.edu/dataset/352/online+retail and /502/online+retail+ii (CC0, CC BY 4.0)"

    def __init__(self, root: str, years: Years = "2010-2011", domain: Literal["", "country"] = "") -> None:
        super().__init__(root)
        if years not in FILES or domain not in ("", "country"):
            raise ValueError(f"years should be one of {', '.join(FILES)}, domain country. Found {years} and {domain}.")
        self.years, self.domain = years, domain

    def read(self) -> Interactions:
        parts = [self.frame(f"{name}.parquet", COLUMNS) for name in FILES[self.years]]
        lines = pl.concat([parts[0], *(part.join(parts[0], on="InvoiceNo", how="anti") for part in parts[1:])])
        refused = {"in both files": sum(map(len, parts)) - len(lines)}
        wrong = {
            "cancelled or returned": pl.col("InvoiceNo").str.starts_with("C") | (pl.col("Quantity") <= 0),
            "no customer": pl.col("CustomerID").is_null(),
            "no product": ~pl.col("StockCode").str.contains(r"^\d{5}"),
        }
        for reason, bad in wrong.items():
            kept = lines.filter(~bad)
            refused[reason], lines = len(lines) - len(kept), kept
        kept = lines.unique(["InvoiceNo", "StockCode"], keep="first", maintain_order=True)
        refused["line repeats an item of its invoice"] = len(lines) - len(kept)
        if kept.is_empty():
            raise DataError("DATA-010", "online_retail: no purchase is left after cleaning")
        names = lines.drop_nulls("Description").group_by("StockCode", "Description").len()
        names = names.sort(["len", "Description"], descending=[True, False]).unique("StockCode", keep="first")
        moment = pl.col("InvoiceDate").dt.epoch("ms").min().over("InvoiceNo") / (1000.0 * DAY)
        country = pl.col("Country")
        return interactions(
            "online_retail",
            kept.select(
                pl.col("CustomerID").alias("user"),
                pl.col("StockCode").alias("item"),
                pl.col("InvoiceNo").alias("basket"),
                moment.alias("time"),
                *([country.alias("domain")] if self.domain else []),
            ),
            users=kept.select(pl.col("CustomerID").alias("user"), country.alias("country"))
            .unique()
            .sort("user", "country"),
            items=names.select(
                pl.col("StockCode").alias("item"), pl.col("Description").str.strip_chars().alias("title")
            ),
            item_columns={"title": Column("text")},
            refused={reason: count for reason, count in refused.items() if count},
        )
