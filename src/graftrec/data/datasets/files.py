"""Bring your own table."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import polars as pl

from graftrec.data import cache, readers, typed
from graftrec.data.clean import cored, deduplicated
from graftrec.data.datasets.base import Dataset
from graftrec.data.encode import Builder, Shape, attributes
from graftrec.data.raw import Raw, refuse
from graftrec.data.table import DAY, Attributes, Column, Floats, Interactions, LabelKind
from graftrec.data.times import Clock, seconds
from graftrec.errors import DataError, UserError

UNITS = {"s": 1.0, "ms": 1e-3, "days": DAY, "order": DAY}
PARTS = {"train": 0, "val": 1, "valid": 1, "validation": 1, "dev": 1, "test": 2, "0": 0, "1": 1, "2": 2}
ROWS = 200_000  # read at a time
CACHED = 32_000_000  # bytes of files, from which on a second start is worth a cache
TAKEN = {"user", "item", "time", "basket", "domain", "split", "event", "weight", "long", "recent", "candidate", "cross"}


class Files(Dataset):
    """CSV or Parquet files whose columns are named here; every other column is left out.

    Args:
        path: a file, a folder of Parquet, or a pattern such as ``data/*.csv.gz``, relative to the caller's folder.
        test, val: files of the same columns that make the official split, beside ``path``, which trains.
        user, item, time, basket: columns of who, what, when, and of what was chosen together (without it, the lines of
            one user and time are a basket); each may be absent, and protocols say what they need.
        domain: column that tells domains apart: of the rows, or an attribute of the items or users.
        split: column of the official split: train, val or test.
        weight: column of the rows' weights, positive.
        time_unit: of a numeric ``time``: ``s``, ``ms``, ``days``, or ``order`` where it only says what came first;
            dates need none.
        features: column -> kind, or a mapping with ``kind`` and options; see `Column`.
        labels: column -> ``binary``, ``number`` or ``category``.
        known_after: columns that are known only after the row's outcome, such as how long a video was watched: none of
            them can be a feature.
        events: label or number column -> least value at which the row belongs to the user's history and is something to
            rank; several are kinds of behaviour. Empty: every row is.
        users, items: files with one row per user or item, keyed by the column of the same name as in ``path``.
        user_features, item_features: their columns, as in ``features``; without them every column is an id.
        duplicates: ``keep``, or ``drop`` all but one row of a user, item and time (the one with the largest labels).
        k_core: least rows of every user and item that is kept, counted over all rows, which the data card says.
        unique: a user and item are together in one row only.
        name: of the dataset, for reports.
        cache: folder of the cache of large files ($GRAFTREC_CACHE or ~/.cache/graftrec); ``off``: none.
    """

    def __init__(
        self,
        path: str,
        test: str = "",
        val: str = "",
        user: str = "",
        item: str = "",
        time: str = "",
        basket: str = "",
        domain: str = "",
        split: str = "",
        weight: str = "",
        time_unit: str = "s",
        features: Mapping[str, Any] | None = None,
        labels: Mapping[str, LabelKind] | None = None,
        known_after: Sequence[str] = (),
        events: Mapping[str, float] | None = None,
        users: str = "",
        items: str = "",
        user_features: Mapping[str, Any] | None = None,
        item_features: Mapping[str, Any] | None = None,
        duplicates: Literal["keep", "drop"] = "keep",
        k_core: int = 0,
        unique: bool = False,
        name: str = "files",
        cache: str = "",
    ) -> None:
        if time_unit not in UNITS:
            raise ValueError(f"time_unit should be one of {', '.join(UNITS)}. Found {time_unit}.")
        if k_core < 0:
            raise ValueError(f"k_core should be at least 0. Found {k_core}.")
        self.paths = [(path, 0), *((more, at) for more, at in ((val, 1), (test, 2)) if more)]
        if split and len(self.paths) > 1:
            raise ValueError("split, a column, and val or test, files, say the same twice.")
        self.path, self.name, self.time_unit, self.unique = path, name, time_unit, unique
        named = {"user": user, "item": item, "time": time, "basket": basket, "domain": domain}
        named |= {"split": split, "weight": weight}
        self.keys = {role: column for role, column in named.items() if column}
        self.features = columns_of("features", features)
        self.labels = {column: str(kind) for column, kind in (labels or {}).items()}
        self.events = dict(events or {})
        self.attributes = {"user": users, "item": items}
        self.attribute_columns = {
            "user": None if user_features is None else columns_of("user_features", user_features),
            "item": None if item_features is None else columns_of("item_features", item_features),
        }
        self.duplicates, self.k_core, self.cache = duplicates, k_core, cache
        self._check(known_after)

    def _check(self, known_after: Sequence[str]) -> None:
        problems = []
        for column in self.features:
            if column in known_after:
                problems.append(
                    f"features: '{column}' is known only after the row (known_after), so it would leak the answer"
                )
            if column in self.labels:
                problems.append(f"features: '{column}' is a label as well, so it would be the answer")
            if column in TAKEN - {self.keys.get(role) for role in ("time",)}:
                problems.append(f"features: '{column}' is a name that graftrec uses itself; rename the column")
        for column, kind in self.labels.items():
            if kind not in get_args(LabelKind):
                problems.append(f"labels.{column}: should be one of {', '.join(get_args(LabelKind))}, found {kind}")
            if column in TAKEN:
                problems.append(f"labels: '{column}' is a name that graftrec uses itself; rename the column")
        for column in self.events:
            if self.labels.get(column) not in ("binary", "number") and column not in self.features:
                problems.append(f"events: '{column}' is neither a label of kind binary or number nor a number feature")
        if len(self.events) > 7:
            problems.append(f"events: at most 7 kinds of behaviour, found {len(self.events)}")
        if self.k_core and not {"user", "item"} <= set(self.keys):
            problems.append("k_core: needs user and item")
        for role in ("user", "item"):
            if self.attributes[role] and role not in self.keys:
                problems.append(f"{role}s: a file of no use without dataset.{role}, the column that keys it")
        if problems:
            raise ValueError("; ".join(problems))

    def read(self) -> Interactions:
        files = [file for path, _ in self.paths for file in readers.find(path)]
        known = [file for path in self.attributes.values() if path for file in readers.find(path)]
        size = sum(os.path.getsize(file) for file in files)
        if self.cache == "off" or (size < CACHED and not self.cache):
            return self._read(None)
        meaning = {key: value for key, value in vars(self).items() if key != "cache"}
        meaning |= {"features": {name: asdict(column) for name, column in self.features.items()}}
        folder = cache.folder_of(self.cache) / f"{self.name}-{cache.fingerprint([*files, *known], meaning)}"
        found = cache.load(folder)
        if found is None:
            with cache.draft(folder) as draft:
                cache.store(self._read(draft), draft)
            found = cache.load(folder)
        if found is None:
            raise DataError("DATA-046", f"{folder}: the cache cannot be read back; remove it, or set dataset.cache=off")
        return found

    def _read(self, folder: Path | None) -> Interactions:
        attributes = {kind: self._attributes(kind) for kind in ("user", "item")}
        domain_of = self._domain_of(attributes)
        shape = self._shape()
        builder = Builder(shape, folder)
        self._clocks: dict[str, Clock] = {}
        refused: dict[str, int] = {}
        low, high = np.inf, -np.inf
        for path, part in self.paths:
            wanted = self._wanted(domain_of is not None)
            whole = readers.whole(path, self._worded(wanted))
            for raw in readers.batches(path, wanted, self._lists(), ROWS):
                frame, vectors = self._typed(raw, part, domain_of, whole)
                kept = self._complete(frame, refused)
                frame = frame.filter(pl.Series(kept))
                if "time" in frame.columns and len(frame):
                    low = min(low, float(frame["time"].min()))  # type: ignore[arg-type]
                    high = max(high, float(frame["time"].max()))  # type: ignore[arg-type]
                builder.add(frame, {name: values[kept] for name, values in vectors.items()})
        if not builder.size:
            raise DataError("DATA-010", f"{self.path}: 0 rows to use")
        if "time" in self.keys and self.time_unit != "order":
            self._check_dates(low, high)
        data = builder.done(
            self.name,
            clock=self.time_unit != "order",
            behaviours=tuple(self.events),
            users=attributes["user"],
            items=attributes["item"],
            unique=self.unique,
            refused=refused,
        )
        data = replace(data, notes=(*data.notes, *_zeros(data)))
        if self.duplicates == "drop":
            data = deduplicated(data)
        return cored(data, self.k_core) if self.k_core else data

    def _shape(self) -> Shape:
        columns: dict[str, Column] = {}
        for name, column in self.features.items():
            if column.kind == "date":
                columns |= {f"{name}_{part}": Column("id") for part in column.parts}
            else:
                columns[name] = column
        return Shape(
            tuple(role for role in ("user", "item", "basket", "domain") if role in self.keys),
            "time" in self.keys,
            "split" in self.keys or len(self.paths) > 1,
            bool(self.events),
            "weight" in self.keys,
            columns,
            self.labels,
        )

    def _wanted(self, domain_elsewhere: bool) -> list[str]:
        keys = [column for role, column in self.keys.items() if not (role == "domain" and domain_elsewhere)]
        return list(dict.fromkeys([*keys, *self.features, *self.labels, *self.events]))

    def _worded(self, wanted: Sequence[str]) -> list[str]:
        """Columns that are ids."""
        roles = [self.keys[role] for role in ("user", "item", "basket", "domain") if role in self.keys]
        ids = [name for name, column in self.features.items() if column.kind == "id"]
        ids += [name for name, kind in self.labels.items() if kind == "category"]
        return [name for name in dict.fromkeys([*roles, *ids]) if name in wanted]

    def _lists(self) -> list[str]:
        return [name for name, column in self.features.items() if column.kind in ("ids", "history", "vector")]

    def _typed(
        self, raw: Raw, part: int, domain_of: pl.DataFrame | None, whole: set[str]
    ) -> tuple[pl.DataFrame, dict[str, Floats]]:
        """Columns of the types that `Builder` takes, every fault of these rows in one error."""
        problems: list[DataError] = []
        found: dict[str, pl.Series] = {}
        vectors: dict[str, Floats] = {}

        def read(name: str, made: Any) -> None:
            try:
                found[name] = made()
            except DataError as error:
                problems.append(error)

        for role, column in self.keys.items():
            if role == "time":
                read("time", lambda column=column: self._seconds(raw, column) / DAY)
            elif role == "weight":
                read("weight", lambda column=column: typed.weight(raw, column))
            elif role == "split":
                read("split", lambda column=column: _split(raw, column))
            elif role != "domain" or domain_of is None:
                read(role, lambda column=column: typed.words(raw, column, column in whole))
        for name, meaning in self.features.items():
            if meaning.kind == "vector":
                try:
                    vectors[name] = typed.vector(raw, name)
                except DataError as error:
                    problems.append(error)
            elif meaning.kind == "date":
                read(name, lambda name=name: self._seconds(raw, name))
                if name in found:
                    found |= _date_parts(name, meaning, found.pop(name))
            else:
                read(name, lambda name=name, meaning=meaning: _feature(raw, name, meaning, whole))
        for name, kind in self.labels.items():
            if kind == "category":
                read(name, lambda name=name: typed.words(raw, name, name in whole))
            else:
                made = typed.binary if kind == "binary" else typed.number
                read(name, lambda name=name, made=made: made(raw, name))
        DataError.raise_all(problems)
        if domain_of is not None:
            key, frame = domain_of.columns[0], domain_of
            own = pl.DataFrame({key: found[key].cast(frame.schema[key], strict=False)})
            found["domain"] = own.join(frame, on=key, how="left", maintain_order="left")["domain"]
        if self.events:
            found["event"] = _events({name: found[name] for name in self.events}, self.events)
        if len(self.paths) > 1:
            found["split"] = pl.Series([part], dtype=pl.Int8).new_from_index(0, len(raw.frame))
        return pl.DataFrame({name: values.alias(name) for name, values in found.items()}), vectors

    def _seconds(self, raw: Raw, column: str) -> pl.Series:
        found = seconds(raw, column, UNITS[self.time_unit], self._clocks.setdefault(column, Clock()))
        return found.set(~found.is_finite().fill_null(True), None)

    def _complete(self, frame: pl.DataFrame, refused: dict[str, int]) -> np.ndarray:
        """Rows (n,) bool that have all keys and the features that must be there; the others are counted."""
        kept = np.ones(len(frame), dtype=bool)
        keys = [role for role in ("user", "item", "time", "domain", "split", "weight") if role in self.keys]
        needed = [name for name, column in self.features.items() if column.missing == "drop" and name in frame.columns]
        groups = {"no " + ", ".join(keys): keys} | {f"no {name}": [name] for name in needed}
        for reason, names in groups.items():
            if not names:
                continue
            bad = frame.select(pl.any_horizontal(pl.col(names).is_null()).alias("bad"))["bad"].to_numpy()
            if (bad & kept).any():
                refused[reason] = refused.get(reason, 0) + int((bad & kept).sum())
            kept &= ~bad
        return kept

    def _check_dates(self, low: float, high: float) -> None:
        """DataError unless the times are dates."""
        try:
            for moment in (low, high):
                datetime.fromtimestamp(moment * DAY, timezone.utc)
        except (ValueError, OverflowError, OSError):
            raise DataError(
                "DATA-042", f"{self.path}: '{self.keys['time']}' is no date in time_unit={self.time_unit}; try another"
            ) from None

    def _domain_of(self, known: Mapping[str, Attributes | None]) -> pl.DataFrame | None:
        """The domain of each user or item (user or item, domain), where it is an attribute of theirs."""
        column = self.keys.get("domain", "")
        if not column or column in readers.columns(self.path):
            return None
        for kind, frame in known.items():
            if frame is not None and column in frame.frame.columns:
                return frame.frame.select(pl.col("key").alias(kind), pl.col(column).alias("domain"))
        return None

    def _attributes(self, kind: str) -> Attributes | None:
        path = self.attributes[kind]
        if not path:
            return None
        key = self.keys[kind]
        there, columns = readers.columns(path), self.attribute_columns[kind]
        if key not in there:
            raise UserError(f"dataset.{kind}s: {path} has no column '{key}'; it has {', '.join(there)}")
        names = [name for name in there if name != key] if columns is None else list(columns)
        lists = [name for name, column in (columns or {}).items() if column.kind in ("ids", "vector")]
        raw = readers.read(path, [key, *names], lists=lists)
        frame = raw.frame.with_columns(typed.words(raw, key).alias(kind))
        if raw.text:
            frame = frame.with_columns(pl.col(pl.String).replace({"": None}))
        return attributes(frame.select(kind, *(name for name in names if name != kind)), kind, columns)


def columns_of(name: str, given: Mapping[str, Any] | None) -> dict[str, Column]:
    """Columns from YAML; ValueError that says which one is wrong."""
    found = {}
    for column, meaning in (given or {}).items():
        try:
            found[column] = Column.of(meaning)
        except ValueError as error:
            raise ValueError(f"{name}.{column}: {error}") from None
    return found


def _feature(raw: Raw, name: str, column: Column, whole: set[str]) -> pl.Series:
    if column.kind in ("ids", "history"):
        return typed.listed(raw, name, column.separator)
    if column.kind != "number":
        return typed.words(raw, name, name in whole)
    values = typed.number(raw, name)
    if column.fill is not None:
        values = values.fill_null(column.fill)
    if column.clip:
        values = values.clip(*column.clip)
    found: pl.Series = values.sign() * values.abs().log1p() if column.log else values
    return found


def _zeros(data: Interactions) -> list[str]:
    """A note where ids differ by leading zeros only: they are different ids, and may not have been meant to be."""
    found = []
    for role in ("user", "item"):
        keys = data.keys[role].keys if data.has(role) else pl.Series([], dtype=pl.Int64)
        if keys.dtype == pl.String and (keys.str.starts_with("0") & (keys.str.len_bytes() > 1)).any():
            plain = keys.str.strip_chars_start("0")
            twice = plain.filter(plain.is_duplicated())
            if len(twice):
                found.append(
                    f"{role}: {twice.n_unique():,} ids differ from others by leading zeros only, such as "
                    f"'{twice[0]}'; they are different {role}s"
                )
    return found


def _date_parts(name: str, column: Column, seconds: pl.Series) -> dict[str, pl.Series]:
    moments = pl.DataFrame({"at": (seconds * 1e6).cast(pl.Int64).cast(pl.Datetime("us"))})
    return {
        f"{name}_{part}": moments.select(getattr(pl.col("at").dt, part)().cast(pl.Int32).alias("part"))["part"]
        for part in column.parts
    }


def _split(raw: Raw, column: str) -> pl.Series:
    text = raw.frame[column].cast(pl.String).str.strip_chars().str.to_lowercase()
    found: pl.Series = text.replace_strict(PARTS, default=None, return_dtype=pl.Int8)
    refuse(raw, column, found.is_null() & text.is_not_null(), "DATA-045", "is none of train, val and test")
    return found


def _events(values: Mapping[str, pl.Series], least: Mapping[str, float]) -> pl.Series:
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
