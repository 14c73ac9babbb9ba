"""The contract of every stream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from graftrec.batch import Batch
from graftrec.schema import Stream

Stage = Literal["val", "test"]


class StreamData(ABC):
    """Training rows that can be asked for by number, and batches to evaluate on.

    Attributes:
        schema: what the columns of a batch mean.
        rows: number of training rows.
        splits: rows of train, val and test.
    """

    schema: Stream
    rows: int
    splits: dict[str, int]

    @abstractmethod
    def batch(self, index: Tensor, generator: torch.Generator) -> Batch:
        """Training rows ``index`` (B,); whatever is drawn for them comes from ``generator``."""

    @abstractmethod
    def evaluation(self, stage: Stage) -> Iterator[Batch]:
        """Batches of a stage, each row once; one with ``relevant`` (B, N) asks for a ranking of ``catalogue`` (N,)."""
