"""Run a transfer strategy: one fit per phase, the best weights of each, and the evaluation at the end."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from graftrec.assemble import assemble, learnt_in, streams_of, task_trees
from graftrec.begin import begin
from graftrec.checkpoint import keep_best, replace_weights, weights
from graftrec.config import build
from graftrec.cost import Cost, parameters_of
from graftrec.data.protocols.base import Protocol
from graftrec.data.seeds import derived
from graftrec.metrics.pointwise import Value
from graftrec.module import GraftModule
from graftrec.pruning import pruning
from graftrec.report.progress import PhaseProgress
from graftrec.sharding import load, state_of
from graftrec.tasks.base import Task
from graftrec.transfer.base import Phase

Results = dict[str, dict[str, Value]]


@dataclass
class Arm:
    """What one training plan came to: metrics and per-user values of each task, and what it cost."""

    val: Results = field(default_factory=dict)
    test: Results = field(default_factory=dict)
    units: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    score: float = float("nan")
    seconds: float = 0.0
    rows_per_second: float = 0.0
    evaluation: dict[str, float] = field(default_factory=dict)  # seconds and rows_per_second of the test
    parameters: dict[str, int] = field(default_factory=dict)  # of each part
    flops: float = 0.0  # of all phases
    cost: dict[str, Any] = field(default_factory=dict)  # of the last phase's training: see `Cost`
    carried: list[str] = field(default_factory=list)
    tasks: dict[str, Task] = field(default_factory=dict)
    ready: list[Ready] = field(default_factory=list)  # phases that the test has not judged yet


@dataclass(frozen=True)
class Ready:
    """A phase that has ended, its module with its best weights, and the tasks that are judged in it."""

    phase: Phase
    module: GraftModule
    trainer: pl.Trainer
    tasks: list[str]


def run_plan(
    tree: Mapping[str, Any],
    protocol: Protocol,
    plan: Sequence[Phase],
    folder: Path,
    loggers: Sequence[Any],
    progress: Callable[[str], PhaseProgress],
) -> Arm:
    """Train all phases of ``plan`` and evaluate each task in the last phase that trains it."""
    arm = train_plan(tree, protocol, plan, folder, loggers, progress)
    test_plan(arm, tree, protocol)
    return arm


def train_plan(
    tree: Mapping[str, Any],
    protocol: Protocol,
    plan: Sequence[Phase],
    folder: Path,
    loggers: Sequence[Any],
    progress: Callable[[str], PhaseProgress],
) -> Arm:
    """Train all phases of ``plan`` and choose their weights; the test's rows are not looked at."""
    arm = Arm()
    states: dict[str, dict[str, Tensor]] = {}
    last_of = {role: phase.name for phase in plan for role in phase.roles}
    for number, phase in enumerate(plan):
        module, lines = begin(tree, protocol, phase, states)
        arm.carried += lines
        module.log_every = int(tree["trainer"].get("log_every_n_steps", 50))
        final = number == len(plan) - 1
        where = folder if final else folder / phase.name
        trainer, bar, cost = _fit(tree, protocol, module, phase, where, loggers, progress, plan[:number])
        arm.seconds += bar.seconds
        arm.rows_per_second = bar.rows_per_second
        arm.cost, arm.flops = cost.found(), arm.flops + cost.flops
        arm.carried += [line for line in (means.finish(module) for means in phase.means) if line]
        states[phase.name] = state_of(module)
        if phase.means:  # the checkpoint is the model that is evaluated
            replace_weights(best_of(trainer), states[phase.name])
        ours = [name for name in module.tasks if last_of[module.roles[name]] == phase.name]
        if ours:
            with quiet():
                trainer.validate(module, datamodule=protocol, verbose=False)
            arm.val |= {name: module.results[name] for name in ours}
            if "target" in phase.roles:
                arm.score = module.score()
            arm.ready.append(Ready(phase, module, trainer, ours))
        arm.parameters = parameters_of(module)
    return arm


def test_plan(arm: Arm, tree: Mapping[str, Any], protocol: Protocol) -> None:
    """Evaluate on the test what is ready, and forget it: metrics and values per user go into ``arm``."""
    for ready in arm.ready:
        streams = streams_of(tree, ready.phase.roles)
        protocol.use(streams, streams, int(tree["seed"]))
        start = time.monotonic()
        with quiet():
            ready.trainer.test(ready.module, datamodule=protocol, verbose=False)
        seconds = time.monotonic() - start
        rows = sum(protocol.streams[name].splits["test"] for name in streams)
        arm.evaluation = {"seconds": seconds, "rows_per_second": rows / seconds}
        arm.test |= {name: ready.module.results[name] for name in ready.tasks}
        arm.units |= {name: dict(ready.module.task(name).units()) for name in ready.tasks}
        arm.tasks |= {name: ready.module.task(name) for name in ready.tasks}
    arm.ready = []


def restore(tree: Mapping[str, Any], protocol: Protocol, plan: Sequence[Phase], folder: Path) -> Arm:
    """What `train_plan` left of the targets in ``folder``, ready for the test; another process may have trained it."""
    arm, names = Arm(), list(task_trees(tree, ("target",)))
    phase = [phase for phase in plan if "target" in phase.roles][-1]
    module = assemble(tree, protocol, phase.roles, int(tree["seed"]), learnt_in(tree, phase))
    for means in phase.means:
        if means.stays:
            means.build(module)
    where = folder if phase is plan[-1] else folder / phase.name
    best = where / "best.ckpt"
    load(module, weights(best if best.is_file() else where / "last.ckpt"))
    with quiet():
        trainer: pl.Trainer = build(
            tree["trainer"],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            default_root_dir=str(folder),
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
    arm.ready.append(Ready(phase, module, trainer, names))
    return arm


def _fit(
    tree: Mapping[str, Any],
    protocol: Protocol,
    module: GraftModule,
    phase: Phase,
    folder: Path,
    loggers: Sequence[Any],
    progress: Callable[[str], PhaseProgress],
    before: Sequence[Phase],
) -> tuple[pl.Trainer, PhaseProgress, Cost]:
    """One fit; the module ends with its best weights."""
    has_target = any(role == "target" for role in module.roles.values())
    paced = streams_of(tree, ("target",) if has_target else phase.roles)
    protocol.use(streams_of(tree, phase.roles), paced, int(tree["seed"]))
    for logger in loggers:
        logger.phase(phase.name)
    bar = progress(phase.name)
    cost = Cost(bar)
    best = keep_best(folder, monitored=has_target)
    # dropout continues nothing: the same phase gives the same run whatever was trained before it
    torch.manual_seed(derived(int(tree["seed"]), "dropout", phase.name))
    torch.set_flush_denormal(True)  # gradients of probabilities near 0 underflow, and a CPU is 10 times slower there
    with quiet():
        trainer: pl.Trainer = build(
            tree["trainer"],
            max_epochs=phase.epochs,
            logger=list(loggers),
            callbacks=[bar, cost, best, *pruning(phase, before)],
            default_root_dir=str(folder),
            num_sanity_val_steps=0,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        trainer.fit(module, datamodule=protocol)
    if trainer.interrupted:
        raise KeyboardInterrupt
    load(module, weights(best_of(trainer)))
    return trainer, bar, cost


def best_of(trainer: pl.Trainer) -> Path:
    """The checkpoint with the weights that count."""
    best = trainer.checkpoint_callback
    if not isinstance(best, ModelCheckpoint):
        raise TypeError(f"a phase should keep checkpoints. Found {type(best).__name__}.")
    return Path(best.best_model_path or best.last_model_path)


class quiet(warnings.catch_warnings):  # noqa: N801
    """Leave out what Lightning says about choices that are ours."""

    def __enter__(self) -> None:
        super().__enter__()
        logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
        warnings.filterwarnings("ignore", ".*LeafSpec.*")  # torch deprecated what Lightning 2.6.6 walks batches with
        warnings.filterwarnings("ignore", ".*smaller than the logging interval.*")  # a small table
        warnings.filterwarnings("ignore", ".*in eval mode at the start of training.*")  # what a strategy keeps still
        warnings.filterwarnings("ignore", ".*sync_dist=True.*")  # metrics are of all processes before they are logged
        warnings.filterwarnings("ignore", ".*exists and is not empty.*")  # phases and jobs share a folder on purpose


def twin_plan(plan: Sequence[Phase]) -> list[Phase]:
    """The target alone, for as many passes over it as the plan makes in all."""
    epochs = sum(phase.epochs for phase in plan if "target" in phase.roles)
    return [Phase("twin", ("target",), epochs)]


def has_transfer(tree: Mapping[str, Any]) -> bool:
    """Whether there is anything that could help a target."""
    return bool(task_trees(tree, ("source", "shared")))
