"""The contract of every stream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from graftrec.data.batch import Batch
from graftrec.data.schema import Edges, Stream
from graftrec.utils.seeds import generator

Stage = Literal["val", "test"]
EVERY = slice(None)


class Part(NamedTuple):
    """Which part of every evaluation batch is wanted: that of process ``rank`` of ``world``."""

    rank: int = 0
    world: int = 1

    def of(self, count: int) -> slice:
        """Its rows of ``count``, which lie side by side; perhaps none."""
        return slice(count * self.rank // self.world, count * (self.rank + 1) // self.world)


WHOLE = Part()


class StreamData(ABC):
    """Training rows that can be asked for by number, and batches to evaluate on.

    Attributes:
        schema: what the columns of a batch mean.
        rows: number of training rows.
        splits: rows of train, val and test.
        sample: at most 4,096 training rows, drawn once: what scales and priors are fitted on.
        baselines: columns of evaluation batches that are predictions themselves, to stand beside a model's.
        lengths: (n,) int64, how long each training row is, where a batch is padded to the longest of its rows.
    """

    schema: Stream
    rows: int
    splits: dict[str, int]
    sample: Batch
    baselines: tuple[str, ...] = ()
    lengths: Tensor | None = None

    @abstractmethod
    def batch(self, index: Tensor, random: torch.Generator, mine: slice = EVERY) -> Batch:
        """Training rows ``index`` (B,); whatever is drawn for them comes from ``random``.

        Args:
            mine: those of them that are wanted; what is drawn for these does not depend on it, so that several
                processes have together what one would have.
        """

    def draw_sample(self, seed: int, rows: int = 4096) -> Batch:
        """Training rows drawn with the split's seed."""
        random = generator(seed, self.schema.name, "sample")
        return self.batch(torch.randint(self.rows, (min(self.rows, rows),), generator=random), random)

    def edges(self) -> Edges | None:
        """Who chose what in training; none where rows are not about users and items."""
        return None

    @abstractmethod
    def labels(self, column: str) -> Tensor:
        """A label of all training rows: (n,), for the baselines that need nothing else."""

    @abstractmethod
    def evaluation(self, stage: Stage, part: Part = WHOLE) -> Iterator[Batch]:
        """Batches of a stage, each row once; one with ``relevant`` (B, N) asks for a ranking of ``catalogue`` (N,).

        Args:
            part: of each batch; for all parts there are as many batches.
        """
