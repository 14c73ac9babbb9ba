"""Restaurants: three ratings each."""

from __future__ import annotations

import polars as pl

from graftrec.data.datasets.folder import Folder
from graftrec.data.tables.builder import interactions
from graftrec.data.tables.interactions import Column, Interactions

LABELS = ("rating", "food_rating", "service_rating")
PLACES = (
    "city", "alcohol", "smoking_area", "dress_code", "accessibility", "price", "ambience", "franchise", "area",
    "other_services",
)  # fmt: skip
CUISINES = Column("ids", table="cuisine")  # what a user likes and a place serves


class Restaurants(Folder):
    """1,161 ratings of 130 restaurants in Mexico by 138 users (UCI, CC BY 4.0), small enough for tests, without times.

    Labels: ``rating`` of the whole, of the food and of the service, 0 to 2 each. Users have the cuisines that they
    like, places theirs, and what else is known of them. Left out: addresses, state and country.

    Args:
        root: folder of ``ratings.parquet``, ``places.parquet``, ``place_cuisine.parquet`` and ``user_cuisine.parquet``.
    """

    origin = "https://archive.ics.uci.edu/dataset/232/restaurant+consumer+data (CC BY 4.0)"

    def read(self) -> Interactions:
        ratings = self.frame("ratings.parquet", ["userID", "placeID", *LABELS])
        places = self.frame("places.parquet", ["placeID", "name", "latitude", "longitude", *PLACES])
        city = pl.col("city").str.to_lowercase().str.strip_chars().replace({"?": None})
        cuisines = {
            key: self.frame(file, [key, "Rcuisine"]).group_by(key, maintain_order=True).agg(cuisines="Rcuisine")
            for key, file in (("userID", "user_cuisine.parquet"), ("placeID", "place_cuisine.parquet"))
        }
        items = places.with_columns(city).join(cuisines["placeID"], on="placeID", how="left", maintain_order="left")
        return interactions(
            "restaurants",
            ratings.rename({"userID": "user", "placeID": "item"}),
            labels=dict.fromkeys(LABELS, "number"),
            users=cuisines["userID"].rename({"userID": "user"}),
            items=items.rename({"placeID": "item", "name": "title"}),
            user_columns={"cuisines": CUISINES},
            item_columns={
                "title": Column("text"),
                "cuisines": CUISINES,
                "latitude": Column("number"),
                "longitude": Column("number"),
                **{name: Column("id") for name in PLACES},
            },
            unique=True,
        )
