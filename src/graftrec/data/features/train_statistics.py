"""What is fitted on training rows alone: which ids were seen, scales, quantiles."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from graftrec.data.splits.base import Part
from graftrec.data.tables.builder import blocks
from graftrec.data.tables.interactions import Floats, Interactions
from graftrec.utils.atomic_files import whole

AT_ONCE = 500_000
Mask = npt.NDArray[np.bool_]


class Fitted:
    """One pass over the training rows of a table, in blocks, so that a memory map never has to be in memory at once.

    Attributes:
        seen: for each column of ``codes``, whether training has its keys (K,).
        lists: the same for columns with several ids.
        mean, spread, low, high: (M,) float32 of the numbers; ``low`` and ``high`` are what `Column.outliers` asked for.
        edges: column -> quantiles between its `Column.buckets`.
        vectors: column -> mean and spread (V,).
    """

    edges: dict[str, Floats]
    lists: dict[str, Mask]
    vectors: dict[str, tuple[Floats, Floats]]

    @classmethod
    def of(cls, data: Interactions, part: Part) -> Fitted:
        """What these training rows say; of a table in a cache it is kept beside it."""
        if data.folder is None:
            return cls(data, part)
        path = data.folder / f"fitted_{zlib.crc32(part.tobytes()):08x}.npz"
        try:
            found = cls.__new__(cls)
            with np.load(path, allow_pickle=False) as arrays:
                found._unpack(data, arrays)
            return found
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            made = cls(data, part)  # it is not there, or damaged
        with suppress(OSError), whole(path) as draft, draft.open("wb") as file:
            np.savez(file, **made._packed())  # a cache that cannot be written saves no time and does no harm
        return made

    def columns(self, data: Interactions) -> list[tuple[str, Mask]]:
        """Columns with one or several ids, and which of their keys (K,) training has."""
        return [*zip(data.ids, self.seen, strict=True), *self.lists.items()]

    def _packed(self) -> dict[str, Any]:
        arrays: dict[str, Any] = {"mean": self.mean, "spread": self.spread, "low": self.low, "high": self.high}
        arrays |= {f"seen/{at}": mask for at, mask in enumerate(self.seen)}
        arrays |= {f"lists/{name}": mask for name, mask in self.lists.items()}
        arrays |= {f"edges/{name}": edges for name, edges in self.edges.items()}
        return arrays | {f"vectors/{name}": np.stack(scale) for name, scale in self.vectors.items()}

    def _unpack(self, data: Interactions, arrays: Mapping[str, Any]) -> None:
        self.mean, self.spread, self.low, self.high = (arrays[name] for name in ("mean", "spread", "low", "high"))
        self.seen = [arrays[f"seen/{at}"] for at in range(len(data.ids))]
        self.lists = {name: arrays[f"lists/{name}"] for name in data.lists}
        self.edges = {name: arrays[f"edges/{name}"] for name in data.numbers if f"edges/{name}" in arrays}
        scales = {name: arrays[f"vectors/{name}"] for name in data.vectors}
        self.vectors = {name: (scale[0], scale[1]) for name, scale in scales.items()}

    def __init__(self, data: Interactions, part: Part) -> None:
        self.seen = [np.zeros(len(keys), dtype=bool) for keys in data.id_keys]
        self.low = np.full(len(data.numbers), -np.inf, dtype=np.float32)
        self.high = np.full(len(data.numbers), np.inf, dtype=np.float32)
        self.edges = {}
        train = part == 0
        for at, name in enumerate(data.numbers):
            column = data.columns[name]
            if column.outliers or column.buckets:
                values = np.ascontiguousarray(data.values[:, at])[train]
                values = values[~np.isnan(values)]
                if column.outliers and len(values):
                    self.low[at], self.high[at] = np.quantile(values, [column.outliers, 1 - column.outliers])
                if column.buckets and len(values):
                    cuts = np.quantile(values, np.linspace(0, 1, column.buckets + 1)[1:-1])
                    self.edges[name] = np.unique(cuts).astype(np.float32)
        count, total, square = (np.zeros(len(data.numbers)) for _ in range(3))
        for number, block in enumerate(blocks(data.codes, AT_ONCE) if data.ids else ()):
            inside = train[number * AT_ONCE : (number + 1) * AT_ONCE]
            for seen, codes in zip(self.seen, np.ascontiguousarray(block.T), strict=True):
                own = codes[inside]
                seen[own[own >= 0]] = True
        for number, block in enumerate(blocks(data.values, AT_ONCE) if data.numbers else ()):
            inside = train[number * AT_ONCE : (number + 1) * AT_ONCE]
            if inside.any():
                values = np.clip(block[inside], self.low, self.high).astype(np.float64)
                there = ~np.isnan(values)
                count += there.sum(0)
                values[~there] = 0.0
                total += values.sum(0)
                square += np.square(values).sum(0)
        mean = total / np.maximum(count, 1)
        spread = np.sqrt(np.maximum(square / np.maximum(count, 1) - mean**2, 0.0))
        self.mean = mean.astype(np.float32)
        self.spread = np.where(spread > 1e-6, spread, 1.0).astype(np.float32)
        self.lists = {}
        for name, lists in data.lists.items():
            mask = np.zeros(len(lists.keys), dtype=bool)
            own = np.repeat(train, np.diff(lists.starts))
            codes = lists.codes[own]
            mask[codes[codes >= 0]] = True
            self.lists[name] = mask
        self.vectors = {}
        for name, vectors in data.vectors.items():
            kept = vectors[train]
            one = np.ones(vectors.shape[1], np.float32)
            center, width = (kept.mean(0), kept.std(0)) if len(kept) else (np.zeros_like(one), one)
            self.vectors[name] = (center, np.where(width > 1e-6, width, one))
