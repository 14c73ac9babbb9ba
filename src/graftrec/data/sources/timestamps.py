"""Moments from what stands in a column: dates, text, or numbers of a unit."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from graftrec.data.sources.provenance import SHOWN, Raw, raise_rows, refuse, shown
from graftrec.data.tables.interactions import DAY
from graftrec.utils.errors import DataError

UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "days": DAY, "order": DAY}
ZONE = r"(\d[zZ]|:\d{2}(\.\d+)?\s*([+-]\d{2}(:?\d{2})?|UTC|GMT))$"  # how a text with a time zone ends
APART = 100.0  # times of one unit differ by less: 1e9 seconds are 2001, 1e11 are the year 5138
DAY_FIRST = r"^\s*(\d{1,2})[/.-]\d{1,2}[/.-]\d{4}"
MONTH_FIRST = r"^\s*(0?[1-9]|1[0-2])[/.-]\d{1,2}[/.-]\d{4}"
DIGITS = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}  # of dates that are written as whole numbers
YEARS = (1900, 2100)
OURS = (-2.2e9, 4.2e9)  # their seconds
NORMAL = 1 << 52  # the bits of the smallest normal float64


@dataclass
class Clock:
    """What the times of a column were so far, so that a later batch that disagrees is told.

    Args:
        low, high: the smallest and largest positive number. kind: ``number`` or ``date``. zoned: whether a text names
        its time zone. place: of the first value. day_first: the first date such as 01/02/2020, which is read as the
        1st of February; ``sure``: whether one of them can be read in no other way.
    """

    low: float = float("inf")
    high: float = 0.0
    kind: str = ""
    zoned: bool | None = None
    place: str = ""
    day_first: str = ""
    sure: bool = False

    def notes(self, column: str) -> list[str]:
        """What was guessed and may be wrong."""
        if not self.day_first or self.sure:
            return []
        return [
            f"{column}: dates such as {self.day_first} are read with the day first, and none says so; where it is the "
            "month, set dataset.time_format=%m/%d/%Y"
        ]


@dataclass(frozen=True, eq=False)
class Moments:
    """Times as float64 ``seconds`` since 1970, which tell microseconds apart, null where empty.

    Args:
        below: nanoseconds below the microsecond, [0, 1000) int64; none: all 0.
    """

    seconds: pl.Series
    below: pl.Series | None = None


def seconds(raw: Raw, column: str, unit: str = "s", clock: Clock | None = None, format: str = "") -> pl.Series:
    """`moments` in seconds since 1970, which tell microseconds apart."""
    return moments(raw, column, unit, clock, format).seconds


def moments(raw: Raw, column: str, unit: str = "s", clock: Clock | None = None, format: str = "") -> Moments:
    """Times of a column: dates, text, or numbers of a ``unit``, see `UNITS`.

    Args:
        clock: what came before, of batches of one column; it is brought up to date.
        format: how dates are written as text or as whole numbers, in the words of ``strptime``; empty: ISO 8601, or the
            day before the month.

    Raises:
        DataError: values that are no time, numbers of two units, times with and without a zone, with their rows.
    """
    clock = Clock() if clock is None else clock
    values: pl.Series = raw.frame[column]
    dtype = values.dtype
    if dtype == pl.Date or isinstance(dtype, pl.Datetime):
        return _since_1970(values)
    if format and (dtype == pl.String or dtype.is_numeric()):
        return _formatted(raw, column, format)
    if dtype == pl.String:
        return _text(raw, column, unit, clock)
    if not (dtype.is_numeric() or dtype == pl.Null):
        raise DataError("DATA-042", f"{raw.name}: column '{column}' is {dtype}, no time")
    return _number(raw, column, values, unit, clock)


def written(values: pl.Series) -> str:
    """The format of whole numbers (n,) that are dates written without a sign between, such as 20200131; else empty."""
    values = values.drop_nulls()
    if not len(values):
        return ""
    low, high = int(values.min()), int(values.max())  # type: ignore[arg-type]  # integers
    for digits, format in DIGITS.items():
        least, most = (year * 10 ** (digits - 4) for year in YEARS)
        if least < low and high < most and parsed(values.cast(pl.String), format).null_count() == 0:
            return format
    return ""


def plausible(low: float, high: float) -> bool:
    """Whether the first and the last of some moments, in seconds since 1970, may be of people who use computers.

    Numbers of a unit that is too large lie all within some months of 1970.
    """
    return OURS[0] <= low and high <= OURS[1] and max(-low, high) > 1e8


def parsed(texts: pl.Series, format: str) -> pl.Series:
    """Moments of texts, UTC in microseconds, null where a text is not of the format."""
    format = format.replace(".%f", "%.f")  # Python's name for what chrono writes so
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: pl.Series = texts.str.to_datetime(
            format, strict=False, time_unit="us", time_zone="UTC", ambiguous="earliest"
        )
    return found


def wrong_format(format: str) -> str:
    """Why ``format`` cannot be read with, or nothing."""
    if "%" not in format:
        return "has no %"
    try:
        parsed(pl.Series(["2020-01-01"]), format)
    except pl.exceptions.PolarsError as error:
        return f"cannot be read with ({str(error).splitlines()[0]})"
    return ""


def told_apart(days: npt.NDArray[np.float64], below: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Days (n,) of which no two are equal unless their nanoseconds are.

    A float64 of days since 1970 tells 0.3 microseconds apart. Later moments of the same float go to the next ones, so
    that their order is kept; what they are moved by is less than what a float can say.

    Args:
        below: (n,) nanoseconds below the microsecond that is nearest to ``days``.
    """
    whole = np.rint(days * (DAY * 1e6)).astype(np.int64)
    distinct, of_row = np.unique(whole * 1000 + below, return_inverse=True)
    nearest = np.empty(len(distinct))
    nearest[of_row] = days  # equal ones are of one float
    bits = nearest.view(np.int64)
    bits = np.where(bits < 0, np.iinfo(np.int64).min - bits, bits)  # in the order of the numbers, also below 0
    place = np.arange(len(bits))
    bits = np.maximum.accumulate(bits - place) + place
    bits[(bits > 0) & (bits < NORMAL)] += NORMAL  # beside 1970 itself: training has numbers below the normal ones be 0
    bits = np.where(bits < 0, np.iinfo(np.int64).min - bits, bits)
    found: npt.NDArray[np.float64] = bits.view(np.float64)[of_row]
    return found


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


def _number(raw: Raw, column: str, values: pl.Series, unit: str, clock: Clock) -> Moments:
    found = values.cast(pl.Float64)
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
    whole = _whole(values, found)
    if unit != "order" and whole is not None:
        _refuse_written(raw, column, whole, unit)
    if unit == "ns" and whole is not None:
        microseconds = whole // 1000
        return Moments(microseconds / 1e6, whole - microseconds * 1000)
    scale = UNITS[unit]
    found = found.fill_nan(None)
    return Moments(found * scale if scale >= 1 else found / round(1 / scale))


def _whole(values: pl.Series, found: pl.Series) -> pl.Series | None:
    """The same numbers as exact integers, if they are such."""
    if values.dtype.is_float():
        values = values.fill_nan(None)
        if not bool((values.floor() == values).all()):
            return None
    whole: pl.Series = values.cast(pl.Int64, strict=False)
    return whole if whole.null_count() == found.fill_nan(None).null_count() else None


def _refuse_written(raw: Raw, column: str, whole: pl.Series, unit: str) -> None:
    """DataError where numbers of a unit are dates that are written as numbers."""
    format = written(whole)
    if format:
        at = whole.is_not_null().arg_true()[0]
        raise DataError(
            "DATA-042",
            f"{raw.place(at)}  {column}: {whole[at]} is a date as {format} writes it, not so many {unit} since 1970; "
            f"set dataset.time_format={format} (a date feature: format: '{format}')",
        )


def _text(raw: Raw, column: str, unit: str, clock: Clock) -> Moments:
    values = raw.frame[column]
    values = values.set(values == "", None)
    there = values.is_not_null()
    numeric = values.cast(pl.Float64, strict=False)
    numbers = numeric.count()
    if clock.kind == "number" or (clock.kind != "date" and 2 * numbers >= values.count()):
        refuse(raw, column, numeric.is_null() & there, "DATA-042", "is no time, others are numbers")
        whole = values.cast(pl.Int64, strict=False)
        exact = whole.null_count() == numeric.null_count()
        return _number(raw, column, whole if exact else numeric, unit, clock)
    zoned = values.str.contains(ZONE).fill_null(False)
    _same_zone(raw, column, zoned, there, clock)
    dates = values.str.replace(r"\s*(UTC|GMT)$", "Z").str.to_datetime(
        strict=False, time_unit="us", time_zone="UTC", ambiguous="earliest"
    )
    wrong = dates.is_null() & there
    month_first = bool(values.filter(there).str.contains(MONTH_FIRST).all())
    also = " with the day first; where it is the month, set dataset.time_format=%m/%d/%Y" if month_first else ""
    refuse(raw, column, wrong, "DATA-042", f"is no date{also}")
    _agree(raw, column, there, "date", clock)
    days = values.str.extract(DAY_FIRST).cast(pl.Int64)
    if days.count():
        clock.day_first = clock.day_first or shown(values[days.is_not_null().arg_true()[0]])
        clock.sure = clock.sure or bool((days > 12).any())
    below = values.str.extract(r"[.,]\d{6}(\d{1,3})\d*").str.pad_end(3, "0").cast(pl.Int64)
    return Moments(_since_1970(dates).seconds, below.fill_null(0) if below.count() else None)


def _formatted(raw: Raw, column: str, format: str) -> Moments:
    values = raw.frame[column]
    if values.dtype.is_float():  # whole numbers with a gap among them
        values = values.fill_nan(None).cast(pl.Int64, strict=False)
    texts = values.cast(pl.String).str.strip_chars()
    texts = texts.set(texts == "", None)
    found = parsed(texts, format)
    refuse(raw, column, found.is_null() & texts.is_not_null(), "DATA-042", f"is no date of the format {format}")
    return _since_1970(found)


def _since_1970(values: pl.Series) -> Moments:
    stamps: pl.Series = values.dt.epoch("us") / 1e6
    if getattr(values.dtype, "time_unit", "") != "ns":
        return Moments(stamps)
    below = values.dt.epoch("ns") - values.dt.epoch("us") * 1000
    return Moments(stamps, below if bool((below != 0).any()) else None)


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
