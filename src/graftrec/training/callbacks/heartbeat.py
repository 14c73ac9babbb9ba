"""The callback that says, batch by batch, that this process goes on; see `graftrec.training.distributed.liveness`."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn

from graftrec.training.distributed import liveness
from graftrec.utils.fault_injection import strike


class Pulse(pl.Callback):
    """Beats at every step of a fit or an evaluation, where each process waits for the others."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """From here on all are in step."""
        liveness.step(True)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """From here on the first process writes and shows things, as long as that takes."""
        liveness.step(False)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, number: int) -> None:
        """Where a test's fault may strike."""
        strike("train")
        liveness.beat()

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Any) -> None:
        """Half of a step."""
        liveness.beat()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A step."""
        liveness.beat()

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Where a test's fault may strike."""
        if trainer.state.fn == TrainerFn.FITTING:
            strike("val")
        liveness.beat()

    def on_test_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """One more batch."""
        liveness.beat()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Everything is judged."""
        liveness.beat()
