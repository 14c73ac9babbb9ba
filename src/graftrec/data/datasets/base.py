"""The contract of every dataset."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from graftrec.data.tables.interactions import Interactions


class Dataset(ABC):
    """Files and what their columns mean. How they are split is the protocol's.

    Attributes:
        origin: where the files come from, and under which licence.
    """

    origin: ClassVar[str] = ""

    @abstractmethod
    def read(self) -> Interactions:
        """Read and clean the files.

        Raises:
            DataError: a file is missing or cannot be used.
        """

    def parts(self) -> dict[str, Interactions]:
        """Name -> table; one, unless the dataset is made of several."""
        return {"": self.read()}
