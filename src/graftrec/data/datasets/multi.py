"""Several datasets side by side."""

from __future__ import annotations

from collections.abc import Mapping

from graftrec.data.datasets.base import Dataset
from graftrec.data.tables.interactions import Interactions


class Several(Dataset):
    """Each part is a domain, or a platform, with columns of its own.

    Args:
        parts: name -> dataset; at least two.
    """

    def __init__(self, parts: Mapping[str, Dataset]) -> None:
        if len(parts) < 2:
            raise ValueError(f"parts should be at least two datasets. Found {len(parts)}.")
        self._parts = dict(parts)

    def read(self) -> Interactions:
        return next(iter(self.parts().values()))

    def parts(self) -> dict[str, Interactions]:
        return {name: dataset.read() for name, dataset in self._parts.items()}
