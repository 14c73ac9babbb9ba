"""Where torchrun or SLURM started the processes nobody else watches them, so each tells the others how far it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from graftrec.training.distributed.liveness import Beats, Patience, behind, watched
from graftrec.training.distributed.rank import Rank

EVERY = 1.0  # seconds between two messages


class Watch(threading.Thread):
    """Writes this process's counter into the store at which all have met; the first process also reads the others'.

    Args:
        store: torch's, of which this thread is to have a connection of its own. lost: called in the first process with
            a line that names who stands still; it has to end the process, whose main thread waits for ever.
    """

    def __init__(self, rank: Rank, store: Any, patience: float, lost: Callable[[str], None] | None = None) -> None:
        super().__init__(daemon=True, name="watch")
        self.rank, self.store, self.lost = rank, store, lost
        self._patience = Patience(patience)
        self._memory = Beats.made(1)
        self._own = self._memory.__enter__()
        self._turn = 0
        watched(self._own, 0)

    def run(self) -> None:
        """Until the store is gone, with the process that has it."""
        with suppress(RuntimeError):  # torch's DistError is one
            while True:
                self._turn += 1
                said = f"{self._turn} {self._own.counts()[0]} {int(self._own.together())}"
                self.store.set(f"graftrec/{self.rank.number}", said)
                if self.lost is not None and (line := self._look()):
                    self.lost(line)
                time.sleep(EVERY)

    def _look(self) -> str:
        """Who stands still; empty as long as somebody goes on."""
        found = self._all()
        if not self._patience.still(tuple(count for _, count, _ in found), all(t for *_, t in found), time.monotonic()):
            return ""
        late = behind([count for _, count, _ in found])
        who = " and ".join(f"rank {number} of {self.rank.world}" for number in late)
        seconds = f"for {self._patience.seconds:g} seconds (patience)"
        if not who:
            return f"no rank of {self.rank.world} went on {seconds}"
        return f"{who} stood still {seconds}, and the others waited for it"

    def _all(self) -> list[tuple[int, int, bool]]:
        """Of each process how often it has written, its counter, and whether it keeps step."""
        said = self.store.multi_get([f"graftrec/{number}" for number in range(self.rank.world)])
        parts = [text.decode().split() for text in said]
        return [(int(turn), int(count), together == "1") for turn, count, together in parts]

    def fail(self, reason: str) -> None:
        """Tell the others why this process ends."""
        with suppress(RuntimeError):
            self.store.set(f"graftrec/{self.rank.number}/failed", reason)

    def blame(self) -> str:
        """Who has gone, and why as far as it has told; empty where nobody knows."""
        with suppress(RuntimeError):
            for number in range(self.rank.world):
                if self.store.check([f"graftrec/{number}/failed"]):
                    reason = self.store.get(f"graftrec/{number}/failed").decode()
                    return f"rank {number} of {self.rank.world}: {reason}"
            before = self._all()
            time.sleep(3 * EVERY)
            gone = [n for n, (one, other) in enumerate(zip(before, self._all(), strict=True)) if one[0] == other[0]]
            return " and ".join(f"rank {number} of {self.rank.world} is gone" for number in gone)
        return ""
