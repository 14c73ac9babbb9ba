"""How far many trainings are: one live line, or one plain line for each where nobody watches."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text


class JobsProgress:
    """Counts jobs, ``workers`` at a time; the time that remains is that of the jobs so far, for as many as are left.

    Those that run beside the one that ended are taken as half done.
    """

    def __init__(self, name: str, total: int, console: Console, workers: int = 1) -> None:
        self.name, self.total, self.console, self.workers = name, total, console, workers
        self.count, self._begun = 0, time.monotonic()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> JobsProgress:
        if self.console.is_terminal and self.total:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), MofNCompleteColumn(),
                TimeElapsedColumn(), TextColumn("{task.fields[left]}", markup=False), console=self.console,
            )  # fmt: skip
            self._task = self._bar.add_task(self.name, total=self.total, left="")
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def done(self, words: str) -> None:
        """One more is done."""
        self.count += 1
        left = self.left()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.count, left=f"{words}  {left}")
        else:
            self.console.print(Text(f"{self.count}/{self.total}  {words}  {left}"), soft_wrap=True)

    def left(self) -> str:
        """``1:05 left``."""
        done = max(1, self.count) + min(self.workers - 1, max(0, self.total - self.count)) / 2
        seconds = (time.monotonic() - self._begun) / done * max(0.0, self.total - done)
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d} left"
