"""Ids of a second file beside those of the data: how many are the same, and why where none is.

Candidate lists, hard negatives, link tables, attributes of users and items and the files of an official split are all
joined with the data by their ids. Ids of two files are soon written in two ways, ``0.0`` and ``0``, ``007`` and ``7``,
and a join that meets nobody is silent: so each of them is counted here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from graftrec.data.sources.provenance import shown
from graftrec.data.tables.interactions import Codes, code
from graftrec.data.tables.vocabulary import as_type
from graftrec.utils.errors import DataError

FEW = 0.5  # a share of matches below this is said
WAYS: tuple[tuple[str, pl.Expr], ...] = (  # to write one id in two ways, each after those before it
    ("blanks or capital letters on one side", pl.col("alike").str.strip_chars().str.to_lowercase()),
    ("quotes on one side", pl.col("alike").str.strip_chars("'\"` ")),
    ("floats on one side, which a gap in a column of numbers makes of them", pl.col("alike").str.replace(r"\.0+$", "")),
    ("leading zeros on one side", pl.col("alike").str.replace(r"^0+(\d)", "$1")),
    ("a prefix on one side", pl.col("alike").str.extract(r"(\d+)$").str.replace(r"^0+(\d)", "$1")),
)


@dataclass(frozen=True)
class Joined:
    """How many ids of one kind are the same in two files.

    Args:
        setting: that names the second file. what: which ids are counted, and where they are looked up:
        ``users of lists.csv are in the data``. matched: of the ``asked`` distinct ones. doubles: rows whose key an
        earlier one has. why: an id of either side and what may be the matter, if not all match. alike: of those that
        do not match, how many would if both sides were written in one way.
    """

    setting: str
    what: str
    matched: int
    asked: int
    doubles: int = 0
    why: str = ""
    alike: int = 0

    def __str__(self) -> str:
        return f"{self.setting}: {self.matched:,} of {self.asked:,} {self.what}"

    @property
    def notes(self) -> list[str]:
        """What a reader should know: few matches, keys that are there twice."""
        found = [f"{self}{self.why}"] if self.matched < FEW * self.asked else []
        if self.doubles:
            found.append(f"{self.setting}: {self.doubles:,} rows repeat an earlier key and do not count")
        return found

    @property
    def problem(self) -> DataError | None:
        """DATA-047 where nothing matches."""
        return DataError("DATA-047", f"{self}{self.why}") if not self.matched else None

    @property
    def written_in_two_ways(self) -> bool:
        """Whether nothing matches, and much of it would if both sides were written in one way."""
        return not self.matched and self.alike > 0 and self.alike >= FEW * self.asked


def refuse_strangers(joins: Iterable[Joined]) -> None:
    """DataError that names every second file of which no id is in the data."""
    DataError.raise_all([problem for joined in joins for problem in [joined.problem] if problem is not None])


def places(values: pl.Series, keys: pl.Series) -> Codes:
    """Places (n,) of ids of a second file in the distinct ``keys`` of the data, -1 where there is none."""
    return code(as_type(values, keys.dtype), keys)


def joined(setting: str, what: str, given: pl.Series, known: pl.Series, doubles: int = 0) -> Joined:
    """Count which of the ids ``given`` are ``known``."""
    distinct, keys = given.drop_nulls().unique(maintain_order=True), known.drop_nulls().unique(maintain_order=True)
    there = pl.Series(places(distinct, keys) >= 0)
    matched = int(there.sum())
    why, alike = ("", 0) if matched == len(distinct) else reason(distinct.filter(~there), keys)
    return Joined(setting, what, matched, len(distinct), doubles, why, alike)


def reason(strangers: pl.Series, known: pl.Series) -> tuple[str, int]:
    """Ids of either side, such as `` ('0.0' and '0': ...)``, and how many may be meant to be the same in this way.

    The order of the ids is no matter.
    """
    if not len(strangers) or not len(known):
        return "", 0
    strangers, known = strangers.cast(pl.String).sort(), known.cast(pl.String).sort()
    sides = [pl.DataFrame({"id": ids}).with_columns(alike="id") for ids in (strangers, known)]
    for said, way in WAYS:
        sides = [_alike(side, way) for side in sides]
        pairs = sides[0].join(sides[1], on="alike", how="inner", maintain_order="left")
        if len(pairs):
            a, b = pairs.select("id", "id_right").row(0)
            return f" ({shown(a)} and {shown(b)}: {said}?)", len(pairs)
    return f" ({shown(strangers[0])} and {shown(known[0])}, for example)", 0


def _alike(side: pl.DataFrame, way: pl.Expr) -> pl.DataFrame:
    """Each ``id``, and what it is ``alike`` in one more way of writing that both sides may have meant."""
    alike = side.with_columns(way.alias("alike"))
    return alike.filter(pl.col("alike").fill_null("") != "").unique("alike", keep="first", maintain_order=True)
