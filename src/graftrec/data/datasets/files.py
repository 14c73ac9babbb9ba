"""Bring your own table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

import polars as pl

from graftrec.data import readers
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
        features = [name for name in (*self.ids, *self.numbers) if name not in self.labels]
        raw = readers.read(self.path, [*self.keys.values(), *features, *self.labels])
        columns = {role: raw.frame[column] for role, column in self.keys.items()}
        columns |= {name: raw.frame[name] for name in self.ids if name not in columns}
        if "time" in columns:
            columns["time"] = readers.seconds(raw, self.keys["time"], UNITS[self.time_unit])
        columns |= {name: readers.number(raw, name) for name in self.numbers}
        typed = {"binary": readers.binary, "number": readers.number}
        columns |= {name: typed[kind](raw, name) for name, kind in self.labels.items()}
        rows = pl.DataFrame({name: values.alias(name) for name, values in columns.items()})
        if raw.text:  # an empty field is a missing one
            rows = rows.with_columns(pl.col(pl.String).replace({"": None}))
        refused, start = {}, ""
        keyed = [role for role in ("user", "item", "time") if role in self.keys]
        if keyed:
            missing = [pl.col(role).is_null() for role in keyed]
            missing += [~pl.col("time").is_finite().fill_null(False)] if "time" in keyed else []
            bad = rows.select(pl.any_horizontal(missing).alias("bad"))["bad"]
            refused["no " + ", ".join(keyed)] = int(bad.sum())
            rows = rows.filter(~bad)
        if rows.is_empty():
            raise DataError("DATA-010", f"{self.path}: 0 rows to use")
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
        seconds = rows["time"].to_numpy()
        first = float(seconds.min())
        try:
            moment = datetime.fromtimestamp(first, timezone.utc).replace(tzinfo=None)
            datetime.fromtimestamp(float(seconds.max()), timezone.utc)
        except (ValueError, OverflowError, OSError):
            raise DataError(
                "DATA-042", f"{self.path}: '{self.keys['time']}' is no date in time_unit={self.time_unit}; try another"
            ) from None
        return rows.with_columns((pl.col("time") - first) / DAY), str(moment)

    def _attributes(self, path: str, role: str) -> pl.DataFrame | None:
        if not path:
            return None
        key = self.keys.get(role, "")
        if not key:
            raise UserError(f"dataset.{role}s: {path} is of no use without dataset.{role}, the column that keys it")
        frame = readers.read(path, []).frame
        if key not in frame.columns:
            raise UserError(f"dataset.{role}s: {path} has no column '{key}'; it has {', '.join(frame.columns)}")
        return frame.select(pl.col(key).alias(role), *(name for name in frame.columns if name not in (key, role)))
