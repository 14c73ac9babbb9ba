"""Several domains side by side."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from graftrec.data.datasets.base import Dataset
from graftrec.data.loader import Mixing
from graftrec.data.protocols.base import Protocol
from graftrec.data.protocols.long_short_term import check_cuts, need_columns
from graftrec.data.purchases import KINDS, Purchases, Windows
from graftrec.data.streams.rows import TableRows
from graftrec.data.table import Interactions
from graftrec.data.vocab import Vocabulary
from graftrec.errors import DataError, UserError
from graftrec.schema import Feature, Label, Stream, Table


class CrossDomain(Protocol):
    """Domains that share users and, where ids are the same, items; split by one global time, or at random.

    Streams: ``<domain>/baskets`` and ``<domain>/pairs`` as in `LongShortTerm`, where there are users, items and times;
    histories and counts are the domain's own, so a target trained alone sees its own domain and nothing else. Where the
    dataset has labels, ``<domain>/rows`` with its ids, numbers and labels. Tables are shared by name over domains.

    Args:
        by: column that says the domain: of the rows' ``ids``, or an attribute of items or users. Empty: one domain,
            and streams have no prefix.
        split: ``time``; ``random`` (rows only) with ``split_seed``; ``order``, the first rows train.
        train_until, val_until: shares of the time span, or of the rows, in (0, 1).
        others: see `LongShortTerm`.
    """

    def __init__(
        self,
        dataset: Dataset,
        by: str = "",
        split: str = "time",
        train_until: float = 0.8,
        val_until: float = 0.9,
        long: int = 400,
        short: int = 50,
        chunk: int = 8,
        negatives: int = 128,
        lag: float | None = None,
        min_users: int = 6,
        batch_size: int = 128,
        mixing: Mixing = "proportional",
        split_seed: int = 0,
    ) -> None:
        super().__init__(dataset, batch_size, mixing, split_seed)
        check_cuts(train_until, val_until)
        if split not in ("time", "random", "order"):
            raise ValueError(f"split should be time, random or order. Found {split}.")
        self.by, self.split, self.cuts, self.min_users = by, split, (train_until, val_until), min_users
        self.windows = Windows(long, short, chunk, negatives, lag)

    def offers(self, data: Interactions) -> list[str]:
        kinds = list(KINDS) if data.has("user", "item", "time") and self.split == "time" else []
        kinds += ["rows"] if data.labels else []
        if not kinds:
            need_columns(data, "cross_domain")
        return [prefix + kind for prefix in self._domains(data) for kind in kinds]

    def make(self, data: Interactions, names: Sequence[str]) -> None:
        domains = self._domains(data)
        wanted = {prefix: [name[len(prefix) :] for name in names if name.startswith(prefix)] for prefix in domains}
        histories = {prefix: [k for k in kinds if k in KINDS] for prefix, kinds in wanted.items()}
        if any(histories.values()):
            purchases = Purchases(data, *self.cuts, self.min_users)
            self.tables |= purchases.tables
            self.users, self.items, self.refused = purchases.everybody, purchases.items, purchases.refused
            for prefix, kinds in histories.items():
                if kinds:
                    rows = self._rows_of(data, purchases.rows, domains[prefix])
                    self.streams |= purchases.streams(prefix, kinds, self.windows, self.split_seed, rows)
        if any("rows" in kinds for kinds in wanted.values()):
            self._make_rows(data, {prefix: domains[prefix] for prefix, kinds in wanted.items() if "rows" in kinds})

    def _domains(self, data: Interactions) -> dict[str, str | None]:
        """Prefix of the streams -> value of the column ``by``."""
        if not self.by:
            return {"": None}
        frame = self._frame_with(data)
        values = frame[self.by].drop_nulls().unique().sort().cast(pl.String)
        found: dict[str, str | None] = {}
        for value in values:
            prefix = (re.sub(r"\W+", "_", value).strip("_").lower() or "other") + "/"
            if prefix in found:
                raise UserError(
                    f"protocol.by: '{found[prefix]}' and '{value}' would both be the domain '{prefix[:-1]}'"
                )
            found[prefix] = value
        return found

    def _frame_with(self, data: Interactions) -> pl.DataFrame:
        frames = [frame for frame in (data.rows, data.items, data.users) if frame is not None]
        for frame in frames:
            if self.by in frame.columns:
                return frame
        known = sorted({column for frame in frames for column in frame.columns})
        raise UserError(f"protocol.by: there is no column '{self.by}'; there are {', '.join(known)}")

    def _rows_of(self, data: Interactions, rows: pl.DataFrame, value: str | None) -> pl.DataFrame:
        """Those of ``rows`` whose own column, item or user says this domain."""
        if value is None:
            return rows
        frame = self._frame_with(data)
        here = pl.col(self.by).cast(pl.String) == value
        if frame is data.rows:
            return rows.filter(here)
        key = "item" if frame is data.items else "user"
        own = frame.filter(here)[key].cast(rows[key].dtype, strict=False).drop_nulls()
        return rows.filter(pl.col(key).is_in(own.implode()))

    def _make_rows(self, data: Interactions, domains: dict[str, str | None]) -> None:
        """Plain rows of each domain; vocabularies and scales from the training rows of all of them."""
        if not data.ids and not data.numbers:
            raise UserError("dataset: rows have no feature; name some columns in ids or numbers")
        taken = [name for name in data.ids if name in self.tables]
        if taken:
            raise UserError(
                f"dataset.ids: {', '.join(taken)} would share a table with the purchases' own; "
                "name the column differently, or choose streams of one kind"
            )
        parts = {prefix: self._rows_of(data, data.rows, value) for prefix, value in domains.items()}
        parts = {prefix: frame for prefix, frame in parts.items() if len(frame)}
        windows = {prefix: self._window(data, frame) for prefix, frame in parts.items()}
        train = pl.concat([frame.filter(pl.Series(windows[prefix] == 0)) for prefix, frame in parts.items()])
        vocabularies = {name: Vocabulary(train[name]) for name in data.ids}
        self.tables |= {name: Table(name, len(vocabulary)) for name, vocabulary in vocabularies.items()}
        scale = {name: _scale(train[name]) for name in data.numbers}
        features = [Feature(name, "id", name) for name in data.ids]
        features += [Feature(name, "number") for name in data.numbers]
        labels = tuple(Label(n, "binary" if k == "binary" else "number") for n, k in data.labels.items())
        for prefix, frame in parts.items():
            ids = [torch.from_numpy(vocabularies[name].encode(frame[name])) for name in data.ids]
            numbers = [(_floats(frame[name]) - scale[name][0]) / scale[name][1] for name in data.numbers]
            filled = [column.nan_to_num(0.0) for column in numbers]  # a missing number is the mean
            answers = [_label(frame[name], kind) for name, kind in data.labels.items()]
            rows = [torch.from_numpy(np.flatnonzero(windows[prefix] == part)) for part in (0, 1, 2)]
            schema = Stream(f"{prefix}rows", tuple(features), labels)
            self.streams[f"{prefix}rows"] = TableRows(
                schema, _matrix(ids, len(frame), torch.int64), _matrix(filled, len(frame), torch.float32),
                _matrix(answers, len(frame), torch.float32), rows[0], rows[1], rows[2], self.split_seed,
            )  # fmt: skip

    def _window(self, data: Interactions, frame: pl.DataFrame) -> npt.NDArray[np.int64]:
        """0 train, 1 validation, 2 test for each row; under ``time`` one cut for all domains."""
        low, high = self.cuts
        if self.split == "time":
            if not data.has("time"):
                raise UserError(f"protocol.split=time: {data.name} has no time; set protocol.split=random")
            span = float(data.rows.select(last="time").max().item())
            place = frame["time"].to_numpy() / max(span, 1e-9)
        elif self.split == "order":
            if data.has("time"):
                raise UserError("protocol.split=order: the dataset has a time, which rows are sorted by; use time")
            place = np.arange(len(frame)) / len(frame)
        else:
            place = np.random.default_rng(self.split_seed).permutation(len(frame)) / len(frame)
        found: npt.NDArray[np.int64] = (place >= low).astype(np.int64) + (place >= high)
        return found


def _floats(values: pl.Series) -> torch.Tensor:
    return torch.from_numpy(values.cast(pl.Float32).fill_null(np.nan).to_numpy(writable=True))


def _label(values: pl.Series, kind: str) -> torch.Tensor:
    """A label (n,) float32, NaN where missing; DataError where a binary one is neither 0 nor 1."""
    label = _floats(values)
    if kind == "binary":
        wrong = ~((label == 0) | (label == 1) | label.isnan())
        if bool(wrong.any()):
            at = int(wrong.nonzero()[0])
            raise DataError(
                "TASK-003",
                f"label '{values.name}' should be 0, 1 or missing: {int(wrong.sum())} rows are not, "
                f"the first (row {at + 1}) is {float(label[at]):g}",
            )
    return label


def _scale(values: pl.Series) -> tuple[float, float]:
    """Mean and spread of what is there, 0 and 1 where nothing is."""
    kept = values.drop_nulls().drop_nans().cast(pl.Float64).to_numpy()
    return (float(kept.mean()), float(kept.std()) or 1.0) if len(kept) else (0.0, 1.0)


def _matrix(columns: list[torch.Tensor], rows: int, kind: torch.dtype) -> torch.Tensor:
    """Columns side by side, (rows, columns) in row order."""
    return torch.stack(columns, 1).to(kind).contiguous() if columns else torch.zeros(rows, 0, dtype=kind)
