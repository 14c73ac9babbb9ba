"""From frames of typed columns to `Interactions`, batch by batch, so that memory does not grow with the rows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from graftrec.data.tables.interactions import Attributes, Codes, Column, Floats, Ids, Interactions, Lists, code
from graftrec.utils.seeds import hashes

ROLES = ("user", "item", "basket", "domain")
WORDS = 10_000  # buckets of a text


@dataclass(frozen=True)
class Shape:
    """Which columns a frame has: ``keys`` of `ROLES`, ``time``, ``split``, ``event``, ``weight``, features, labels.

    A ``date`` feature has become ids of its parts, named ``<column>_<part>``.
    """

    keys: tuple[str, ...] = ()
    time: bool = False
    split: bool = False
    event: bool = False
    weight: bool = False
    columns: dict[str, Column] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)

    def of_kind(self, *kinds: str) -> list[str]:
        """Names of the features of these kinds."""
        return [name for name, column in self.columns.items() if column.kind in kinds]

    @property
    def ids(self) -> list[str]:
        """Columns of the matrix of codes: id features, then category labels that are no feature."""
        features = self.of_kind("id")
        return features + [n for n, kind in self.labels.items() if kind == "category" and n not in features]


class Growing:
    """An array that grows by blocks of rows: in memory, or in a file that ends up as a memory map."""

    def __init__(self, name: str, folder: Path | None) -> None:
        self._path = None if folder is None else folder / f"{name}.bin"
        self._parts: list[npt.NDArray[Any]] = []
        self._shape: tuple[int, ...] = ()
        self._rows = 0
        self._dtype: np.dtype[Any] = np.dtype(np.float32)
        self._file = None if self._path is None else open(self._path, "wb")  # noqa: SIM115 (closed in done)

    def add(self, block: npt.NDArray[Any]) -> None:
        """Append rows."""
        self._rows, self._shape, self._dtype = self._rows + len(block), block.shape[1:], block.dtype
        if self._file is None:
            self._parts.append(block)
        else:
            self._file.write(np.ascontiguousarray(block).data)

    def done(self) -> npt.NDArray[Any]:
        """All rows."""
        self.close()
        if self._path is None:
            return self._parts[0] if len(self._parts) == 1 else np.concatenate(self._parts)
        return mapped(self._path, self._dtype, (self._rows, *self._shape))

    def close(self) -> None:
        """Close the file; nothing can be added then."""
        if self._file is not None:
            self._file.close()


def mapped(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """A file as an array, copy on write, so that torch may hold it; an empty one cannot be mapped."""
    if 0 in shape:
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype=dtype, mode="c", shape=shape)


def blocks(values: npt.NDArray[Any], rows: int) -> Iterator[npt.NDArray[Any]]:
    """An array in blocks of rows; a memory map is read from its file, since its pages would count as memory."""
    for start in range(0, len(values), rows):
        if isinstance(values, np.memmap):
            count = min(rows, len(values) - start)
            wide = int(np.prod(values.shape[1:], dtype=np.int64))
            offset = start * wide * values.dtype.itemsize
            yield np.fromfile(str(values.filename), values.dtype, count * wide, offset=offset).reshape(
                count, *values.shape[1:]
            )
        else:
            yield values[start : start + rows]


def picked(values: npt.NDArray[Any], rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """A few thousand rows of an array; of a memory map without the pages around them, which would count as memory."""
    if not isinstance(values, np.memmap):
        return values[rows]
    size = int(np.prod(values.shape[1:], dtype=np.int64)) * values.dtype.itemsize
    with open(str(values.filename), "rb", buffering=0) as file:
        raw = b"".join(os.pread(file.fileno(), size, int(row) * size) for row in rows)
    return np.frombuffer(bytearray(raw), values.dtype).reshape(len(rows), *values.shape[1:])


class Encoder:
    """Codes for the ids of one column, given as they come; ``keys`` in the order of first sight."""

    def __init__(self) -> None:
        self.keys: pl.Series | None = None

    def __call__(self, values: pl.Series) -> npt.NDArray[np.int32]:
        """Codes (n,) of a further block of values."""
        distinct = values.drop_nulls().unique()
        if self.keys is None or not len(self.keys):  # nulls alone say nothing of the type
            self.keys = distinct.sort()
        else:
            new = distinct.filter(~distinct.is_in(self.keys.implode()))
            self.keys = self.keys.append(new.sort()) if len(new) else self.keys
        return code(values, self.keys)


class Builder:
    """Takes frames, gives `Interactions`.

    Args:
        shape: of every frame. folder: where arrays are written, to be memory maps in the end; none: in memory.
    """

    def __init__(self, shape: Shape, folder: Path | None = None) -> None:
        self.shape = shape
        self._folder = folder
        self._coders = {name: Encoder() for name in (*shape.keys, *shape.ids, *shape.of_kind("ids", "history"))}
        self._grown: dict[str, Growing] = {}
        self.size = 0

    def add(self, frame: pl.DataFrame, vectors: Mapping[str, Floats] | None = None) -> None:
        """Append rows; ``vectors`` holds the columns of that kind, (n, V) float32."""
        shape = self.shape
        for role in shape.keys:
            self._grow(f"key_{role}", self._coders[role](frame[role]))
        for name, there, dtype in (
            ("time", shape.time, np.float64),
            ("split", shape.split, np.int8),
            ("event", shape.event, np.uint8),
            ("weight", shape.weight, np.float32),
        ):
            if there:
                self._grow(name, frame[name].to_numpy().astype(dtype))
        if shape.ids:
            self._grow("codes", _side_by_side([self._coders[name](frame[name]) for name in shape.ids], np.int32))
        numbers = shape.of_kind("number")
        if numbers:
            self._grow("values", _side_by_side([_floats(frame[name]) for name in numbers], np.float32))
        labels = [name for name, kind in shape.labels.items() if kind != "category"]
        if labels:
            self._grow("answers", _side_by_side([_floats(frame[name]) for name in labels], np.float32))
        for at, name in enumerate(shape.of_kind("ids", "history")):  # a number: a column may have any name
            self._grow(f"sizes_{at}", frame[name].list.len().fill_null(0).to_numpy().astype(np.int64))
            flat = frame[name].explode(empty_as_null=False, keep_nulls=False)
            self._grow(f"list_{at}", self._coders[name](flat))
        for at, name in enumerate(shape.of_kind("text")):
            self._grow(f"texts_{at}", hashed(frame[name], shape.columns[name]))
        for at, name in enumerate(shape.of_kind("vector")):
            self._grow(f"vectors_{at}", (vectors or {})[name])
        self.size += len(frame)

    def close(self) -> None:
        """Close all files, also of a table that is given up."""
        for growing in self._grown.values():
            growing.close()

    def _grow(self, name: str, block: npt.NDArray[Any]) -> None:
        if name not in self._grown:  # and only then: opening a file empties it
            self._grown[name] = Growing(name, self._folder)
        self._grown[name].add(block)

    def done(self, name: str, **more: Any) -> Interactions:
        """Everything that was added; ``more`` are further fields of `Interactions`."""
        shape = self.shape
        found = {key: growing.done() for key, growing in self._grown.items()}
        return Interactions(
            name=name,
            size=self.size,
            keys={role: Ids(found[f"key_{role}"], self._keys(role)) for role in shape.keys},
            time=found.get("time"),
            split=found.get("split"),
            event=found.get("event"),
            weight=found.get("weight"),
            ids=tuple(shape.ids),
            id_keys=tuple(self._keys(column) for column in shape.ids),
            codes=found.get("codes", np.zeros((self.size, 0), np.int32)),
            numbers=tuple(shape.of_kind("number")),
            values=found.get("values", np.zeros((self.size, 0), np.float32)),
            answers=found.get("answers", np.zeros((self.size, 0), np.float32)),
            labels=dict(shape.labels),
            lists={
                column: Lists(
                    np.concatenate([[0], np.cumsum(found[f"sizes_{at}"])]), found[f"list_{at}"], self._keys(column)
                )
                for at, column in enumerate(shape.of_kind("ids", "history"))
            },
            vectors={column: found[f"vectors_{at}"] for at, column in enumerate(shape.of_kind("vector"))},
            texts={column: found[f"texts_{at}"] for at, column in enumerate(shape.of_kind("text"))},
            columns=dict(shape.columns),
            **more,
        )

    def _keys(self, name: str) -> pl.Series:
        keys = self._coders[name].keys
        return pl.Series([], dtype=pl.String) if keys is None else keys


def interactions(
    name: str,
    rows: pl.DataFrame,
    columns: Mapping[str, Column] | None = None,
    labels: Mapping[str, str] | None = None,
    users: pl.DataFrame | None = None,
    items: pl.DataFrame | None = None,
    user_columns: Mapping[str, Column] | None = None,
    item_columns: Mapping[str, Column] | None = None,
    **more: Any,
) -> Interactions:
    """`Interactions` of one frame in memory.

    Args:
        name: of the dataset.
        rows: columns ``user``, ``item``, ``basket``, ``domain``, ``time`` (days), ``split`` (0, 1, 2, -1), ``event``
            and ``weight`` as far as there are any, and every feature and label.
        columns, labels: what the others mean.
        users, items: attributes, keyed by a column ``user`` or ``item``.
        user_columns, item_columns: what they mean; without them all of a frame's columns are ids.
        more: further fields of `Interactions`.
    """
    there = set(rows.columns)
    shape = Shape(
        tuple(role for role in ROLES if role in there),
        *("time" in there, "split" in there, "event" in there, "weight" in there),
        columns=dict(columns or {}),
        labels=dict(labels or {}),
    )
    builder = Builder(shape)
    builder.add(rows)
    known = {"user": (users, user_columns), "item": (items, item_columns)}
    for key, (frame, meanings) in known.items():
        if frame is not None:
            more[f"{key}s"] = attributes(frame, key, meanings)
    return builder.done(name, **more)


def attributes(frame: pl.DataFrame, key: str, columns: Mapping[str, Column] | None = None) -> Attributes:
    """Attributes from a frame keyed by ``key``, of which the first row of each is kept; all are ids if not said."""
    named = dict(columns) if columns is not None else {n: Column("id") for n in frame.columns if n != key}
    frame = frame.drop_nulls(key)
    first = frame.unique(key, keep="first", maintain_order=True)
    return Attributes(first.select(pl.col(key).alias("key"), *named), named, len(frame) - len(first))


def hashed(values: pl.Series, column: Column) -> Codes:
    """Words of texts (n,) as buckets (n, L) from 1, 0 where there are fewer; no vocabulary is fitted, so none leaks."""
    words = values.cast(pl.String).str.to_lowercase().str.extract_all(r"\w+").list.head(column.length)
    lists = Lists.of(words)
    buckets = (hashes(lists.keys) % np.uint64(column.buckets or WORDS)).astype(np.int32)
    codes = lists.padded(np.arange(len(values)), column.length)
    found: Codes = np.concatenate([buckets + 1, np.zeros(1, np.int32)])[codes]
    return found


def _floats(values: pl.Series) -> Floats:
    found: Floats = values.cast(pl.Float32).fill_null(np.nan).to_numpy()
    return found


def _side_by_side(columns: list[npt.NDArray[Any]], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Columns as one matrix (n, columns) in row order."""
    found = np.empty((len(columns[0]), len(columns)), dtype)
    for at, column in enumerate(columns):
        found[:, at] = column
    return found
