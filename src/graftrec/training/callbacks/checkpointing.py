"""What a fit leaves on disk: ``last.ckpt`` to go on from, ``best.ckpt`` to serve with; and how a signal ends it."""

from __future__ import annotations

import math
import signal
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.trainer.states import TrainerFn

from graftrec.training.checkpoints.checkpoint import BEST, LAST, verify
from graftrec.training.gradients import any_of
from graftrec.training.nonfinite import first_odd
from graftrec.utils.errors import DataError, Stopped, UserError
from graftrec.utils.signals import stop


class Keeper(Checkpoint):
    """Saves the state of a fit every so many seconds, at its end and when a signal asks for it; and the best weights.

    ``last.ckpt`` is saved only where Lightning can go on bit by bit: between two batches of an epoch, before a
    validation (which then begins anew) and between two epochs. Its loops restart right from the first; for the others
    their counters are written down as they are at such a place (`at_place`).

    Args:
        folder: for both files. monitored: whether ``val/score`` (higher is better) says what is best; otherwise
            nothing does, and the last weights count. every: seconds between two saves of ``last.ckpt``, at least 0.

    Attributes:
        score: of the best weights so far; None where no validation had a score: then the last weights count.
    """

    def __init__(self, folder: Path, monitored: bool, every: float = 300.0) -> None:
        if every < 0:
            raise ValueError(f"every should be at least 0 seconds. Found {every}.")
        self.folder, self.monitored, self.every = folder, monitored, every
        self.score: float | None = None
        self._place, self._saved, self._better = "", 0.0, False

    @property
    def path(self) -> Path:
        """The checkpoint with the weights that count."""
        return self.folder / (LAST if self.score is None else BEST)

    def state_dict(self) -> dict[str, Any]:
        """The best score."""
        return {"score": self.score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with a best score, if the weights that had it are there."""
        self.score = state_dict["score"]
        if self.score is not None:
            try:
                verify(self.folder / BEST)
            except DataError:  # the best of what is still to come then counts
                self.score = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write down where the loops are, and how far the logs go."""
        at_place(checkpoint["loops"]["fit_loop"], self._place)
        loggers: list[Any] = trainer.loggers
        checkpoint.setdefault("graftrec", {})["logs"] = [logger.state_dict() for logger in loggers]

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the logs back to where they were."""
        states = checkpoint["graftrec"].get("logs")
        if states is None:
            raise UserError("this run was begun by a version that could not go on; start again with resume=null")
        loggers: list[Any] = trainer.loggers
        for logger, state in zip(loggers, states, strict=False):
            logger.load_state_dict(state)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """From now on signals wait for the end of a batch."""
        self._saved = time.monotonic()
        stop.listen()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save between two batches. Not where gradients are half summed up, or where something else follows."""
        loop = trainer.fit_loop.epoch_loop
        fetcher: Any = trainer.fit_loop._data_fetcher
        last = loop.batch_progress.is_last_batch or loop._num_ready_batches_reached()
        if not last and not loop._should_accumulate() and not loop._should_check_val_fx(fetcher):
            self._look(trainer, "batch")

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save before a validation. DataError where a weight is not finite: nothing will come of it any more."""
        if trainer.state.fn == TrainerFn.FITTING:
            if (odd := first_odd(dict(pl_module.named_parameters()))) is not None:
                where = f"at step {trainer.global_step}"
                raise DataError("TRAIN-002", f"{odd} is not finite {where}; a lower optimizer.lr may help")
            self._look(trainer, "validation")

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop if that was asked for; the validation will begin anew."""
        if trainer.state.fn == TrainerFn.FITTING and any_of(stop.number is not None)[0]:
            self._end(trainer, "validation")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep these weights if they are the best; those with a score of NaN never are."""
        if not self.monitored or trainer.state.fn != TrainerFn.FITTING:
            return
        score = float(trainer.callback_metrics.get("val/score", math.nan))
        if math.isfinite(score) and (self.score is None or score > self.score):
            self.score, self._better = score, True
            trainer.save_checkpoint(self.folder / BEST, weights_only=True)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save between two epochs, also if the best weights are new: to them belongs a state that knows of them."""
        if trainer.current_epoch > 0:
            self._look(trainer, "epoch", due=self._better)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the end."""
        self._save(trainer, "epoch")
        stop.listening = False
        if any_of(stop.number is not None)[0]:
            raise self._stopped(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Signals are exceptions again."""
        stop.listening = False

    def _look(self, trainer: pl.Trainer, place: str, due: bool = False) -> None:
        late = trainer.is_global_zero and time.monotonic() - self._saved >= self.every
        asked, late = any_of(stop.number is not None, late)  # one process was: all stop after the same batch
        if asked:
            self._end(trainer, place)
        if due or late:
            self._save(trainer, place)

    def _end(self, trainer: pl.Trainer, place: str) -> None:
        self._save(trainer, place)
        raise self._stopped(trainer)

    @staticmethod
    def _stopped(trainer: pl.Trainer) -> Stopped:
        module: Any = trainer.lightning_module
        return Stopped(stop.number or signal.SIGTERM, f" at step {trainer.global_step} of phase {module.phase.name}")

    def _save(self, trainer: pl.Trainer, place: str) -> None:
        self._place = place
        if place == "batch":  # Lightning logs it after this hook; the same values once more change nothing
            trainer._logger_connector.update_train_step_metrics()
        trainer.save_checkpoint(self.folder / LAST, weights_only=False)
        self._saved, self._better = time.monotonic(), False


def at_place(loops: dict[str, Any], place: str) -> None:
    """Turn what Lightning's fit loop counted, in the middle of a hook, into what it restarts from.

    After a ``batch`` it counts right. Before or in a ``validation``, that is to begin anew: Lightning recognises a
    validation in whose first batch it was stopped, and would skip any other. Between two epochs (``epoch``) all
    begun ones are complete.
    """
    if place == "validation":
        progress = loops["epoch_loop.val_loop.batch_progress"]
        progress["total"] |= {"ready": 1, "started": 1, "processed": 0, "completed": 0}
        progress["current"] |= dict.fromkeys(progress["current"], 0)
        progress["is_last_batch"] = False
    if place == "epoch":
        for count in loops["epoch_progress"].values():
            count |= dict.fromkeys(count, count["processed"])
