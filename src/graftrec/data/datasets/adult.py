"""Adult: income and marriage from a census."""

from __future__ import annotations

import polars as pl

from graftrec.data.datasets.folder import Folder
from graftrec.data.tables.builder import interactions
from graftrec.data.tables.interactions import Column, Interactions

IDS = ("workclass", "education", "occupation", "relationship", "race", "sex", "native_country")
NUMBERS = ("age", "fnlwgt", "education_num", "capital_gain", "capital_loss", "hours_per_week")
SKEWED = ("fnlwgt", "capital_gain", "capital_loss")


class Adult(Folder):
    """48,842 persons of the US census of 1994 (UCI, CC BY 4.0; Becker and Kohavi, 1996), the official two parts.

    Labels: ``income`` (above 50,000 dollars) and ``never_married`` (from ``marital_status``), neither of them a
    feature. The 13 features are all other columns, as in the published tables of ESMM and MMoE on these files:
    ``fnlwgt``, the census weight, is one of them. A value ``?`` is a category of its own. Amounts are logarithms.

    Args:
        root: folder of ``train.parquet`` and ``test.parquet``.
    """

    origin = "https://archive.ics.uci.edu/dataset/2/adult (CC BY 4.0)"
    get = "adult"

    def read(self) -> Interactions:
        columns = [*IDS, *NUMBERS, "marital_status", "income"]
        parts = [
            self.frame(f"{name}.parquet", columns).with_columns(pl.lit(part).alias("split"))
            for name, part in (("train", 0), ("test", 2))
        ]
        rows = pl.concat(parts).select(
            "split",
            *IDS,
            *(pl.col(name).cast(pl.Float64).log1p() if name in SKEWED else name for name in NUMBERS),
            (pl.col("income") == ">50K").cast(pl.UInt8),
            (pl.col("marital_status") == "Never-married").cast(pl.UInt8).alias("never_married"),
        )
        return interactions(
            "adult",
            rows,
            columns={name: Column("id") for name in IDS} | {name: Column("number") for name in NUMBERS},
            labels={"income": "binary", "never_married": "binary"},
            notes=("relationship (husband, wife) says of many rows whether never_married, in published tables too",),
        )
