"""One live line per phase of training; one plain line per epoch where nobody watches."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks.progress.progress_bar import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text
from torch import Tensor

from graftrec.evaluation.report.console import Screen

LOSSES = ("source", "target", "shared")


def rows_in(batch: Any) -> int:
    """Rows of a batch: the first axis of a stream's tensors, summed over streams; a catalogue's rows are no rows."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.ndim else 0
    if isinstance(batch, Mapping):
        own = [value for name, value in batch.items() if isinstance(value, Tensor) and name != "catalogue"]
        if own:
            return max(rows_in(value) for value in own)
        return sum(rows_in(value) for value in batch.values())
    if isinstance(batch, Sequence) and not isinstance(batch, (str, bytes)):
        return rows_in(batch[0]) if batch else 0  # (batch, batch_idx, dataloader_idx) of a CombinedLoader
    return 0


class PhaseProgress(ProgressBar):
    """Phase, epoch, rows per second and the losses by role. Only rank 0 speaks."""

    def __init__(
        self, name: str = "training", console: Console | None = None, rows: Callable[[Any], int] = rows_in
    ) -> None:
        super().__init__()
        self.name, self.rows = name, rows
        self.console = console or Screen(file=sys.stdout)
        self.live = self.console.is_terminal
        self._enabled = True
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._rows, self._seconds, self._tick, self._drawn = 0, 0.0, 0.0, 0.0
        self._before: Mapping[str, Any] = {}  # losses of earlier epochs, which stay with the trainer

    @property
    def is_enabled(self) -> bool:
        """Whether anything is shown."""
        return self._enabled

    def disable(self) -> None:
        """Show nothing: Lightning calls this on every rank but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Show the line again."""
        self._enabled = True

    @property
    def seconds(self) -> float:
        """Seconds of training in the phase so far, without validation."""
        return self._seconds

    @property
    def rows_per_second(self) -> float:
        """Training speed of the phase so far, without the time validation took."""
        return self._rows / self._seconds if self._seconds > 0 else 0.0

    def state_dict(self) -> dict[str, Any]:
        """Rows and seconds so far."""
        return {"rows": self._rows, "seconds": self._seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from these."""
        self._rows, self._seconds = state_dict["rows"], state_dict["seconds"]

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Write above the line; the text is never read as markup."""
        if self._enabled:
            self.console.print(Text(" ".join(str(arg) for arg in args)))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the line of the phase."""
        self._tick, self._drawn = 0.0, 0.0
        if not (self._enabled and self.live):
            return
        self._bar = Progress(
            _Words("name"), BarColumn(bar_width=24), _Words("epoch"), _Words("speed"), _Words("loss"),
            TimeElapsedColumn(), _Words("less"), TimeRemainingColumn(), console=self.console, refresh_per_second=5,
        )  # fmt: skip
        batches = trainer.num_training_batches * (trainer.max_epochs or 1)
        total = batches if trainer.max_epochs != -1 and math.isfinite(batches) else None
        done = trainer.current_epoch * trainer.num_training_batches if total else 0
        self._task = self._bar.add_task(self.name, total=total, completed=int(done), **self._fields(trainer))
        self._bar.start()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """What has been logged so far is no loss of this epoch."""
        self._before = dict(trainer.callback_metrics)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Start the clock of a step."""
        self._tick = self._tick or time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the step's rows; draw at most five times a second (reading a loss waits for the device)."""
        now = time.monotonic()
        self._rows += self.rows(batch) * trainer.world_size  # the others have as many, or one less
        self._seconds, self._tick = self._seconds + now - self._tick, now
        if self._bar is None or self._task is None:
            return
        self._bar.advance(self._task)
        if now - self._drawn > 0.2:
            self._drawn = now
            self._bar.update(self._task, **self._fields(trainer))

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock: validation is no training."""
        self._tick = 0.0

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the epoch's losses: in the line, or as a line of its own."""
        self._tick = 0.0
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, **self._fields(trainer))
        elif self._enabled:
            fields = self._fields(trainer)
            words = [fields[key] for key in ("name", "epoch", "speed", "loss") if fields[key]]
            self.console.print(Text("  ".join(words)), soft_wrap=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the finished line on the screen."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, **self._fields(trainer))
        self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Give the terminal back before an error is shown."""
        self._stop()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give the terminal back."""
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None

    def _fields(self, trainer: pl.Trainer) -> dict[str, Any]:
        last = trainer.max_epochs if trainer.max_epochs not in (None, -1) else "?"
        current = min(trainer.current_epoch + 1, last) if isinstance(last, int) else trainer.current_epoch + 1
        found = {key: trainer.callback_metrics.get(f"train/loss/{key}") for key in LOSSES}
        new = {key: value for key, value in found.items() if value is not self._before.get(f"train/loss/{key}")}
        loss = "  ".join(f"{key} {float(value):.3g}" for key, value in new.items() if value is not None)
        speed = f"{self.rows_per_second:,.0f} rows/s" if self._rows else ""
        return {"name": self.name, "epoch": f"epoch {current}/{last}", "speed": speed, "loss": loss, "less": "<"}


class _Words(ProgressColumn):
    """A field of the task as plain text."""

    def __init__(self, field: str) -> None:
        super().__init__()
        self.field = field

    def render(self, task: Task) -> Text:
        """The field's text, never markup."""
        return Text(str(task.fields[self.field]), no_wrap=True)
