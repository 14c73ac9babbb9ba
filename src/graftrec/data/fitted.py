"""What is fitted on training rows alone: which ids were seen, scales, quantiles."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from graftrec.data.splits.base import Part
from graftrec.data.table import Floats, Interactions

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

    def __init__(self, data: Interactions, part: Part) -> None:
        self.seen = [np.zeros(len(keys), dtype=bool) for keys in data.id_keys]
        self.low = np.full(len(data.numbers), -np.inf, dtype=np.float32)
        self.high = np.full(len(data.numbers), np.inf, dtype=np.float32)
        self.edges: dict[str, Floats] = {}
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
        for start in range(0, data.size, AT_ONCE):
            block = slice(start, start + AT_ONCE)
            inside = train[block]
            if not inside.any():
                continue
            if data.ids:
                codes = data.codes[block][inside]
                for seen, column_codes in zip(self.seen, codes.T, strict=True):
                    seen[column_codes[column_codes >= 0]] = True
            if data.numbers:
                values = np.clip(data.values[block][inside], self.low, self.high).astype(np.float64)
                there = ~np.isnan(values)
                count += there.sum(0)
                values[~there] = 0.0
                total += values.sum(0)
                square += np.square(values).sum(0)
        mean = total / np.maximum(count, 1)
        spread = np.sqrt(np.maximum(square / np.maximum(count, 1) - mean**2, 0.0))
        self.mean = mean.astype(np.float32)
        self.spread = np.where(spread > 1e-6, spread, 1.0).astype(np.float32)
        self.lists: dict[str, Mask] = {}
        for name, lists in data.lists.items():
            mask = np.zeros(len(lists.keys), dtype=bool)
            own = np.repeat(train, np.diff(lists.starts))
            codes = lists.codes[own]
            mask[codes[codes >= 0]] = True
            self.lists[name] = mask
        self.vectors: dict[str, tuple[Floats, Floats]] = {}
        for name, vectors in data.vectors.items():
            kept = vectors[train]
            width = np.ones(vectors.shape[1], np.float32)
            spread = kept.std(0) if len(kept) else width
            mean = kept.mean(0) if len(kept) else np.zeros_like(width)
            self.vectors[name] = (mean, np.where(spread > 1e-6, spread, width))
