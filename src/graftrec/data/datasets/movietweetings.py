"""MovieTweetings: ratings of films from tweets."""

from __future__ import annotations

import polars as pl

from graftrec.data.datasets.folder import Folder, at_least, days, year_of
from graftrec.data.tables.builder import interactions
from graftrec.data.tables.interactions import Column, Interactions


class MovieTweetings(Folder):
    """100,000 ratings 0 to 10 of 10,506 films by 16,554 users, February to September 2013 (MIT, Simon Dooms).

    Labels: ``rating`` and ``like``. A rating from ``positive`` on belongs to a history and is to be ranked. Items have
    title, genres and year. Left out: the crosswalks to MovieLens, which may judge a transfer and never train one.

    Args:
        root: folder of ``ratings.parquet`` and ``movies.parquet``. positive: least rating that is a like.
    """

    origin = "https://github.com/sidooms/MovieTweetings, snapshots/100K (MIT)"

    def __init__(self, root: str, positive: float = 8.0) -> None:
        super().__init__(root)
        self.positive = positive

    def read(self) -> Interactions:
        ratings = self.frame("ratings.parquet", ["user_id", "imdb_id", "rating", "timestamp"])
        films = self.frame("movies.parquet", ["imdb_id", "title", "genres"])
        return interactions(
            "movietweetings",
            ratings.select(
                pl.col("user_id").alias("user"),
                pl.col("imdb_id").alias("item"),
                days("timestamp"),
                at_least("rating", self.positive, "event"),
                "rating",
                at_least("rating", self.positive, "like"),
            ),
            labels={"rating": "number", "like": "binary"},
            items=films.rename({"imdb_id": "item"}).with_columns(year_of("title")),
            item_columns={"title": Column("text"), "genres": Column("ids"), "year": Column("number")},
            unique=True,
        )
