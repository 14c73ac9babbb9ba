"""Bring your own table."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from graftrec.data.datasets import files_attributes, files_columns
from graftrec.data.datasets.base import Dataset
from graftrec.data.datasets.files_columns import State
from graftrec.data.datasets.files_settings import columns_of, made_of, wrong_attributes, wrong_columns
from graftrec.data.sources import table_reader, value_parsers
from graftrec.data.sources.provenance import Raw
from graftrec.data.sources.timestamps import UNITS, Clock, Moments, moments, plausible, told_apart, wrong_format
from graftrec.data.tables import cache
from graftrec.data.tables.builder import Builder, Shape
from graftrec.data.tables.filters import cored, deduplicated
from graftrec.data.tables.id_matching import joined
from graftrec.data.tables.interactions import DAY, Column, Floats, Interactions, LabelKind
from graftrec.data.tables.vocabulary import as_type
from graftrec.utils import redaction
from graftrec.utils.errors import DataError
from graftrec.utils.filenames import wrong_name

ROWS = 200_000  # read at a time
CACHED = 32_000_000  # bytes of files, from which on a second start is worth a cache


@dataclass(frozen=True, eq=False)
class Typed:
    """Rows of a batch: a frame and vectors as `Builder` takes them, and where features that must be there are not.

    Args:
        below: nanoseconds of the times below a microsecond, if there are such.
    """

    frame: pl.DataFrame
    vectors: dict[str, Floats]
    absent: dict[str, pl.Series]
    below: pl.Series | None = None


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
        time_unit: of a numeric ``time``: ``s``, ``ms``, ``us``, ``ns``, ``days``, or ``order`` where it only says what
            came first; dates need none.
        time_format: how ``time`` is written where that is neither a number of ``time_unit`` nor ISO 8601, in the words
            of ``strptime``: ``%Y%m%d``, ``%m/%d/%Y %H:%M``.
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
        time_format: str = "",
    ) -> None:
        if time_format and (wrong := wrong_format(time_format)):
            raise ValueError(f"time_format {wrong}. Found {time_format!r}.")
        if time_unit not in UNITS:
            raise ValueError(f"time_unit should be one of {', '.join(UNITS)}. Found {time_unit}.")
        if wrong := wrong_name(name):
            raise ValueError(f"name {wrong}. Found {name!r}.")
        if k_core < 0:
            raise ValueError(f"k_core should be at least 0. Found {k_core}.")
        if duplicates not in ("keep", "drop"):
            raise ValueError(f"duplicates should be keep or drop. Found {duplicates}.")
        self.paths = [(path, 0), *((more, at) for more, at in ((val, 1), (test, 2)) if more)]
        if split and len(self.paths) > 1:
            raise ValueError("split, a column, and val or test, files, say the same twice.")
        self.path, self.name, self.unique = path, name, unique
        self.time_unit, self.time_format = time_unit, time_format
        named = {"user": user, "item": item, "time": time, "basket": basket, "domain": domain}
        named |= {"split": split, "weight": weight}
        self.keys = {role: column for role, column in named.items() if column}
        self.features = columns_of("features", features)
        self.labels = {column: str(kind) for column, kind in (labels or {}).items()}
        self.known_after = tuple(known_after)
        self.events = dict(events or {})
        self.attributes = {"user": users, "item": items}
        self.attribute_columns = {
            "user": None if user_features is None else columns_of("user_features", user_features),
            "item": None if item_features is None else columns_of("item_features", item_features),
        }
        self.duplicates, self.k_core, self.cache = duplicates, k_core, cache
        problems = [
            *wrong_columns(self.keys, self.features, self.labels, self.known_after, self.events),
            *wrong_attributes(self.keys, self.attributes, self.attribute_columns, self.known_after),
            *self._wrong_filters(),
        ]
        if problems:
            raise ValueError("; ".join(problems))

    def _wrong_filters(self) -> list[str]:
        both = {"user", "item"} <= set(self.keys)
        problems = ["k_core: needs user and item"] if self.k_core and not both else []
        return problems + (["duplicates: drop needs user and item"] if self.duplicates == "drop" and not both else [])

    def read(self) -> Interactions:
        files = [file for path, _ in self.paths for file in table_reader.find(path)]
        known = [file for path in self.attributes.values() if path for file in table_reader.find(path)]
        size = sum(os.path.getsize(file) for file in files)
        wanted = self.cache != "off" and (size >= CACHED or bool(self.cache))
        root = cache.folder_of(self.cache) if wanted else None
        if root is None:
            return self._read(None)
        meaning = {key: value for key, value in vars(self).items() if key != "cache"}
        meaning |= {"features": {name: asdict(column) for name, column in self.features.items()}}
        name = redaction.shown(self.name).replace("*", "_")  # which a reader of a path would take for a pattern
        folder = root / f"{name}-{cache.fingerprint([*files, *known], meaning)}"
        found = cache.load(folder)
        if found is None:
            with cache.draft(folder) as draft:
                cache.store(self._read(draft), draft)
            found = cache.load(folder)
        if found is None:
            raise DataError("DATA-046", f"{folder}: the cache cannot be read back; remove it, or set dataset.cache=off")
        return found

    def _read(self, folder: Path | None) -> Interactions:
        attributes = {
            kind: files_attributes.read(
                kind, path, self.keys[kind], self.attribute_columns[kind], self.known_after,
                lambda raw, column, format: self._moments(raw, column, format, State()).seconds, self.time_unit,
            )
            for kind, path in self.attributes.items()
            if path
        }  # fmt: skip
        domain_of = self._domain_of()
        wanted, state = self._wanted(domain_of is not None), State()
        words, lists = self._worded(wanted), self._lists("ids", "history")
        given = [table_reader.batches(path, wanted, [*lists, *self._lists("vector")], ROWS) for path, _ in self.paths]
        with closing(Builder(self._shape(), folder)) as builder:
            for (path, part), batches in zip(self.paths, given, strict=True):
                whole = table_reader.whole(path, [*words, *lists], lists) if words or lists else set()
                for raw in batches:
                    typed_rows = self._typed(raw, part, domain_of, whole, state)
                    kept = self._complete(typed_rows, state)
                    frame = typed_rows.frame.filter(pl.Series(kept))
                    if len(frame):
                        self._count(frame, state)
                        if typed_rows.below is not None:
                            state.below.append((builder.size, typed_rows.below.to_numpy()[kept]))
                        builder.add(frame, {name: values[kept] for name, values in typed_rows.vectors.items()})
            if not builder.size and state.homeless is not None:
                raise state.homeless
            if not builder.size:
                raise DataError("DATA-010", f"{self.path}: 0 rows to use{_reasons(state.refused)}")
            if "time" in self.keys and self.time_unit != "order":
                self._check_dates(state)
            data = builder.done(
                self.name,
                clock=self.time_unit != "order",
                behaviours=tuple(self.events),
                users=attributes.get("user"),
                items=attributes.get("item"),
                unique=self.unique,
                refused=state.refused,
            )
        if state.below and data.time is not None:
            below = np.zeros(data.size, np.int64)
            for start, values in state.below:
                below[start : start + len(values)] = values
            data = replace(data, time=told_apart(np.array(data.time), below))
        doubles = [
            f"dataset.{kind}s: {known.doubles:,} rows of {self.attributes[kind]} repeat an earlier key and do not count"
            for kind, known in attributes.items()
            if known.doubles
        ]
        data = replace(data, notes=(*_zeros(data), *self._notes(state), *doubles))
        if self.duplicates == "drop":
            data = deduplicated(data)
        return cored(data, self.k_core) if self.k_core else data

    def _shape(self) -> Shape:
        columns: dict[str, Column] = {}
        for name, column in self.features.items():
            if column.kind == "date":
                columns |= {part: Column("id") for part in made_of(name, column)}
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

    def _lists(self, *kinds: str) -> list[str]:
        return [name for name, column in self.features.items() if column.kind in kinds]

    def _typed(self, raw: Raw, part: int, domain_of: pl.DataFrame | None, whole: set[str], state: State) -> Typed:
        """Columns of the types that `Builder` takes, every fault of these rows in one error."""
        problems: list[DataError] = []
        found: dict[str, pl.Series] = {}
        vectors: dict[str, Floats] = {}
        absent: dict[str, pl.Series] = {}
        below: pl.Series | None = None

        def read(made: Callable[[], None]) -> None:
            try:
                made()
            except DataError as error:
                problems.append(error)

        def key(role: str, column: str) -> None:
            nonlocal below
            if role == "time":
                moment = self._moments(raw, column, self.time_format, state)
                found[role], below = moment.seconds / DAY, moment.below
            elif role == "weight":
                found[role] = value_parsers.weight(raw, column)
            elif role == "split":
                found[role] = files_columns.split_of(raw, column)
            elif role != "domain" or domain_of is None:
                found[role] = files_columns.ids(raw, column, whole, state)

        def feature(name: str, column: Column) -> None:
            if column.kind == "vector":
                vectors[name], there = files_columns.vectors(raw, name, column, state.widths, column.missing == "drop")
            elif column.kind == "date":
                dates = self._moments(raw, name, column.format, state).seconds
                found.update(files_columns.date_parts(raw, name, column, dates, self.time_unit))
                there = dates.is_not_null()
            elif column.kind in ("ids", "history"):
                found[name] = files_columns.lists(raw, name, column, whole, state)
                there = found[name].list.len() > 0
            else:
                if column.kind == "number":
                    found[name] = files_columns.number(raw, name, column)
                else:
                    found[name] = (
                        files_columns.text(raw, name)
                        if column.kind == "text"
                        else files_columns.ids(raw, name, whole, state)
                    )
                there = found[name].is_not_null()
            if column.missing == "drop":
                absent[name] = ~there

        def label(name: str, kind: str) -> None:
            if kind == "category":
                found[name] = files_columns.ids(raw, name, whole, state)
            else:
                found[name] = (value_parsers.binary if kind == "binary" else value_parsers.number)(raw, name).fill_nan(
                    None
                )

        for role, column in self.keys.items():
            read(partial(key, role, column))
        for name, meaning in self.features.items():
            read(partial(feature, name, meaning))
        for name, kind in self.labels.items():
            read(partial(label, name, kind))
        DataError.raise_all(problems)
        for name in self._worded(raw.frame.columns):
            _add(state.long, name, files_columns.too_long(raw, name))
        for name in self._lists("ids", "history"):
            _add(state.long, name, files_columns.too_long(raw, name, self.features[name].separator))
        if domain_of is not None:
            kind, own = domain_of.columns[0], pl.DataFrame({"key": found[domain_of.columns[0]]})
            frame = domain_of.select(as_type(domain_of[kind], own["key"].dtype).alias("key"), "domain")
            frame = frame.drop_nulls("key").unique("key", keep="first", maintain_order=True)
            found["domain"] = own.join(frame, on="key", how="left", maintain_order="left")["domain"]
            if not found["domain"].count() and state.homeless is None:
                what = f"{kind}s of {raw.name} have a '{self.keys['domain']}' in {self.attributes[kind]}"
                state.homeless = joined("dataset.domain", what, own["key"], domain_of[kind]).problem
        if self.events:  # of numbers as they stand, before they are clipped or filled
            shown = {
                name: found[name] if name in self.labels else value_parsers.number(raw, name).fill_nan(None)
                for name in self.events
            }
            found["event"] = files_columns.events_of(shown, self.events)
        if len(self.paths) > 1:
            found["split"] = pl.Series([part], dtype=pl.Int8).new_from_index(0, len(raw.frame))
        return Typed(pl.DataFrame({name: values.alias(name) for name, values in found.items()}), vectors, absent, below)

    def _moments(self, raw: Raw, column: str, format: str, state: State) -> Moments:
        found = moments(raw, column, self.time_unit, state.clocks.setdefault(column, Clock()), format)
        finite = found.seconds.is_finite().fill_null(True)
        return found if finite.all() else Moments(found.seconds.set(~finite, None), found.below)

    def _complete(self, rows: Typed, state: State) -> np.ndarray:
        """Rows (n,) bool that have all keys and the features that must be there; the others are counted."""
        roles = [role for role in ("user", "item", "time", "domain", "split", "weight") if role in self.keys]
        reasons = {f"no {name}": missing.to_numpy() for name, missing in rows.absent.items()}
        if roles:
            lacking = rows.frame.select(pl.any_horizontal(pl.col(roles).is_null()).alias("bad"))["bad"]
            reasons = {"no " + ", ".join(roles): lacking.to_numpy(), **reasons}
        kept = np.ones(len(rows.frame), dtype=bool)
        for reason, bad in reasons.items():
            _add(state.refused, reason, int((bad & kept).sum()))
            kept &= ~bad
        return kept

    def _count(self, frame: pl.DataFrame, state: State) -> None:
        """Note the times and the sizes of lists of rows that are kept."""
        if "time" in frame.columns:
            state.low = min(state.low, float(frame["time"].min()))  # type: ignore[arg-type]
            state.high = max(state.high, float(frame["time"].max()))  # type: ignore[arg-type]
        for name in self._lists("ids", "history"):
            _add(state.cut, name, int((frame[name].list.len() > self.features[name].length).sum()))

    def _notes(self, state: State) -> list[str]:
        found = [
            f"{column}: {count:,} ids are longer than {value_parsers.LONGEST:,} characters and count as missing"
            for column, count in state.long.items()
        ]
        for name, count in state.cut.items():
            column = self.features[name]
            side = "newest" if column.kind == "history" else "first"
            found.append(f"{name}: {count:,} rows have more than {column.length} values; the {side} are kept")
        return [*found, *(note for column, clock in state.clocks.items() for note in clock.notes(column))]

    def _check_dates(self, state: State) -> None:
        """DataError unless the times are dates."""
        try:
            for moment in (state.low, state.high):
                datetime.fromtimestamp(moment * DAY, timezone.utc)
        except (ValueError, OverflowError, OSError):
            fits = [unit for unit, scale in UNITS.items() if unit != "order" and self._fits(state, scale)]
            hint = f"in {' and in '.join(fits)} it is one" if fits else "try another, or time_format"
            low, high = (f"{moment * DAY / UNITS[self.time_unit]:.0f}" for moment in (state.low, state.high))
            raise DataError(
                "DATA-042",
                f"{self.path}: '{self.keys['time']}' is no date in time_unit={self.time_unit} ({low} to {high}); "
                f"{hint}",
            ) from None

    def _fits(self, state: State, scale: float) -> bool:
        """Whether numbers of another unit, ``scale`` seconds, would be of about our time, the first and the last."""
        return plausible(*(moment * DAY / UNITS[self.time_unit] * scale for moment in (state.low, state.high)))

    def _domain_of(self) -> pl.DataFrame | None:
        """The domain of each user or item (user or item, domain), where it is an attribute of theirs."""
        column = self.keys.get("domain", "")
        if not column or column in table_reader.columns(self.path):
            return None
        for kind, path in self.attributes.items():
            if path and {column, self.keys[kind]} <= set(table_reader.columns(path)):
                raw = table_reader.read(path, [self.keys[kind], column])
                return pl.DataFrame(
                    {kind: value_parsers.words(raw, self.keys[kind]), "domain": value_parsers.words(raw, column)}
                )
        return None


def _reasons(refused: Mapping[str, int]) -> str:
    return f" ({'; '.join(f'{count:,} rows: {reason}' for reason, count in refused.items())})" if refused else ""


def _zeros(data: Interactions) -> list[str]:
    """A note where ids differ by leading zeros only: they are different ids, and may not have been meant to be."""
    found = []
    for role in ("user", "item"):
        keys = data.keys[role].keys if data.has(role) else pl.Series([], dtype=pl.Int64)
        if keys.dtype == pl.String and (keys.str.starts_with("0") & (keys.str.len_bytes() > 1)).any():
            plain = keys.str.strip_chars_start("0").replace("", "0")
            twice = plain.filter(plain.is_duplicated())
            if len(twice):
                found.append(
                    f"{role}: {twice.n_unique():,} ids differ from others by leading zeros only, such as "
                    f"'{twice[0]}'; they are different {role}s"
                )
    return found


def _add(counts: dict[str, int], name: str, more: int) -> None:
    if more:
        counts[name] = counts.get(name, 0) + more
