"""Columns of the dataset ``files``, batch by batch: values of one type in all files, dates, vectors, events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from graftrec.data.sources import value_parsers
from graftrec.data.sources.provenance import Raw, refuse
from graftrec.data.sources.timestamps import Clock
from graftrec.data.tables.interactions import Column, Floats, Ints
from graftrec.utils.errors import DataError

PARTS = {"train": 0, "val": 1, "valid": 1, "validation": 1, "dev": 1, "test": 2, "0": 0, "1": 1, "2": 2}
LATEST = 250_000_000_000.0  # seconds: the year 9892


@dataclass
class State:
    """What the batches of all files have in common, and what is counted over them.

    Args:
        clocks: of each column of times. widths: of vectors. types: of ids, and the file that had them first.
        refused: reason -> rows that were dropped. cut: column of lists -> rows that have too many values.
        long: column -> ids that are too long. low, high: first and last time, days.
        below: first row, and nanoseconds of it and those after it, of the batches that have such.
        homeless: why rows of the first batch are in no domain, where that is an attribute.
    """

    clocks: dict[str, Clock] = field(default_factory=dict)
    widths: dict[str, int] = field(default_factory=dict)
    types: dict[str, tuple[pl.DataType, str]] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    long: dict[str, int] = field(default_factory=dict)
    low: float = np.inf
    high: float = -np.inf
    below: list[tuple[int, Ints]] = field(default_factory=list)
    homeless: DataError | None = None


def ids(raw: Raw, column: str, whole: set[str], state: State) -> pl.Series:
    """Ids, of one type in all files."""
    return _one_type(raw, column, value_parsers.words(raw, column, column in whole), state)


def lists(raw: Raw, name: str, column: Column, whole: set[str], state: State) -> pl.Series:
    """Lists of ids, likewise."""
    return _one_type(raw, name, value_parsers.listed(raw, name, column.separator, name in whole), state)


def too_long(raw: Raw, column: str, separator: str = "") -> int:
    """How many ids of a column, or of its lists, are no ids since they are too long."""
    values = raw.frame[column]
    if values.dtype == pl.String and separator:  # only those that may hold a long one
        values = values.filter(values.str.len_bytes() > value_parsers.LONGEST).str.split(separator)
    if values.dtype.is_nested():
        values = values.explode(empty_as_null=False, keep_nulls=False)
    if (
        values.dtype != pl.String or not (values.str.len_bytes() > value_parsers.LONGEST).any()
    ):  # quicker than characters
        return 0
    return value_parsers.too_long(replace(raw, frame=pl.DataFrame({column: values})), column)


def _one_type(raw: Raw, column: str, values: pl.Series, state: State) -> pl.Series:
    """Ids of the type that the first file had; DataError if these are of another."""
    nested, dtype = values.dtype.is_nested(), getattr(values.dtype, "inner", values.dtype)
    plain = pl.Int64() if dtype.is_integer() and dtype != pl.UInt64 else dtype
    known, count = state.types.get(column), int(values.list.len().sum()) if nested else values.count()
    if known is not None and known[0] != plain:
        if count:
            raise DataError(
                "DATA-031",
                f"column '{column}' is {plain} in {raw.name}, {known[0]} in {known[1]}; write both as one type",
            )
        plain = known[0]
    elif known is None and count:
        state.types[column] = (plain, raw.name)
    return values if plain == dtype else values.cast(pl.List(plain) if nested else plain)


def number(raw: Raw, name: str, column: Column) -> pl.Series:
    """Numbers, filled, clipped and on a log scale as the column says."""
    values = value_parsers.number(raw, name).fill_nan(None)
    if column.fill is not None:
        values = values.fill_null(column.fill)
    if column.clip:
        values = values.clip(*column.clip)
    found: pl.Series = values.sign() * values.abs().log1p() if column.log else values
    return found


def text(raw: Raw, name: str) -> pl.Series:
    """Text of any length, null where empty."""
    values: pl.Series = raw.frame[name].cast(pl.String)
    return values.set(values == "", None)


def vectors(raw: Raw, name: str, column: Column, widths: dict[str, int], gaps: bool) -> tuple[Floats, pl.Series]:
    """Vectors (n, V) of one width in all batches, and which rows have one; zeros for the others if ``gaps`` may be."""
    values = raw.frame[name]
    if values.dtype != pl.String and not values.dtype.is_nested():
        return value_parsers.vector(raw, name), values.is_not_null()  # which says what is wrong
    empty = values.str.strip_chars() == "" if values.dtype == pl.String else values.list.len() == 0
    there: pl.Series = ~(values.is_null() | empty.fill_null(False))
    if gaps and not there.any():
        return np.zeros((len(values), widths.get(name, 0)), np.float32), there
    if gaps and not there.all():
        filled = pl.DataFrame({"v": values, "there": there}).select(
            pl.when("there").then("v").otherwise(pl.lit(values.filter(there).head(1)).first())
        )
        raw = replace(raw, frame=filled.select(pl.col("v").alias(name)))
    matrix = value_parsers.vector(raw, name, column.separator, widths.get(name, 0))
    widths[name] = matrix.shape[1]
    matrix[~there.to_numpy()] = 0.0
    return matrix, there


def date_parts(raw: Raw, name: str, column: Column, seconds: pl.Series, unit: str) -> dict[str, pl.Series]:
    """Ids (n,) of the parts of a date, null where there is none."""
    odd = (seconds.abs() >= LATEST).fill_null(False)
    refuse(raw, name, odd, "DATA-042", f"is no date in time_unit={unit}")
    moments = pl.DataFrame({"at": (seconds * 1e6).cast(pl.Int64).cast(pl.Datetime("us"))})
    return {
        f"{name}_{part}": moments.select(getattr(pl.col("at").dt, part)().cast(pl.Int32).alias("part"))["part"]
        for part in column.parts
    }


def split_of(raw: Raw, column: str) -> pl.Series:
    """0, 1 or 2 of train, val and test."""
    text = raw.frame[column].cast(pl.String).str.strip_chars().str.to_lowercase()
    text = text.set(text == "", None)
    found: pl.Series = text.replace_strict(PARTS, default=None, return_dtype=pl.Int8)
    refuse(raw, column, found.is_null() & text.is_not_null(), "DATA-045", "is none of train, val and test")
    return found


def events_of(values: Mapping[str, pl.Series], least: Mapping[str, float]) -> pl.Series:
    """A bit for each behaviour that a row shows."""
    bits = [
        (column.cast(pl.Float32) >= least[name]).fill_null(False).cast(pl.UInt8) * 2**at
        for at, (name, column) in enumerate(values.items())
    ]
    total = bits[0]
    for more in bits[1:]:
        total = total + more
    found: pl.Series = total.cast(pl.UInt8)
    return found
