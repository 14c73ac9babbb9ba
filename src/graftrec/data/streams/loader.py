"""One batch of every stream per step, in an order that a seed and a position decide."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import torch
import torch.distributed as dist

from graftrec.data.batch import Batch
from graftrec.data.streams.base import Part, Stage, StreamData
from graftrec.utils.seeds import generator

Mixing = Literal["equal", "proportional"]
TOGETHER = 50  # batches whose rows are sorted by their length: the more, the less padding and the less mixing


class TrainLoader:
    """Training batches ``{stream: Batch}``; an epoch is one pass over the streams in ``paced_by``.

    Every stream shuffles and draws with seeds of its own (from its name), so the batches of a target are the same
    whatever trains beside it. A stream with fewer rows starts over, newly shuffled. Rows that have a length come
    into batches with others of about theirs.

    Args:
        streams: what to draw from. paced_by: names of those that an epoch passes once (the largest decides).
        batch_size: rows of the pacing streams per step, over all processes.
        mixing: rows of the others per step: ``equal`` the same number; ``proportional`` as many as let each pass once
            an epoch.
        seed: of the order and of everything drawn.
        limit: the most steps of an epoch, or a float for its share of a pass; the next epoch then goes on with the pass
            where this one ended, so that all rows have their turn.

    The position (``epoch``, ``step``) can be saved and set; iteration goes on from there.
    """

    def __init__(
        self,
        streams: Mapping[str, StreamData],
        paced_by: Sequence[str],
        batch_size: int,
        mixing: Mixing = "proportional",
        seed: int = 0,
        limit: int | float = 1.0,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size should be at least 1. Found {batch_size}.")
        self.streams, self.seed = dict(streams), seed
        whole = math.ceil(max(streams[name].rows for name in paced_by) / batch_size)
        self.sizes = dict.fromkeys(streams, batch_size)
        if mixing == "proportional":
            for name in set(streams) - set(paced_by):
                self.sizes[name] = math.ceil(streams[name].rows / whole)
        self.steps = min(limit, whole) if isinstance(limit, int) else int(whole * limit)
        if self.steps < 1:
            raise ValueError(f"an epoch should have at least 1 step. Found {limit} of {whole}.")
        self.epoch = self.step = 0

    def __len__(self) -> int:
        """Steps of an epoch."""
        return self.steps

    def __iter__(self) -> Iterator[dict[str, Batch]]:
        rank, world = place()
        order: dict[str, tuple[int, torch.Tensor]] = {}
        for step in range(self.step, self.steps):
            batches = {}
            for name, stream in self.streams.items():
                index = self._index(name, self.epoch * self.steps + step, order)
                random = generator(self.seed, name, "draw", self.epoch, step, 0)  # the same for all processes
                batches[name] = stream.batch(index, random, slice(rank, None, world))
            self.step = step + 1
            if self.step == self.steps:
                self.epoch, self.step = self.epoch + 1, 0
            yield batches

    def _index(self, name: str, step: int, order: dict[str, tuple[int, torch.Tensor]]) -> torch.Tensor:
        """Rows of a stream at a step since the start: its passes are laid end to end, each cut into whole batches."""
        rows, size = self.streams[name].rows, self.sizes[name]
        per_pass = math.ceil(rows / size)
        done, at = divmod(step, per_pass)
        if order.get(name, (-1,))[0] != done:
            random = generator(self.seed, name, "order", done)
            order[name] = (done, shuffled(rows, size, self.streams[name].lengths, random))
        return order[name][1][at * size : (at + 1) * size]

    def state_dict(self) -> dict[str, int]:
        """The position."""
        return {"epoch": self.epoch, "step": self.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from a position."""
        self.epoch, self.step = state["epoch"], state["step"]


def shuffled(rows: int, size: int, lengths: torch.Tensor | None, random: torch.Generator) -> torch.Tensor:
    """An order (rows,) of all rows, of which each ``size`` are a batch.

    Where there are ``lengths`` (rows,), every `TOGETHER` batches of the shuffled rows are sorted by length, and then
    the batches are shuffled. The rows of the last batch, which is not a full one, are any.
    """
    order = torch.randperm(rows, generator=random)
    batches = rows // size
    if lengths is None or batches < 2:
        return order
    full, rest = order[: batches * size], order[batches * size :]
    group = torch.arange(len(full)) // (size * TOGETHER)
    key = group * (int(lengths.max()) + 1) + lengths[full]
    full = full[torch.argsort(key, stable=True)].view(batches, size)
    return torch.cat([full[torch.randperm(batches, generator=random)].flatten(), rest])


class EvaluationLoader:
    """Each row of a stage once, as batches ``{stream: Batch}`` of one stream each; this process has a part of each."""

    def __init__(self, streams: Mapping[str, StreamData], stage: Stage) -> None:
        self.streams, self.stage = dict(streams), stage

    def __iter__(self) -> Iterator[dict[str, Batch]]:
        for name, stream in self.streams.items():
            for batch in stream.evaluation(self.stage, Part(*place())):
                yield {name: batch}


def place() -> tuple[int, int]:
    """The rank of this process, and how many there are."""
    several = dist.is_available() and dist.is_initialized()
    return (dist.get_rank(), dist.get_world_size()) if several else (0, 1)
