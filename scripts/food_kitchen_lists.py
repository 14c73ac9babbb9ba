"""The candidates of ABXI's table: what a user chose last, or next to last, and 999 products of the same domain.

    python scripts/food_kitchen_lists.py ROOT OUT.parquet [--seed 0]

ROOT is the folder of ``interactions_abxi.parquet`` (``dataset=food_kitchen``). The last row of a user, over both
domains, is the test and the one before it the validation; 999 products of that row's domain are drawn uniformly from
those that the user never chose. OUT is what ``candidates.lists`` reads.
"""

import argparse
from pathlib import Path

import numpy as np
import polars as pl

from graftrec.utils.atomic_files import whole

DRAWN = 999


def lists(rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    """``user``, ``item`` (a list) and ``split`` from rows of ``user``, ``item``, ``domain`` and ``timestamp``."""
    random = np.random.default_rng(seed)
    rows = rows.sort("user", "timestamp", "item")
    products = {
        int(key): part["item"].unique().sort().to_numpy()
        for (key,), part in rows.partition_by("domain", as_dict=True).items()
    }
    found = []
    for (user,), own in rows.partition_by("user", as_dict=True, maintain_order=True).items():
        chosen = own["item"].to_numpy()
        for split, back in (("test", 1), ("val", 2)):
            pool = np.setdiff1d(products[int(own["domain"][-back])], chosen, assume_unique=False)
            drawn = random.choice(pool, DRAWN, replace=False)
            found.append({"user": user, "item": [int(chosen[-back]), *drawn.tolist()], "split": split})
    return pl.DataFrame(
        found, schema={"user": rows.schema["user"], "item": pl.List(rows.schema["item"]), "split": pl.String}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    words = parser.parse_args()
    made = lists(pl.read_parquet(words.root / "interactions_abxi.parquet"), words.seed)
    with whole(words.out) as draft:
        made.write_parquet(draft)
    print(f"{words.out}: {len(made):,} lists of {1 + DRAWN:,} products")


if __name__ == "__main__":
    main()
