"""Bring your own table."""

from __future__ import annotations

import glob
from collections.abc import Sequence
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
        rows = frame.select(
            *(pl.col(column).alias(role) for role, column in self.keys.items()),
            *(pl.col(column) for column in self.ids),
            *(pl.col(column).cast(pl.Float32, strict=False) for column in (*self.numbers, *self.labels)),
        ).collect()
        refused, start = {}, ""
        keyed = [role for role in ("user", "item", "time") if role in self.keys]
        if keyed:
            bad = rows.select(pl.any_horizontal(pl.col(keyed).is_null()).alias("bad"))["bad"]
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
        moment = pl.select(pl.from_epoch(pl.lit(int(first * 1000)), "ms")).item()
        return rows.with_columns(((seconds - first) / DAY).alias("time")), str(moment)

    def _attributes(self, path: str, role: str) -> pl.DataFrame | None:
        if not path:
            return None
        frame = _scan(path).collect()
        key = self.keys.get(role, "")
        if key not in frame.columns:
            raise UserError(f"dataset.{role}s: {path} has no column '{key}'; it has {', '.join(frame.columns)}")
        return frame.rename({key: role})


def _scan(path: str) -> pl.LazyFrame:
    found = sorted(glob.glob(path)) or ([path] if Path(path).exists() else [])
    if not found:
        raise DataError("DATA-002", f"{path}: there is no such file")
    if all(name.endswith((".parquet", ".pq")) for name in found):
        return pl.scan_parquet(found)
    if all(name.endswith((".csv", ".tsv")) for name in found):
        return pl.scan_csv(found, separator="\t" if found[0].endswith(".tsv") else ",", try_parse_dates=True)
    raise DataError("DATA-004", f"{path}: .parquet, .csv and .tsv files are read")
