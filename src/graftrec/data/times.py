"""Moments from what stands in a column: dates, text, or numbers of a unit."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from graftrec.data.raw import SHOWN, Raw, raise_rows, refuse, shown
from graftrec.errors import DataError

ZONE = r"(\d[zZ]|:\d{2}(\.\d+)?\s*([+-]\d{2}(:?\d{2})?|UTC|GMT))$"  # how a text with a time zone ends
APART = 100.0  # times of one unit differ by less: 1e9 seconds are 2001, 1e11 are the year 5138


@dataclass
class Clock:
    """What the times of a column were so far, so that a later batch that disagrees is told.

    Args:
        low, high: the smallest and largest positive number. kind: ``number`` or ``date``. zoned: whether a text names
        its time zone. place: of the first value.
    """

    low: float = float("inf")
    high: float = 0.0
    kind: str = ""
    zoned: bool | None = None
    place: str = ""


def seconds(raw: Raw, column: str, unit: float, clock: Clock | None = None) -> pl.Series:
    """A time as float64 seconds since 1970, null where empty: a date, or a number of ``unit`` seconds.

    Args:
        clock: what came before, of batches of one column; it is brought up to date.

    Raises:
        DataError: values that are no time, numbers of two units, times with and without a zone, with their rows.
    """
    clock = Clock() if clock is None else clock
    values: pl.Series = raw.frame[column]
    dtype = values.dtype
    if dtype == pl.String:
        return _text(raw, column, unit, clock)
    if dtype == pl.Date or isinstance(dtype, pl.Datetime):
        return _since_1970(values)
    if not (dtype.is_numeric() or dtype == pl.Null):
        raise DataError("DATA-042", f"{raw.name}: column '{column}' is {dtype}, no time")
    return _number(raw, column, values.cast(pl.Float64), unit, clock)


def check_units(low: float, high: float, column: str, where: str = "") -> None:
    """Refuse numbers of two units in one column, given its smallest and largest positive number.

    Raises:
        DataError: ``high`` is so much larger than ``low`` that they cannot both be seconds or milliseconds.
    """
    if _are_apart(low, high):
        small, large = f"{low:.0f}", f"{high:.0f}"
        raise DataError(
            "DATA-041",
            f"{where}{column}: two units in one column ({len(small)} and {len(large)} digits: {small} and {large}); "
            "write all times in one",
        )


def _are_apart(low: float, high: float) -> bool:
    return high > 1e11 and high > APART * low


def _number(raw: Raw, column: str, found: pl.Series, unit: float, clock: Clock) -> pl.Series:
    size = found.set(~(found.is_finite() & (found > 0)).fill_null(False), None)
    low, high = size.quantile(0.01), size.max()  # a few stray small numbers are no unit of their own
    if isinstance(low, float) and isinstance(high, float):
        _agree(raw, column, found.is_not_null(), "number", clock)
        small, large = min(clock.low, low), max(clock.high, high)
        if _are_apart(small, large):
            middle = (small * large) ** 0.5
            above, below = size > middle, size < middle
            is_low = small < clock.low if clock.high else int(below.sum()) < int(above.sum())  # the new, or the fewer
            check_units(small, large, column, f"{raw.place((below if is_low else above).arg_true()[0])}  ")
        clock.low, clock.high = small, large
    scaled: pl.Series = found.fill_nan(None) * unit
    return scaled


def _text(raw: Raw, column: str, unit: float, clock: Clock) -> pl.Series:
    values = raw.frame[column]
    values = values.set(values == "", None)
    there = values.is_not_null()
    numeric = values.cast(pl.Float64, strict=False)
    numbers = numeric.count()
    if clock.kind == "number" or (clock.kind != "date" and 2 * numbers >= values.count()):
        refuse(raw, column, numeric.is_null() & there, "DATA-042", "is no time, others are numbers")
        return _number(raw, column, numeric, unit, clock)
    zoned = values.str.contains(ZONE).fill_null(False)
    _same_zone(raw, column, zoned, there, clock)
    dates = values.str.to_datetime(strict=False, time_unit="ms", time_zone="UTC", ambiguous="earliest")
    refuse(raw, column, dates.is_null() & there, "DATA-042", "is no date")
    _agree(raw, column, there, "date", clock)
    return _since_1970(dates)


def _since_1970(values: pl.Series) -> pl.Series:
    stamps: pl.Series = values.dt.epoch("ms") / 1000.0
    return stamps


def _agree(raw: Raw, column: str, there: pl.Series, kind: str, clock: Clock) -> None:
    """Numbers or dates, as before."""
    if clock.kind and clock.kind != kind:
        at = there.arg_true()[0]
        value = shown(raw.frame[column][at])
        raise DataError("DATA-042", f"{raw.place(at)}  {column}: {value} is a {kind}, {clock.place} is a {clock.kind}")
    if not clock.kind:
        clock.kind, clock.place = kind, raw.place(there.arg_true()[0])


def _same_zone(raw: Raw, column: str, zoned: pl.Series, there: pl.Series, clock: Clock) -> None:
    """DataError for the fewer of the times with and without a zone, or for those unlike what came before."""
    plain = there & ~zoned
    if not there.any():
        return
    if clock.zoned is None:
        clock.zoned = int(zoned.sum()) >= int(plain.sum())
    wrong = plain if clock.zoned else zoned
    said = ("has no time zone", "one") if clock.zoned else ("has a time zone", "none")
    problems = [
        DataError(
            "DATA-043",
            f"{raw.place(row)}  {column}: {shown(raw.frame[column][row])} {said[0]}, others have {said[1]}; "
            "write all times in UTC",
        )
        for row in wrong.arg_true().head(SHOWN)
    ]
    if problems:
        raise_rows(problems, int(wrong.sum()), f"{column}: ")
