"""What a dataset hands to a protocol: cleaned rows, and what their columns mean."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

DAY = 86_400.0


@dataclass(frozen=True, eq=False)
class Interactions:
    """One interaction a row, cleaned, in an order that says nothing (time ties are broken by the item).

    Attributes:
        name: of the dataset.
        rows: ``user``, ``item``, ``time`` (float64 days since ``start``) and ``basket`` as far as there are any, and
            every column named in ``ids``, ``numbers`` and ``labels``.
        labels: column -> ``binary`` or ``number``, for tasks on single rows.
        users, items: one row per ``user`` / ``item``, the other columns are their attributes.
        start: the moment of day 0, as text.
        refused: reason -> rows that were dropped.
    """

    name: str
    rows: pl.DataFrame
    ids: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    users: pl.DataFrame | None = None
    items: pl.DataFrame | None = None
    start: str = ""
    refused: dict[str, int] = field(default_factory=dict)

    def has(self, *columns: str) -> bool:
        """Whether the rows have all these columns."""
        return set(columns) <= set(self.rows.columns)
