"""Raw ids and the numbers that stand for them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

Ids = npt.NDArray[np.int64]


def as_type(values: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Ids of another file as ids of this type, null where they are none: no 3 is 3.7, and no 7 is ``007``."""
    cast: pl.Series = values.cast(dtype, strict=False)
    if not dtype.is_integer() or values.dtype.is_integer():
        return cast
    back = cast.cast(pl.String) if values.dtype == pl.String else cast.cast(values.dtype, strict=False)
    same = (back == values).fill_null(False)
    return cast if same.all() else cast.set(~same, None)


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
        asked = pl.DataFrame({"key": as_type(values, self.keys.dtype)})
        found = asked.join(self._lookup, on="key", how="left", maintain_order="left")["number"]
        return found.fill_null(0).to_numpy(writable=True)

    def decode(self, numbers: Ids) -> pl.Series:
        """Raw ids of row numbers; null for 0."""
        place = pl.Series(np.where(numbers > 0, numbers - 1, 0))
        raw = self.keys.gather(place) if len(self.keys) else pl.Series([None] * len(numbers), dtype=self.keys.dtype)
        return pl.DataFrame({"raw": raw, "known": numbers > 0}).select(pl.when("known").then("raw"))["raw"]
