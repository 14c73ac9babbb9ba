"""Raw ids and the numbers that stand for them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

Ids = npt.NDArray[np.int64]


class Vocabulary:
    """Raw id <-> row number from 1; 0 is unknown. Fitted on training rows only, sorted, so that row order is no matter.

    Args:
        values: the raw ids of the training rows; nulls are unknown.
    """

    def __init__(self, values: pl.Series) -> None:
        self.keys: pl.Series = values.drop_nulls().unique().sort()
        self._lookup = pl.DataFrame(
            {"key": self.keys, "number": pl.Series(np.arange(1, len(self.keys) + 1, dtype=np.int64))}
        )

    def __len__(self) -> int:
        """Rows that a table of these ids needs, the unknown row among them."""
        return len(self.keys) + 1

    def encode(self, values: pl.Series) -> Ids:
        """Row numbers (n,) int64, 0 where an id was not seen."""
        key = values.cast(self.keys.dtype, strict=False)
        if values.dtype.is_float() and key.dtype.is_integer():  # 3.7 is no id 3
            key = pl.DataFrame({"key": key, "raw": values}).select(pl.when(pl.col("key") == pl.col("raw")).then("key"))[
                "key"
            ]
        asked = pl.DataFrame({"key": key})
        found = asked.join(self._lookup, on="key", how="left", maintain_order="left")["number"]
        return found.fill_null(0).to_numpy(writable=True)

    def decode(self, numbers: Ids) -> pl.Series:
        """Raw ids of row numbers; null for 0."""
        place = pl.Series(np.where(numbers > 0, numbers - 1, 0))
        raw = self.keys.gather(place) if len(self.keys) else pl.Series([None] * len(numbers), dtype=self.keys.dtype)
        return pl.DataFrame({"raw": raw, "known": numbers > 0}).select(pl.when("known").then("raw"))["raw"]
