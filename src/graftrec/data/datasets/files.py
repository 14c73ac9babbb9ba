"""Bring your own table."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import polars as pl

from graftrec.data.datasets.base import Dataset
from graftrec.data.table import DAY, Interactions
from graftrec.errors import DataError, UserError

UNITS = {"s": 1.0, "ms": 1e-3, "days": DAY}


class Files(Dataset):
    """Parquet or CSV files whose columns are named here; every other column is left out.

    Args:
        path: a file, or a pattern such as ``data/*.parquet``, relative to the caller's folder.
        user, item, time: columns of who, what and when; each may be absent, and protocols say what they need.
        basket: column of what was bought together; without it, the lines of one user and time are a basket.
        time_unit: of a numeric ``time``: ``s``, ``ms`` or ``days``; dates need none.
        ids: columns of categories. numbers: columns of numbers. binary, number: columns of labels of these kinds.
        users, items: files with one row per user or item, keyed by the column of the same name as in ``path``.
        name: of the dataset, for reports.
    """

    def __init__(
        self,
        path: str,
        user: str = "",
        item: str = "",
        time: str = "",
        basket: str = "",
        time_unit: str = "s",
        ids: Sequence[str] = (),
        numbers: Sequence[str] = (),
        binary: Sequence[str] = (),
        number: Sequence[str] = (),
        users: str = "",
        items: str = "",
        name: str = "files",
    ) -> None:
        if time_unit not in UNITS:
            raise ValueError(f"time_unit should be one of {', '.join(UNITS)}. Found {time_unit}.")
        self.path, self.name, self.time_unit = path, name, time_unit
        named = {"user": user, "item": item, "time": time, "basket": basket}
        self.keys = {role: column for role, column in named.items() if column}
        self.ids, self.numbers, self.users, self.items = tuple(ids), tuple(numbers), users, items
        self.labels = {**dict.fromkeys(binary, "binary"), **dict.fromkeys(number, "number")}

    def read(self) -> Interactions:
        wanted = [*self.keys.values(), *self.ids, *self.numbers, *self.labels]
        frame = _scan(self.path)
        there = frame.collect_schema().names()
        missing = [column for column in dict.fromkeys(wanted) if column not in there]
        if missing:
            raise UserError(
                [f"dataset: {self.path} has no column '{column}'; it has {', '.join(there)}" for column in missing]
            )
        columns = {role: pl.col(column).alias(role) for role, column in self.keys.items()}
        columns |= {name: pl.col(name) for name in self.ids if name not in columns}
        columns |= {name: pl.col(name) for name in (*self.numbers, *self.labels)}
        rows = frame.select(*columns.values()).collect()
        rows = rows.with_columns(
            _number(rows[name], self.path) for name in dict.fromkeys((*self.numbers, *self.labels))
        )
        refused, start = {}, ""
        keyed = [role for role in ("user", "item", "time") if role in self.keys]
        if keyed:
            missing_key = [pl.col(role).is_null() for role in keyed]
            if "time" in keyed and rows["time"].dtype.is_float():
                missing_key.append(~pl.col("time").is_finite().fill_null(False))
            bad = rows.select(pl.any_horizontal(missing_key).alias("bad"))["bad"]
            refused["no " + ", ".join(keyed)] = int(bad.sum())
            rows = rows.filter(~bad)
        if rows.is_empty():
            raise DataError("DATA-001", f"{self.path}: there is no row to use")
        if "time" in self.keys:
            rows, start = self._days(rows)
            rows = rows.sort([role for role in ("user", "time", "basket", "item") if role in self.keys])
        return Interactions(
            name=self.name,
            rows=rows,
            ids=self.ids,
            numbers=self.numbers,
            labels=self.labels,
            users=self._attributes(self.users, "user"),
            items=self._attributes(self.items, "item"),
            start=start,
            refused={reason: count for reason, count in refused.items() if count},
        )

    def _days(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, str]:
        """Time as days since the first row, and when that was."""
        time = rows["time"]
        if time.dtype.is_temporal():
            seconds = time.cast(pl.Datetime("ms")).dt.epoch("ms") / 1000.0
        elif time.dtype.is_numeric():
            seconds = time.cast(pl.Float64) * UNITS[self.time_unit]
        else:
            raise DataError(
                "DATA-003", f"{self.path}: column '{self.keys['time']}' is {time.dtype}: a date or a number is needed"
            )
        first = float(seconds.min() or 0.0)
        try:
            moment = datetime.fromtimestamp(first, timezone.utc).replace(tzinfo=None)
            datetime.fromtimestamp(float(seconds.max() or 0.0), timezone.utc)
        except (ValueError, OverflowError, OSError):
            raise DataError(
                "DATA-003", f"{self.path}: '{self.keys['time']}' is no date in time_unit={self.time_unit}; try another"
            ) from None
        return rows.with_columns(((seconds - first) / DAY).alias("time")), str(moment)

    def _attributes(self, path: str, role: str) -> pl.DataFrame | None:
        if not path:
            return None
        frame = _scan(path).collect()
        key = self.keys.get(role, "")
        if not key:
            raise UserError(f"dataset.{role}s: {path} is of no use without dataset.{role}, the column that keys it")
        if key not in frame.columns:
            raise UserError(f"dataset.{role}s: {path} has no column '{key}'; it has {', '.join(frame.columns)}")
        return frame.select(pl.col(key).alias(role), *(name for name in frame.columns if name not in (key, role)))


def _number(values: pl.Series, path: str) -> pl.Series:
    """A column as float32; DataError where something in it is no number."""
    number: pl.Series = values.cast(pl.Float32, strict=False)
    wrong = number.is_null() & values.is_not_null()
    if wrong.any():
        at = wrong.arg_true()[0]
        raise DataError(
            "DATA-005",
            f"{path}: column '{values.name}' has {int(wrong.sum())} values that are no numbers, "
            f"the first in row {at + 1}: {values[at]!r}",
        )
    return number


def _scan(path: str) -> pl.LazyFrame:
    found = sorted(glob.glob(path)) or ([path] if Path(path).exists() else [])
    if not found:
        raise DataError("DATA-002", f"{path}: there is no such file")
    if all(name.endswith((".parquet", ".pq")) for name in found):
        return pl.scan_parquet(found)
    if all(name.endswith((".csv", ".tsv")) for name in found):
        return pl.scan_csv(found, separator="\t" if found[0].endswith(".tsv") else ",", try_parse_dates=True)
    raise DataError("DATA-004", f"{path}: .parquet, .csv and .tsv files are read")
