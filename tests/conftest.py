"""A small shop that is made by code, and trees composed as the command line composes them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from graftrec.config import instantiate

Compose = Callable[[list[str]], dict[str, Any]]

USERS, ITEMS, DAYS = 12, 40, 60
DEPARTMENTS = ("GROCERY", "PRODUCE", "DRUG GM")


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with lines, products and households: 12 users buy what they like of 40 items every other day.

    Items 101 to 104 are in half of all baskets, so that item pairs are bought together often enough in every window;
    user 12 is new in the test, user 11 buys nothing in it, and each user has a taste, so there is something to learn.
    """
    random = np.random.default_rng(0)
    taste = random.dirichlet(np.full(ITEMS, 0.3), USERS)
    taste[:, :4] = 0
    taste /= taste.sum(1, keepdims=True)
    lines: list[tuple[int, int, int, datetime]] = []
    basket = 0
    for user in range(USERS):
        for day in range(user % 2, DAYS, 2):
            if (user == 11 and day < 54) or (user == 10 and day >= 50):
                continue
            staples = np.flatnonzero(random.random(4) < 0.5)
            liked = random.choice(ITEMS, 3, replace=False, p=0.97 * taste[user] + 0.03 / ITEMS)
            moment = datetime(2026, 1, 1, 9) + timedelta(days=day, minutes=int(random.integers(600)))
            lines += [(1000 + basket, 1 + user, 101 + item, moment) for item in {*staples.tolist(), *liked.tolist()}]
            basket += 1
    folder = tmp_path_factory.mktemp("shop")
    names = ["basket", "user", "item", "time"]
    rows = pl.DataFrame(lines, schema=names, orient="row")
    rows.with_columns(  # and labels of single rows
        pl.col("time").dt.weekday().cast(pl.String).alias("weekday"),
        (pl.col("item") % 10).cast(pl.Float64).alias("price"),
        (pl.col("item") % 2).alias("click"),
        (pl.col("user") % 2).alias("like"),
        (pl.col("item") % 4 == 1).cast(pl.Int64).alias("conversion"),  # only of what was clicked
        (pl.col("item") % 2 * (5.0 + pl.col("user"))).alias("watch_time"),
        (1 + (pl.col("item") + pl.col("user")) % 5).alias("rating"),
        pl.when(pl.int_range(pl.len()) % 5 == 4).then(pl.lit("test")).otherwise(pl.lit("train")).alias("part"),
    ).write_parquet(folder / "lines.parquet")
    numbers = np.arange(ITEMS)
    pl.DataFrame(
        {
            "item": 101 + numbers,
            "department": [DEPARTMENTS[i % 3] for i in numbers],
            "product_category": [f"category {i % 7}" for i in numbers],
            "brand": [None if i % 5 == 0 else "own" if i % 2 else "national" for i in numbers],
        }
    ).write_parquet(folder / "products.parquet")
    pl.DataFrame(
        {"user": np.arange(1, USERS + 1), "age": [f"{20 + 10 * (i % 3)}" for i in range(USERS)]}
    ).write_parquet(folder / "households.parquet")
    return folder


@pytest.fixture(scope="session")
def shop_settings(shop: Path) -> list[str]:
    """Settings that train on the shop, whatever else is chosen."""
    return [
        "dataset=files",
        f"dataset.path={shop}/lines.parquet",
        *(f"++dataset.{role}={role}" for role in ("user", "item", "time", "basket")),
        f"++dataset.items={shop}/products.parquet",
        f"++dataset.users={shop}/households.parquet",
        "++candidates.min_users=1",
    ]


@pytest.fixture(scope="session")
def compose() -> Compose:
    """Settings -> the plain tree that a job of ``graftrec train`` gets."""
    from hydra import compose, initialize_config_dir

    def tree_of(overrides: list[str]) -> dict[str, Any]:
        instantiate.register_resolvers()
        with initialize_config_dir(str(instantiate.conf_dir()), version_base="1.3"):
            tree = instantiate.plain(compose("train", overrides))
        instantiate.drop_orphans(tree)
        return tree

    return tree_of
