"""Parquet some columns and some rows at a time, with plain values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from graftrec.data.sources.provenance import Part, place
from graftrec.utils.errors import DataError

BYTES = 16 << 20  # that are decoded at a time, about
FEWEST = 1024  # rows
UNREADABLE = (
    pl.exceptions.PolarsError, pl.exceptions.PanicException, pa.ArrowException,
    NotImplementedError, TypeError, ValueError,
)  # fmt: skip
FAULTS = (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError)


def schema(name: str) -> pa.Schema:
    """Names and types of the columns.

    Raises:
        DataError: the file is damaged.
    """
    try:
        with _open(name) as file:
            found = file.schema_arrow
    except FAULTS as error:
        raise _damaged(name, error) from None
    twice = [column for column in dict.fromkeys(found.names) if found.names.count(column) > 1]
    if twice:
        raise DataError("DATA-005", f"{name}: column '{twice[0]}' appears {found.names.count(twice[0])} times")
    return found


def types(name: str, found: pa.Schema, columns: Sequence[str], lists: Sequence[str]) -> dict[str, pl.DataType]:
    """The types that the values of ``columns`` get.

    Raises:
        DataError: structs and maps, lists that are not named in ``lists``, and types that cannot be read; all at once.
    """
    kept: dict[str, pl.DataType] = {}
    problems = []
    for column in columns:
        field = found.field(column)
        try:
            if pa.types.is_nested(field.type) and "decimal256" in str(field.type):
                raise NotImplementedError("an empty table of it can be had, and its values end the process in Rust")
            frame = pl.from_arrow(pa.table({column: _as_text(pa.array([], field.type))}))
            kept[column] = _plain(frame[column].dtype) if isinstance(frame, pl.DataFrame) else pl.Null()
        except UNREADABLE:
            problems.append(DataError("DATA-032", f"{name}: column '{column}' is {field.type}, which cannot be read"))
            continue
        inner = getattr(kept[column], "inner", None)
        if kept[column].is_nested() and (column not in lists or inner is None or inner.is_nested()):
            what = "one list of plain values" if column in lists else "one value"
            problems.append(DataError("DATA-032", f"{name}: column '{column}' is {kept[column]}: {what} a row is read"))
    DataError.raise_all(problems)
    return kept


def pieces(name: str, kept: dict[str, pl.DataType], rows: int) -> Iterator[tuple[pl.DataFrame, Part, int]]:
    """Frames of the columns ``kept``, at most ``rows`` long, where their rows stand, and their bytes.

    Raises:
        DataError: a damaged page, with its row group and column; text that is not UTF-8.
    """
    first = 1
    try:
        with _open(name) as file:
            for batch in file.iter_batches(min(rows, _rows(file, len(kept))), columns=list(kept)):
                batch.validate(full=True)  # polars takes text for valid UTF-8 without looking
                part = Part(name, batch.num_rows, first)
                yield _frame(part, batch, kept), part, batch.nbytes
                first += batch.num_rows
    except FAULTS as error:
        raise _damaged(name, error, list(kept)) from None


def _open(name: str) -> Any:
    """Read as little as there is need for, and compare pages with their checksums where these are written."""
    return pq.ParquetFile(name, pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True)


def _rows(file: Any, columns: int) -> int:
    """How many rows are about `BYTES`; of all columns, as pyarrow 26 aborts where the size of one is damaged."""
    about = file.metadata
    size = sum(about.row_group(group).total_byte_size for group in range(about.num_row_groups))
    wide = max(8 * columns, int(size) // max(1, int(about.num_rows)), 1)
    return max(FEWEST, BYTES // wide)


def _frame(part: Part, batch: pa.RecordBatch, kept: dict[str, pl.DataType]) -> pl.DataFrame:
    found = {}
    for column, dtype in kept.items():
        given = batch.column(column)
        try:
            values = _as_text(given)
            if dtype == pl.String and _is_bytes(values.type):
                try:
                    values = values.cast(pa.string())
                except pa.ArrowInvalid:
                    raise _not_text(part, column, values.to_pylist()) from None
            series = pl.Series(column, pl.from_arrow(values))
            found[column] = series if series.dtype == dtype else series.cast(dtype)
        except UNREADABLE:
            raise DataError(
                "DATA-032", f"{part.name}: column '{column}' is {given.type}, which cannot be read"
            ) from None
    return pl.DataFrame(found)


def _as_text(values: pa.Array) -> pa.Array:
    """Types that polars has no values for as text: a UUID as 8-4-4-4-12, JSON as it stands, a decimal of 256 bits.

    Bytes of a fixed length are bytes like any others; a type of somebody's own is what it is stored as.
    """
    kind = values.type
    if isinstance(kind, pa.BaseExtensionType):
        values = values.storage
        if kind.extension_name == "arrow.uuid":
            digits = pl.Series(pl.from_arrow(values.cast(pa.binary()))).bin.encode("hex")
            parts = [digits.str.slice(start, size) for start, size in ((0, 8), (8, 4), (12, 4), (16, 4), (20, 12))]
            text = pl.DataFrame({str(at): part for at, part in enumerate(parts)})
            return text.select(pl.concat_str(pl.all(), separator="-"))[:, 0].to_arrow()
    if pa.types.is_decimal256(values.type):
        return values.cast(pa.string())
    return values.cast(pa.binary()) if pa.types.is_fixed_size_binary(values.type) else values


def _not_text(part: Part, column: str, values: list[bytes | None]) -> DataError:
    row, found = next((row, value) for row, value in enumerate(values) if value and not _is_utf8(value))
    return DataError("DATA-004", f"{place(part, row, False)}  {column}: {found[:20]!r} is not UTF-8")


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _plain(dtype: pl.DataType) -> pl.DataType:
    """The type of the values of a dictionary; bytes are text that was not marked as such; all lists are `List`."""
    if isinstance(dtype, (pl.List, pl.Array)):
        inner = dtype.inner
        return pl.List(_plain(inner() if isinstance(inner, type) else inner))
    return pl.String() if dtype in (pl.Categorical, pl.Enum, pl.Binary) else dtype


def _damaged(name: str, error: BaseException, columns: Sequence[str] = ()) -> DataError:
    if isinstance(error, PermissionError):
        return DataError("DATA-011", f"{name}: may not be read ({error.strerror})")
    why = (str(error).splitlines() or [type(error).__name__])[0][:160]
    size = Path(name).stat().st_size if Path(name).is_file() else 0
    where = _page(name, columns) if columns else ""
    return DataError("DATA-030", f"{name}{where}: damaged, or a download that stopped? {size:,} bytes ({why})")


def _page(name: str, columns: Sequence[str]) -> str:
    """The first row group and column that cannot be read on its own, if there is one."""
    try:
        with _open(name) as file:
            for group in range(file.num_row_groups):
                for column in columns:
                    try:
                        for batch in file.iter_batches(1 << 16, row_groups=[group], columns=[column]):
                            batch.validate(full=True)
                    except FAULTS:
                        return f", row group {group + 1} of {file.num_row_groups}, column '{column}'"
    except FAULTS:
        pass
    return ""
