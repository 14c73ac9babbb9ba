"""How often two items are bought together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

Ints = npt.NDArray[np.int64]


class Pairs(NamedTuple):
    """Pairs a < b of items that share a basket: their support (baskets with both) and cosine in (0, 1]."""

    a: Ints
    b: Ints
    support: Ints
    cosine: npt.NDArray[np.float32]


def co_purchase(basket: Ints, item: Ints, min_support: int = 1) -> Pairs:
    """Cosine n_ab / sqrt(n_a n_b) of the items' basket vectors, for every pair with ``min_support`` common baskets."""
    lines = pl.DataFrame({"basket": basket, "item": item}).unique()
    counts = lines.group_by("item").len("n")
    pairs = (
        lines.join(lines, on="basket", suffix="_b")
        .filter(pl.col("item") < pl.col("item_b"))
        .group_by("item", "item_b")
        .len("support")
        .filter(pl.col("support") >= min_support)
        .join(counts, on="item")
        .join(counts, left_on="item_b", right_on="item", suffix="_b")
        .sort("item", "item_b")
    )
    cosine = pairs.select(pl.col("support") / (pl.col("n").cast(pl.Float64) * pl.col("n_b")).sqrt()).to_series()
    a, b, support = (pairs[name].cast(pl.Int64).to_numpy(writable=True) for name in ("item", "item_b", "support"))
    return Pairs(a, b, support, cosine.cast(pl.Float32).to_numpy(writable=True))
