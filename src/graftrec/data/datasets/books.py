"""Books: two platforms that share neither users nor ids."""

from __future__ import annotations

import polars as pl

from graftrec.data.datasets.folder import Folder, at_least
from graftrec.data.tables.builder import interactions
from graftrec.data.tables.interactions import Column, Interactions

YEARS, AGES = (1800, 2020), (5, 100)
BOOKS = {"title": Column("text"), "authors": Column("ids", separator=","), "year": Column("number")}


class Books(Folder):
    """Book-Crossing (research use, to be cited) and a sample of goodbooks-10k (CC BY-SA 4.0), without times.

    ``bookcrossing``: 272,678 books that 2,946 users have, 62,656 of them rated 1 to 10; labels ``rated``, ``rating``
    and ``like`` (from 8), the latter two missing where it was not rated. ``goodbooks``: 298,176 ratings 1 to 5 of 2,672
    users; labels ``rating`` and ``like`` (from 4). Titles, authors and years may be shared by
    ``protocol=cross_platform``. Left out: ISBNs and ``ratings_count``, which is counted over everybody's answers; and
    the crosswalk of both catalogues, which may judge a transfer and never train one.

    Args:
        root: folder of ``bookcrossing_{interactions,items,users}.parquet`` and
            ``goodbooks_{ratings_sample,items}.parquet``.
    """

    origin = "Book-Crossing (Ziegler et al., WWW 2005: research use) and goodbooks-10k (CC BY-SA 4.0), prepared"

    def read(self) -> Interactions:
        return self.parts()["goodbooks"]

    def parts(self) -> dict[str, Interactions]:
        return {"bookcrossing": self._bookcrossing(), "goodbooks": self._goodbooks()}

    def _bookcrossing(self) -> Interactions:
        rows = self.frame("bookcrossing_interactions.parquet", ["user", "item", "rating"])
        items = self.frame("bookcrossing_items.parquet", ["item", "title", "author", "year", "publisher"])
        users = self.frame("bookcrossing_users.parquet", ["user", "location", "age"])
        return interactions(
            "bookcrossing",
            rows.with_columns(
                pl.col("rating").is_not_null().cast(pl.UInt8).alias("rated"), at_least("rating", 8, "like")
            ),
            labels={"rated": "binary", "rating": "number", "like": "binary"},
            users=users.with_columns(_within("age", AGES)),
            items=items.rename({"author": "authors"}).with_columns(
                pl.col("title", "authors", "publisher").str.replace_all("&amp", "&", literal=True),
                _within("year", YEARS),
            ),
            user_columns={"location": Column("ids", separator=","), "age": Column("number")},
            item_columns={**BOOKS, "publisher": Column("id")},
            unique=True,
        )

    def _goodbooks(self) -> Interactions:
        rows = self.frame("goodbooks_ratings_sample.parquet", ["user", "item", "rating"])
        items = self.frame(
            "goodbooks_items.parquet", ["item", "title", "authors", "original_publication_year", "language_code"]
        )
        return interactions(
            "goodbooks",
            rows.with_columns(at_least("rating", 4, "like")),
            labels={"rating": "number", "like": "binary"},
            items=items.rename({"original_publication_year": "year", "language_code": "language"}).with_columns(
                _within("year", YEARS)
            ),
            item_columns={**BOOKS, "language": Column("id")},
            unique=True,
        )


def _within(column: str, bounds: tuple[int, int]) -> pl.Expr:
    """A number, null where it is none or out of bounds."""
    value = pl.col(column).cast(pl.Float32, strict=False)
    return pl.when(value.is_between(*bounds)).then(value).alias(column)
