"""The contract of every dataset."""

from __future__ import annotations

from abc import ABC, abstractmethod

from graftrec.data.table import Interactions


class Dataset(ABC):
    """Files and what their columns mean. How they are split is the protocol's."""

    @abstractmethod
    def read(self) -> Interactions:
        """Read and clean the files.

        Raises:
            DataError: a file is missing or cannot be used.
        """
