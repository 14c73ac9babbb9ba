"""Amazon: two domains that share all of their users."""

from __future__ import annotations

from typing import Literal

import polars as pl

from graftrec.data.datasets.folder import Folder
from graftrec.data.tables.builder import interactions
from graftrec.data.tables.interactions import Interactions

Domain = Literal["cloth", "sport", "electronic", "phone"]
PAIRS = ({"cloth", "sport"}, {"cloth", "electronic"}, {"electronic", "phone"}, {"phone", "sport"})


class AmazonPair(Folder):
    """Reviewed products of a pair of categories, the files of DisenCDR (Amazon 2014: research use, no licence named).

    Every user is in both domains. Split: each user's own test item in each domain, leave-one-out; no validation, which
    ``split=official`` draws from the training rows. No time, no text, no label: a row says that a user reviewed a
    product. The files number the items of each domain from 0, so here they are called ``cloth 17`` and ``sport 17``.

    Args:
        root: folder of ``interactions.parquet``.
        source, target: cloth and sport, cloth and electronic, electronic and phone, or phone and sport.
        cold_test: with the test rows whose item is in no training row, which the published tables drop.
    """

    origin = "https://github.com/cjx96/DisenCDR, dataset/ (Amazon reviews 2014: research use)"

    def __init__(self, root: str, source: Domain = "cloth", target: Domain = "sport", cold_test: bool = False) -> None:
        super().__init__(root)
        if {source, target} not in PAIRS:
            pairs = ", ".join(" and ".join(sorted(pair)) for pair in PAIRS)
            raise ValueError(f"source and target should be one of {pairs}. Found {source} and {target}.")
        self.source, self.target, self.cold_test = source, target, cold_test

    def read(self) -> Interactions:
        return self.parts()[self.target]

    def parts(self) -> dict[str, Interactions]:
        rows = self.frame("interactions.parquet", ["domain_of_pair", "split", "user", "item"])
        pairs = {self.source: f"{self.source}_{self.target}", self.target: f"{self.target}_{self.source}"}
        return {name: self._part(name, rows.filter(pl.col("domain_of_pair") == pair)) for name, pair in pairs.items()}

    def _part(self, name: str, rows: pl.DataFrame) -> Interactions:
        tests = {test: rows.filter(pl.col("split") == test) for test in ("test", "test_original")}
        dropped = 0 if self.cold_test else len(tests["test_original"]) - len(tests["test"])
        train, test = rows.filter(pl.col("split") == "train"), tests["test_original" if self.cold_test else "test"]
        return interactions(
            f"amazon_{name}",
            pl.concat([train, test]).select(
                "user",
                pl.format(name + " {}", "item").alias("item"),
                pl.when(pl.col("split") == "train").then(0).otherwise(2).alias("split"),
            ),
            unique=True,
            refused={"test item that is in no training row": dropped} if dropped else {},
        )
