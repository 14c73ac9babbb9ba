"""The callback that ends a trial which its pruner gives up."""

from __future__ import annotations

from collections.abc import Sequence

import pytorch_lightning as pl

from graftrec.training.callbacks.optuna_trial import Trial, current
from graftrec.training.lightning_module import GraftModule
from graftrec.transfer.base import Phase
from graftrec.utils.errors import Pruned


class Pruning(pl.Callback):
    """Reports ``val/score`` after each epoch and raises `Pruned`, in every process, if the trial is to end.

    Args:
        first: number of the first epoch, counted over the phases of a plan.
    """

    def __init__(self, trial: Trial, first: int) -> None:
        self.trial, self.first = trial, first

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the score that was just logged."""
        if trainer.state.fn != "fit" or trainer.sanity_checking or not isinstance(pl_module, GraftModule):
            return
        score, epoch = pl_module.score(), self.first + trainer.current_epoch
        hopeless = trainer.is_global_zero and self.trial.is_hopeless(score, epoch)
        if trainer.strategy.broadcast(hopeless):
            raise Pruned(f"its pruner gave the trial up after epoch {epoch}, score {score:.6g}")


def pruning(phase: Phase, before: Sequence[Phase]) -> list[pl.Callback]:
    """The callback for a phase of a trial that trains targets, those ``before`` it in the plan counted; else none.

    A trial is judged by what it grafts: its twin is not pruned.
    """
    trial = current() if "target" in phase.roles and phase.name != "twin" else None
    first = sum(each.epochs for each in before if "target" in each.roles)
    return [] if trial is None else [Pruning(trial, first)]
