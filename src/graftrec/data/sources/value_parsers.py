"""What the values of a column are: numbers, labels, ids, lists of ids, vectors, weights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from graftrec.data.sources.provenance import Raw, refuse
from graftrec.utils.errors import DataError

LONGEST = 1_000  # characters of an id; a longer one is no id and becomes null
EXACT = float(2**63)  # integers from here on do not fit
DIGITS = 18  # decimals of so many do
WORDS = {"true": "1", "yes": "1", "false": "0", "no": "0"}


def number(raw: Raw, column: str) -> pl.Series:
    """A column as float32, null where empty.

    Raises:
        DataError: values that are no finite numbers, with their rows.
    """
    values = _empty_is_null(raw.frame[column])
    found = _float32(values)
    wrong = (found.is_null() & values.is_not_null()) | found.is_infinite().fill_null(False)
    refuse(raw, column, wrong, "DATA-002", "is no finite number")
    return found


def binary(raw: Raw, column: str) -> pl.Series:
    """A label as float32, null where empty or not a number: 0 and 1, true and false, yes and no.

    Raises:
        DataError: anything else, with its rows.
    """
    values: pl.Series = raw.frame[column]
    if values.dtype == pl.String:
        values = values.str.strip_chars().str.to_lowercase()
        values = values.set(values.is_in(["", "nan"]), None)
        found = _float32(values)
        if found.null_count() > values.null_count():
            found = _float32(values.replace(WORDS))
    else:
        values = values.fill_nan(None) if values.dtype.is_float() else values
        found = _float32(values)
    wrong = values.is_not_null() & ~((found == 0) | (found == 1)).fill_null(False)
    refuse(raw, column, wrong, "TASK-003", "is neither 0 nor 1")
    return found


def weight(raw: Raw, column: str) -> pl.Series:
    """How much a row counts, as float32.

    Raises:
        DataError: values that are no positive finite numbers, with their rows.
    """
    found = _float32(raw.frame[column])
    right = found.is_finite() & (found > 0)
    refuse(raw, column, ~right.fill_null(False), "DATA-034", "is no weight: a positive, finite number is needed")
    return found


def words(raw: Raw, column: str, whole: bool | None = None) -> pl.Series:
    """Ids exactly as they stand: text stays text, integers stay integers; null where empty or longer than `LONGEST`.

    Floats become integers if all of them are whole, else text; `table_reader.whole` says which holds for a file.

    Args:
        whole: whether all floats of the column are whole numbers; None: whether those of these rows are.

    Raises:
        DataError: values that are no ids.
    """
    values: pl.Series = raw.frame[column]
    if values.dtype.is_nested():
        raise DataError("DATA-032", f"{raw.name}: column '{column}' is {values.dtype}: one value a row is read")
    if values.dtype == pl.String:
        values = _empty_is_null(values)
        if (values.str.len_bytes() > LONGEST).any():  # quicker than to count characters
            values = values.set(values.str.len_chars() > LONGEST, None)
        return values
    return _exact(values, whole)


def too_long(raw: Raw, column: str) -> int:
    """How many texts of a column are longer than `LONGEST` characters, which `words` makes null."""
    values: pl.Series = raw.frame[column]
    return int((values.str.len_chars() > LONGEST).sum()) if values.dtype == pl.String else 0


def listed(raw: Raw, column: str, separator: str = " ", whole: bool | None = None) -> pl.Series:
    """Lists of ids, as `words` reads them: a column of lists, or text that is split; empty where there is none.

    Elements that are empty or longer than `LONGEST` are left out.
    """
    values: pl.Series = raw.frame[column]
    if values.dtype == pl.String:
        values = values.set(values == "", None).str.split(separator)
    elif not values.dtype.is_nested():  # one id a row
        values = words(raw, column, whole).reshape((-1, 1)).arr.to_list()
    values = values.fill_null([])
    flat = values.explode(empty_as_null=False, keep_nulls=False)
    if flat.dtype == pl.String:
        sizes = flat.str.len_bytes()
        if not sizes.is_between(1, LONGEST).fill_null(False).all():
            kept = pl.element().str.len_chars().is_between(1, LONGEST)
            values = values.list.eval(pl.element().filter(kept.fill_null(False)))
        return values
    plain = _exact(flat, whole)
    if plain.dtype != flat.dtype:
        values = values.list.eval(pl.element().fill_nan(None)) if flat.dtype.is_float() else values
        values = values.cast(pl.List(plain.dtype))
    return values.list.drop_nulls() if plain.null_count() else values


def vector(raw: Raw, column: str, separator: str = " ", size: int = 0) -> npt.NDArray[np.float32]:
    """Numbers (n, V): a column of lists, or text that is split, with or without brackets.

    Args:
        size: V; 0: of most rows.

    Raises:
        DataError: rows of another length, or with a value that is no finite number.
    """
    values: pl.Series = raw.frame[column]
    if values.dtype == pl.String:
        values = values.str.strip_chars(" []()").str.split(separator)
        if separator.isspace():
            values = values.list.eval(pl.element().filter(pl.element() != ""))
    elif not isinstance(values.dtype, pl.List):
        raise DataError("DATA-033", f"{raw.name}: column '{column}' is {values.dtype}, no vector")
    lengths = values.list.len().fill_null(0)
    usual = size or int(lengths.mode().max() or 0)  # type: ignore[arg-type]  # an integer
    refuse(raw, column, (lengths != usual) | (lengths == 0), "DATA-033", f"is no vector of {usual or 'any'} numbers")
    flat = values.explode(empty_as_null=False, keep_nulls=False)
    numbers = _float32(flat.str.strip_chars() if flat.dtype == pl.String else flat)
    matrix = np.array(numbers.to_numpy(), np.float32).reshape(len(values), usual)  # one's own, to be written to
    finite = numbers.is_finite().fill_null(False)
    if not finite.all():
        rows = finite.to_numpy().reshape(len(values), usual).all(1)
        refuse(raw, column, pl.Series(~rows), "DATA-033", "has a value that is no finite number")
    return matrix


def are_whole(values: pl.Series) -> bool:
    """Whether floats, of lists or not, are all whole numbers that fit an integer; NaN is a missing one."""
    if values.dtype.is_nested():
        values = values.explode(empty_as_null=False, keep_nulls=False)
    values = values.fill_nan(None).drop_nulls()
    return bool(((values == values.floor()) & (values.abs() < EXACT)).all())


def _exact(values: pl.Series, whole: bool | None) -> pl.Series:
    """Integers as they are, floats as integers or text, anything else as text."""
    dtype = values.dtype
    if dtype.is_integer():
        return values
    if dtype.is_float():
        values = values.fill_nan(None)
        plain: pl.Series = values.cast(pl.Int64 if are_whole(values) and whole is not False else pl.String)
        return plain
    if isinstance(dtype, pl.Decimal) and dtype.scale == 0 and (dtype.precision or 38) <= DIGITS:
        integers: pl.Series = values.cast(pl.Int64)
        return integers
    text: pl.Series = values.cast(pl.String)
    return text


def _float32(values: pl.Series) -> pl.Series:
    """The nearest floats, null where a text is no number."""
    found: pl.Series = values.cast(pl.Float32, strict=False)
    return found


def _empty_is_null(values: pl.Series) -> pl.Series:
    return values.set(values == "", None) if values.dtype == pl.String else values
