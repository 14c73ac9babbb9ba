"""What a dataset hands to a protocol: rows as numbers, the raw ids they stand for, and what the columns mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import polars as pl

DAY = 86_400.0

Codes = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Kind = Literal["id", "ids", "number", "text", "vector", "history", "date"]
LabelKind = Literal["binary", "number", "category"]
Missing = Literal["keep", "drop"]

DATE_PARTS = ("hour", "weekday", "day", "month", "year")
MOST_BUCKETS = 2**24  # of a column: each is a row of a table


@dataclass(frozen=True)
class Column:
    """What a feature column means, and what is done to it.

    ``id`` is one category, ``ids`` several, ``history`` several in order of time (the newest last), ``text`` words,
    ``number`` a number, ``vector`` several (an embedding), ``date`` a time that becomes ids, one for each of ``parts``.

    Args:
        kind: as above.
        table: vectors are shared with every column of the same ``table`` (default: the column's own name).
        missing: ``drop`` refuses rows without a value; ``keep`` takes the unknown id, or the mean of the training rows.
        fill: what a missing number is instead.
        clip: lowest and highest number, in the column's own unit.
        outliers: share of the training rows, in [0, 0.5), that is clipped at either end.
        log: a number x becomes sign(x) log(1 + |x|).
        buckets: a number becomes an id: quantiles of the training rows; words of a text are hashed into so many ids.
        parts: of a date: hour, weekday, day, month, year (UTC).
        format: of a date that is written in another way than ISO 8601, in the words of ``strptime``: ``%m/%d/%Y``.
        separator: between the values of a text field that holds several.
        length: most values of ``ids`` and ``text`` (the first are kept) and of ``history`` (the newest are kept).

    Raises:
        ValueError: a value outside its range, or an option that this kind does not have.
    """

    kind: Kind
    table: str = ""
    missing: Missing = "keep"
    fill: float | None = None
    clip: Sequence[float] = ()
    outliers: float = 0.0
    log: bool = False
    buckets: int = 0
    parts: Sequence[str] = ("hour", "weekday")
    separator: str = "|"
    length: int = 20
    format: str = ""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind should be one of {', '.join(get_args(Kind))}. Found {self.kind}.")
        if self.missing not in get_args(Missing):
            raise ValueError(f"missing should be keep or drop. Found {self.missing}.")
        if self.clip and (len(self.clip) != 2 or self.clip[0] >= self.clip[1]):
            raise ValueError(f"clip should be [lowest, highest]. Found {list(self.clip)}.")
        if not 0 <= self.outliers < 0.5:
            raise ValueError(f"outliers should be in [0, 0.5). Found {self.outliers}.")
        if not 0 <= self.buckets <= MOST_BUCKETS or self.length < 1:
            most = f"and buckets at most {MOST_BUCKETS:,}"
            raise ValueError(f"buckets and length should be positive, {most}. Found {self.buckets} and {self.length}.")
        odd = [part for part in self.parts if part not in DATE_PARTS]
        if odd:
            raise ValueError(f"parts should be of {', '.join(DATE_PARTS)}. Found {odd[0]}.")
        if self.kind != "number" and (self.log or self.clip or self.outliers or self.fill is not None):
            raise ValueError(f"fill, clip, outliers and log are for numbers, and this is kind={self.kind}")
        if self.format and self.kind != "date":
            raise ValueError(f"format is for dates, and this is kind={self.kind}")
        if self.buckets and self.kind not in ("number", "text"):
            raise ValueError(f"buckets are for numbers and text, and this is kind={self.kind}")

    @classmethod
    def of(cls, given: str | Mapping[str, Any]) -> Column:
        """A column from YAML: its kind, or a mapping with ``kind`` and options."""
        options = {"kind": given} if isinstance(given, str) else dict(given)
        known = [slot.name for slot in fields(cls)]
        for name in options:
            if name not in known:
                near = get_close_matches(name, known, 1)
                raise ValueError(f"there is no '{name}'" + (f"; did you mean '{near[0]}'?" if near else ""))
        if "kind" not in options:
            raise ValueError(f"kind is missing: one of {', '.join(get_args(Kind))}")
        return cls(**options)


@dataclass(frozen=True, eq=False)
class Ids:
    """A column of raw ids: ``keys[codes[row]]``, and -1 where there is none."""

    codes: Codes  # (n,)
    keys: pl.Series

    @classmethod
    def of(cls, values: pl.Series) -> Ids:
        """Codes of raw values, keys in sorted order."""
        keys = values.drop_nulls().unique().sort()
        return cls(code(values, keys), keys)


@dataclass(frozen=True, eq=False)
class Lists:
    """Several raw ids a row: those of row i are ``keys[codes[starts[i] : starts[i + 1]]]``."""

    starts: Ints  # (n + 1,)
    codes: Codes
    keys: pl.Series

    @classmethod
    def of(cls, values: pl.Series) -> Lists:
        """Codes of a column of lists; nulls are empty."""
        flat = values.explode(empty_as_null=False, keep_nulls=False)
        sizes = values.list.len().fill_null(0).to_numpy()
        ids = Ids.of(flat)
        return cls(np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]), ids.codes, ids.keys)

    def padded(self, rows: Ints, length: int, newest: bool = False) -> Codes:
        """Codes (B, length) of ``rows`` (B,), -1 where there are fewer; the first of each row, or the ``newest``."""
        low, high = self.starts[rows], self.starts[rows + 1]
        at = high[:, None] + np.arange(-length, 0) if newest else low[:, None] + np.arange(length)
        there = (at >= low[:, None]) & (at < high[:, None])
        if not len(self.codes):
            return np.full(there.shape, -1, dtype=np.int32)
        found: Codes = np.where(there, self.codes[np.clip(at, 0, len(self.codes) - 1)], np.int32(-1))
        return found


@dataclass(frozen=True, eq=False)
class Attributes:
    """One row per user or item: the raw ``key`` and what is known of it; ``doubles``: rows of a key that had one."""

    frame: pl.DataFrame  # with a column "key"
    columns: dict[str, Column]
    doubles: int = 0


@dataclass(frozen=True, eq=False)
class Interactions:
    """One interaction a row, cleaned. The order of rows says nothing.

    Attributes:
        name: of the dataset. size: n, its number of rows.
        keys: ``user``, ``item``, ``basket`` and ``domain``, as far as there are any.
        time: (n,) float64 days since 1970; without ``clock`` a place in an order of each user's own.
        split: (n,) int8 of an official split: 0 train, 1 validation, 2 test, -1 unused.
        event: (n,) uint8, a bit for each of ``behaviours`` (or 1) where the row belongs to a history.
        weight: (n,) positive float32.
        codes: (n, F) int32 raw ids of the columns ``ids``, whose keys are in ``id_keys``.
        values: (n, M) float32 of the columns ``numbers``, NaN where missing.
        answers: (n, T) float32 of the ``labels`` of kind binary and number, NaN where missing; a ``category`` is in
            ``codes``.
        lists, vectors: other columns. texts: (n, L) int32 buckets of words from 1, 0 where there are fewer.
        columns: what the features mean. ``labels``: column -> kind.
        users, items: attributes.
        unique: a pair of user and item is in one row only, so what a user has seen is no answer.
        refused: reason -> rows that were dropped. notes: what a reader of the data card should know.
        stamps: what is not leak-free and why, such as a filter that looked at all rows.
        kept: (n,) bool, rows that a filter of the dataset left; none: all.
        folder: of the cache that the arrays are maps of.
    """

    name: str
    size: int
    keys: dict[str, Ids] = field(default_factory=dict)
    time: npt.NDArray[np.float64] | None = None
    clock: bool = True
    split: npt.NDArray[np.int8] | None = None
    event: npt.NDArray[np.uint8] | None = None
    behaviours: tuple[str, ...] = ()
    weight: Floats | None = None
    ids: tuple[str, ...] = ()
    id_keys: tuple[pl.Series, ...] = ()
    codes: Codes = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int32))
    numbers: tuple[str, ...] = ()
    values: Floats = field(default_factory=lambda: np.zeros((0, 0), dtype=np.float32))
    answers: Floats = field(default_factory=lambda: np.zeros((0, 0), dtype=np.float32))
    labels: dict[str, str] = field(default_factory=dict)
    lists: dict[str, Lists] = field(default_factory=dict)
    vectors: dict[str, Floats] = field(default_factory=dict)
    texts: dict[str, Codes] = field(default_factory=dict)
    columns: dict[str, Column] = field(default_factory=dict)
    users: Attributes | None = None
    items: Attributes | None = None
    unique: bool = False
    refused: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    stamps: tuple[str, ...] = ()
    kept: npt.NDArray[np.bool_] | None = None
    folder: Path | None = None

    def has(self, *names: str) -> bool:
        """Whether the rows say who, what, when, ...: any of user, item, basket, domain, time."""
        return all(name in self.keys or (name == "time" and self.time is not None) for name in names)

    @property
    def asked(self) -> tuple[str, ...]:
        """Labels that stand in ``answers``, in its order."""
        return tuple(name for name, kind in self.labels.items() if kind != "category")

    def column(self, name: str) -> Ids:
        """The ids of a feature or label column of kind ``id``."""
        at = self.ids.index(name)
        return Ids(np.ascontiguousarray(self.codes[:, at]), self.id_keys[at])


def in_order(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Sorted values (n,); polars sorts numbers two to four times as fast as numpy."""
    ordered: npt.NDArray[Any] = pl.Series(values).sort().to_numpy(writable=True)
    return ordered


def distinct(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Sorted distinct values (u,); numpy's unique hashes integers, which takes ten times as long as sorting them."""
    if not len(values):
        return values
    ordered = values if bool((values[1:] >= values[:-1]).all()) else in_order(values)
    found: npt.NDArray[Any] = ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])]
    return found


def code(values: pl.Series, keys: pl.Series) -> Codes:
    """Places of ``values`` in ``keys``, -1 where there is none."""
    lookup = pl.DataFrame({"key": keys, "code": np.arange(len(keys), dtype=np.int32)})
    found = pl.DataFrame({"key": values}).join(lookup, on="key", how="left", maintain_order="left")["code"]
    return found.fill_null(-1).to_numpy(writable=True)
