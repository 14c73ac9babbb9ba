"""CSV for people: a text that a spreadsheet would take for a formula begins with an apostrophe (CWE-1236).

Numbers are left alone, and `restored` undoes it. Parquet, for machines, needs none of this.
"""

from __future__ import annotations

import polars as pl

FORMULA = r"('*[=+\-@\t\r\n])"  # apostrophes before it as well, so that it can be undone
TEXTS = (pl.String, pl.Categorical, pl.Enum)


def guarded(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with an apostrophe before each text that looks like a formula."""
    return frame.with_columns(pl.col(TEXTS).cast(pl.String).str.replace(f"^{FORMULA}", "'${1}"))


def restored(frame: pl.DataFrame) -> pl.DataFrame:
    """What `guarded` was given."""
    return frame.with_columns(pl.col(TEXTS).cast(pl.String).str.replace(f"^'{FORMULA}", "${1}"))
