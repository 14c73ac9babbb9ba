"""Attributes of users and items from files of their own, for `graftrec.data.datasets.files.Files`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import polars as pl

from graftrec.data.datasets import files_columns
from graftrec.data.sources import table_reader, value_parsers
from graftrec.data.sources.provenance import Raw
from graftrec.data.tables.builder import attributes
from graftrec.data.tables.interactions import Attributes, Column
from graftrec.utils.errors import DataError, UserError


def read(
    kind: str,
    path: str,
    key: str,
    columns: Mapping[str, Column] | None,
    known_after: Sequence[str],
    seconds: Callable[[Raw, str, str], pl.Series],
    time_unit: str,
) -> Attributes:
    """Attributes of the users or items (``kind``) in a file; None if it has no more than their names.

    Args:
        key: column that names them. columns: what the others mean; None: each but those of ``known_after`` is an id.
        seconds: moments of a column of dates of a format.

    Raises:
        UserError: no such key, or a column of a name that cannot be. DataError: values that do not fit their columns.
    """
    there = table_reader.columns(path)
    if key not in there:
        raise UserError(f"dataset.{kind}s: {path} has no column '{key}'; it has {', '.join(there)}")
    if columns is None:
        columns = {name: Column("id") for name in there if name not in (key, *known_after)}
    lists = [name for name, column in columns.items() if column.kind in ("ids", "vector")]
    raw = table_reader.read(path, [key, *columns], lists=lists)
    problems: list[DataError] = []
    found: dict[str, pl.Series] = {}
    for name, column in columns.items():
        try:
            found |= _attribute(raw, name, column, seconds, time_unit)
        except DataError as error:
            problems.append(error)
    DataError.raise_all(problems)
    if "key" in found:
        raise UserError(f"dataset.{kind}s: 'key' in {path} is a name that graftrec uses itself; rename the column")
    parts = {name: Column("id") for name in found if name not in columns}
    meanings = {name: column for name, column in columns.items() if column.kind != "date"} | parts
    own = f"{kind} of this file"  # no attribute is called so
    return attributes(pl.DataFrame({own: value_parsers.words(raw, key), **found}), own, meanings)


def _attribute(
    raw: Raw, name: str, column: Column, seconds: Callable[[Raw, str, str], pl.Series], time_unit: str
) -> dict[str, pl.Series]:
    """An attribute as `graftrec.data.features.attributes` takes it; a date becomes several."""
    if column.kind == "number":
        values = value_parsers.number(raw, name).fill_nan(None)
        return {name: values if column.fill is None else values.fill_null(column.fill)}
    if column.kind == "date":
        return files_columns.date_parts(raw, name, column, seconds(raw, name, column.format), time_unit)
    if column.kind == "vector":
        matrix, there = files_columns.vectors(raw, name, column, {}, True)
        rows = [vector if known else None for vector, known in zip(matrix.tolist(), there, strict=True)]
        return {name: pl.Series(rows, dtype=pl.List(pl.Float32))}
    if column.kind == "id":
        return {name: value_parsers.words(raw, name)}
    return {name: files_columns.text(raw, name) if column.kind == "text" or raw.text else raw.frame[name]}
