"""MovieLens: ratings of films."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import polars as pl

from graftrec.data.datasets.folder import Folder, at_least, days, year_of
from graftrec.data.sources import table_reader
from graftrec.data.tables.builder import interactions
from graftrec.data.tables.interactions import Column, Interactions

Official = Literal["", "metahin", "fold5"]
Extra = Literal["director", "actors", "plot"]
Events = Literal["likes", "ratings"]
STARS = ("1", "2", "3", "4", "5")
COLUMNS = {
    "director": Column("ids", separator=","),
    "actors": Column("ids", separator=","),
    "plot": Column("text", length=50),
}
COLD = (
    "29 rows of the states warm and new user are of items that meta-training lacks: their cohort here is cold_item",
)


class MovieLens(Folder):
    """Ratings of 1 to 5 stars (GroupLens: for research, not to be passed on; Harper and Konstan, 2015).

    100K: 100,000 ratings, 943 users, 1,682 films, in seconds since 1970. 1M: 1,000,209 ratings, 6,040 users, 3,706
    rated films, with a time only where ``ratings.parquet`` has a column ``timestamp``. Labels: ``rating`` and ``like``.
    A rating from ``positive`` on belongs to a history and is to be ranked; the others only have labels. With
    ``events=ratings`` every rating does, and a history says how many stars each film got: for tasks on rows. Left out:
    the zip code, which almost names a user, links and the release date, which the title's year says.

    Args:
        root: folder of ``ratings.parquet``, ``users.parquet`` and ``items.parquet`` (1M: ``movies.parquet``).
        size: which of the two. positive: least rating that is a like.
        official: split of the 1M: ``metahin`` trains on the rows of meta-training and tests on all of its four states
            (warm, new user, new item, both: the cohorts of the metrics); ``fold5`` tests on fold 1 of 5.
        extras: more of the 1M's films: their ``director``, ``actors`` and ``plot`` (IMDb, research only).
        events: what belongs to a history: ``likes`` or all ``ratings``, each a behaviour with the name of its stars.
    """

    origin = "https://grouplens.org/datasets/movielens/ (GroupLens: research only, not to be passed on)"

    def __init__(
        self,
        root: str,
        size: Literal["100k", "1m"] = "100k",
        positive: float = 4.0,
        official: Official = "",
        extras: Sequence[Extra] = (),
        events: Events = "likes",
    ) -> None:
        super().__init__(root)
        if size not in ("100k", "1m") or official not in get_args(Official) or set(extras) - set(get_args(Extra)):
            raise ValueError(
                f"size should be 100k or 1m, official one of metahin and fold5, extras of {', '.join(COLUMNS)}. "
                f"Found {size}, {official} and {', '.join(extras)}."
            )
        if size == "100k" and (official or extras):
            raise ValueError("official and extras are of size=1m.")
        if events not in get_args(Events):
            raise ValueError(f"events should be likes or ratings. Found {events}.")
        self.get = "movielens" if size == "100k" else "movielens_1m"
        self.events = events
        self.size, self.positive, self.official, self.extras = size, positive, official, tuple(extras)

    def read(self) -> Interactions:
        there = table_reader.columns(self.path("ratings.parquet"))
        named = ["user_id", "movie_id", "rating", *(["timestamp"] if "timestamp" in there else [])]
        split = {"": [], "metahin": ["metahin_split"], "fold5": ["fold5"]}[self.official]
        ratings = self.frame("ratings.parquet", [*named, *split])
        columns = [
            pl.col("user_id").alias("user"),
            pl.col("movie_id").alias("item"),
            self._event(),
            pl.col("rating"),
            at_least("rating", self.positive, "like"),
        ]
        columns += [days("timestamp")] if "timestamp" in there else []
        columns += [self._split().alias("split")] if self.official else []
        people = ["user_id", "age", "gender", "occupation"]
        title = "movie_title" if self.size == "100k" else "title"
        films = self.frame(
            "items.parquet" if self.size == "100k" else "movies.parquet", ["movie_id", title, "genres", *self.extras]
        )
        films = films.with_columns(year_of(title), pl.col(pl.String).replace({"N/A": None}))
        return interactions(
            f"movielens_{self.size}",
            ratings.select(columns),
            labels={"rating": "number", "like": "binary"},
            users=self.frame("users.parquet", people).rename({"user_id": "user"}),
            items=films.rename({"movie_id": "item", title: "title"}),
            user_columns={"age": Column("number"), "gender": Column("id"), "occupation": Column("id")},
            item_columns={"title": Column("text"), "genres": Column("ids"), "year": Column("number")}
            | {extra: COLUMNS[extra] for extra in self.extras},
            unique=True,
            behaviours=STARS if self.events == "ratings" else (),
            notes=COLD if self.official == "metahin" else (),
        )

    def _event(self) -> pl.Expr:
        if self.events == "likes":
            return at_least("rating", self.positive, "event")
        return pl.lit(2).pow(pl.col("rating").cast(pl.Int64) - 1).cast(pl.UInt8).alias("event")

    def _split(self) -> pl.Expr:
        if self.official == "fold5":
            return pl.when(pl.col("fold5") == 1).then(2).otherwise(0)
        state = pl.col("metahin_split")
        return pl.when(state == "meta_training").then(0).when(state.is_not_null()).then(2).otherwise(-1)
