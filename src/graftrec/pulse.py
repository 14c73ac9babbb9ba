"""The callback that says, batch by batch, that this process goes on; see `graftrec.beats`."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn

from graftrec import beats
from graftrec.faults import strike


class Pulse(pl.Callback):
    """Beats at every step of a fit or an evaluation, where each process waits for the others."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """From here on all are in step."""
        beats.step(True)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """From here on the first process writes and shows things, as long as that takes."""
        beats.step(False)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, number: int) -> None:
        """Where a test's fault may strike."""
        strike("train")
        beats.beat()

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Any) -> None:
        """Half of a step."""
        beats.beat()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A step."""
        beats.beat()

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Where a test's fault may strike."""
        if trainer.state.fn == TrainerFn.FITTING:
            strike("val")
        beats.beat()

    def on_test_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """One more batch."""
        beats.beat()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Everything is judged."""
        beats.beat()
