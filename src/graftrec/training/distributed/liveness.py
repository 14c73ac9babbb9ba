"""How far each of several processes is, in memory that they share with the one that watches them."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

SIZE = 16  # bytes of a process: how often it said that it goes on, and whether it keeps step with the others


class Beats:
    """The counters of ``count`` processes behind an open file that has no name."""

    def __init__(self, handle: int, count: int) -> None:
        self.handle, self.count = handle, count
        self._numbers = memoryview(mmap.mmap(handle, SIZE * count)).cast("q")

    @classmethod
    @contextmanager
    def made(cls, count: int) -> Iterator[Beats]:
        """New ones, all 0."""
        with tempfile.TemporaryFile() as file:
            os.truncate(file.fileno(), SIZE * count)
            yield cls(file.fileno(), count)

    def beat(self, rank: int) -> None:
        """Process ``rank`` goes on."""
        self._numbers[2 * rank] += 1

    def step(self, rank: int, together: bool) -> None:
        """From now on it keeps step with the others, which wait for it; or it does something of its own."""
        self._numbers[2 * rank + 1] = together
        self.beat(rank)

    def counts(self) -> list[int]:
        """How often each process has said that it goes on."""
        return list(self._numbers[::2])

    def together(self) -> bool:
        """Whether all of them are where they keep step."""
        return all(self._numbers[1::2])


@dataclass
class Patience:
    """Looks at counters from time to time; see `lost`."""

    seconds: float
    _seen: tuple[int, ...] = ()
    _since: float = 0.0

    def lost(self, beats: Beats, now: float) -> bool:
        """Whether all processes keep step, and none of them has gone on for so many ``seconds``."""
        return self.still(tuple(beats.counts()), beats.together(), now)

    def still(self, counts: tuple[int, ...], together: bool, now: float) -> bool:
        """The same of counters that were read elsewhere."""
        if counts != self._seen or not together:
            self._seen, self._since = counts, now
        return now - self._since >= self.seconds


def behind(counts: Sequence[int]) -> list[int]:
    """The ranks that others wait for: those that went on least often, or none if all did as often."""
    least = min(counts)
    return [rank for rank, count in enumerate(counts) if count == least] if least < max(counts) else []


_own: tuple[Beats, int] | None = None  # of this process, if it is watched


def watched(beats: Beats, rank: int) -> None:
    """From now on `beat` and `step` are of this process."""
    global _own
    _own = beats, rank


def beat() -> None:
    """This process goes on; nothing where nobody watches."""
    if _own is not None:
        _own[0].beat(_own[1])


def step(together: bool) -> None:
    """This process keeps step with others from now on, or does not any more; see `Beats.step`."""
    if _own is not None:
        _own[0].step(_own[1], together)
