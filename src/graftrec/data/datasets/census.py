"""Census-Income (KDD): income and marriage from 40 columns."""

from __future__ import annotations

import polars as pl

from graftrec.data.datasets.folder import Folder
from graftrec.data.tables.builder import interactions
from graftrec.data.tables.interactions import Column, Interactions

NUMBERS = (
    "age", "wage_per_hour", "capital_gains", "capital_losses", "stock_dividends", "num_emp", "weeks_worked",
)  # fmt: skip
SKEWED = ("wage_per_hour", "capital_gains", "capital_losses", "stock_dividends")
IDS = (
    "class_worker", "det_ind_code", "det_occ_code", "education", "hs_college", "major_ind_code", "major_occ_code",
    "race", "hisp_origin", "sex", "union_member", "unemp_reason", "full_or_part_emp", "tax_filer_stat",
    "region_prev_res", "state_prev_res", "det_hh_fam_stat", "det_hh_summ", "mig_chg_msa", "mig_chg_reg",
    "mig_move_reg", "mig_same", "mig_prev_sunbelt", "fam_under_18", "country_father", "country_mother",
    "country_self", "citizenship", "own_or_self", "vet_question", "vet_benefits", "year",
)  # fmt: skip


class Census(Folder):
    """99,762 persons of the US census surveys of 1994 and 1995 (UCI, CC BY 4.0), the official test part alone.

    Labels: ``income`` (above 50,000 dollars) and ``never_married`` (from ``marital_stat``), neither of them a feature.
    The other 39 columns are features, codes of industry and occupation as ids and amounts as logarithms; left out is
    ``instance_weight``, which says how many people a row stands for and nothing of the person. There is no official
    split of this part: choose ``split=random``. 883 rows stand there twice, and equal rows stay together.

    Args:
        root: folder of ``test_99762.parquet``. weight: whether ``instance_weight`` weighs the rows, in training and in
            metrics; published tables do not.
    """

    origin = "https://archive.ics.uci.edu/dataset/117/census+income+kdd (CC BY 4.0)"

    def __init__(self, root: str, weight: bool = False) -> None:
        super().__init__(root)
        self.weight = weight

    def read(self) -> Interactions:
        more = ["instance_weight"] if self.weight else []
        rows = self.frame("test_99762.parquet", [*IDS, *NUMBERS, "income_50k", "marital_stat", *more])
        rows = rows.select(
            *IDS,
            *(pl.col(name).cast(pl.Float64).log1p() if name in SKEWED else name for name in NUMBERS),
            (pl.col("income_50k") == "50000+.").cast(pl.UInt8).alias("income"),
            (pl.col("marital_stat") == "Never married").cast(pl.UInt8).alias("never_married"),
            *(pl.col(name).alias("weight") for name in more),
        )
        return interactions(
            "census",
            rows,
            columns={name: Column("id") for name in IDS} | {name: Column("number") for name in NUMBERS},
            labels={"income": "binary", "never_married": "binary"},
            notes=("det_hh_fam_stat says of many rows whether never_married, in published tables too",),
        )
