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
from torch import Tensor

from graftrec.config.instantiate import build
from graftrec.data.protocols.base import Protocol
from graftrec.tasks.base import Task
from graftrec.tasks.metrics.pointwise import Value
from graftrec.training.builder import assemble, learnt_in, streams_of, task_trees
from graftrec.training.callbacks.checkpointing import Keeper
from graftrec.training.callbacks.cost import Cost, parameters_of
from graftrec.training.callbacks.heartbeat import Pulse
from graftrec.training.callbacks.progress import PhaseProgress
from graftrec.training.callbacks.pruning import pruning
from graftrec.training.checkpoints import manifest
from graftrec.training.checkpoints.checkpoint import (
    BEST,
    LAST,
    PREVIOUS,
    SafeIO,
    check_data,
    check_fit,
    remove,
    save,
    verify,
    weights,
)
from graftrec.training.checkpoints.checkpoint import load as load_checkpoint
from graftrec.training.distributed import process_group
from graftrec.training.distributed.fsdp import load, state_of
from graftrec.training.lightning_module import GraftModule
from graftrec.training.nonfinite import first_odd
from graftrec.training.phase_setup import begin
from graftrec.transfer.base import ROLES, Phase
from graftrec.utils import atomic_files
from graftrec.utils.errors import DataError, UserError
from graftrec.utils.seeds import derived

DAMAGED = ("CKPT-002", "CKPT-003", "CKPT-006")
TWIN, LIMIT = "twin", "limit_train_batches"
OURS = (LIMIT, "callbacks")  # of the trainer: its loader ends epochs itself, and callbacks stand beside ours
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
    skipped: dict[str, int] = field(default_factory=dict)  # steps without a task, or without all: see `Finite`
    tasks: dict[str, Task] = field(default_factory=dict)
    ready: list[Ready] = field(default_factory=list)  # phases that the test has not judged yet


@dataclass(frozen=True)
class Ready:
    """A phase that has ended, its module with its best weights, and the tasks that are judged in it."""

    phase: Phase
    module: GraftModule
    trainer: pl.Trainer
    tasks: list[str]


@dataclass(frozen=True)
class Going:
    """How to go on with a plan that was stopped: ``exactly`` names the only checkpoint that is good enough."""

    say: Callable[[str], None] = print
    exactly: Path | None = None


def run_plan(
    tree: Mapping[str, Any],
    protocol: Protocol,
    plan: Sequence[Phase],
    folder: Path,
    loggers: Sequence[Any],
    progress: Callable[[str], PhaseProgress],
    going: Going | None = None,
) -> Arm:
    """Train all phases of ``plan`` and evaluate each task in the last phase that trains it."""
    arm = train_plan(tree, protocol, plan, folder, loggers, progress, going)
    test_plan(arm, tree, protocol)
    return arm


def train_plan(
    tree: Mapping[str, Any],
    protocol: Protocol,
    plan: Sequence[Phase],
    folder: Path,
    loggers: Sequence[Any],
    progress: Callable[[str], PhaseProgress],
    going: Going | None = None,
    judged: tuple[str, ...] = ROLES,
) -> Arm:
    """Train all phases of ``plan`` and choose their weights; the test's rows are not looked at.

    Args:
        judged: roles whose tasks are evaluated where a phase trains the target, which always is one of them.
        going: not None goes on with what is in ``folder``: ended phases are read, and the one that was stopped goes on
            from its last good checkpoint.
    """
    arm = Arm()
    states: dict[str, dict[str, Tensor]] = {}
    last_of = {role: phase.name for phase in plan for role in phase.roles}
    for number, phase in enumerate(plan):
        where = folder if number == len(plan) - 1 else folder / phase.name
        ended = read_ended(where, going) if going else None
        if ended is None:
            module, lines = begin(tree, protocol, phase, states)
            module.log_every = int(tree["trainer"].get("log_every_n_steps") or 50)  # null is Lightning's own
            start = start_of(where, going) if going else None
            known = lines, start, plan[:number], judged
            trainer, record = _fit(tree, protocol, module, phase, where, loggers, progress, *known)
        else:
            module, record = built(tree, protocol, phase, ended), ended["graftrec"]["ended"]
            trainer = _again(tree, folder, loggers, record)
        states[phase.name] = state_of(module)
        arm.seconds += record["seconds"]
        arm.rows_per_second = record["rows_per_second"]
        arm.cost, arm.flops = record["cost"], arm.flops + record["flops"]
        arm.carried += record["carried"]
        for name, times in record.get("skipped", {}).items():
            arm.skipped[name] = arm.skipped.get(name, 0) + times
        ours = [name for name in module.tasks if last_of[module.roles[name]] == phase.name]
        if ours:
            _use(tree, protocol, phase, module, judged)
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
        own = list(dict.fromkeys(name for task in ready.tasks for name in ready.module.task(task).streams))
        protocol.use(streams, streams, int(tree["seed"]), judged=own)
        start = time.monotonic()
        with quiet():
            ready.trainer.test(ready.module, datamodule=protocol, verbose=False)
        seconds = time.monotonic() - start
        rows = sum(protocol.streams[name].splits["test"] for name in own)
        arm.evaluation = {"seconds": seconds, "rows_per_second": rows / seconds}
        arm.test |= {name: ready.module.results[name] for name in ready.tasks}
        arm.units |= {name: dict(ready.module.task(name).units()) for name in ready.tasks}
        arm.tasks |= {name: ready.module.task(name) for name in ready.tasks}
    arm.ready = []


def data_of(protocol: Protocol) -> dict[str, Any]:
    """What weights belong to: the data, and the streams that were read, which decide how ids are numbered."""
    return {"fingerprint": protocol.fingerprint, "streams": list(protocol.streams)}


def restore(tree: Mapping[str, Any], protocol: Protocol, plan: Sequence[Phase], folder: Path) -> Arm:
    """What `train_plan` left of the targets in ``folder``, ready for the test; another process may have trained it."""
    arm, names = Arm(), list(task_trees(tree, ("target",)))
    phase = [phase for phase in plan if "target" in phase.roles][-1]
    where = folder if phase is plan[-1] else folder / phase.name
    module = built(tree, protocol, phase, load_checkpoint(where / BEST))
    arm.ready.append(Ready(phase, module, _trainer(tree, folder, logger=False), names))
    return arm


def built(tree: Mapping[str, Any], protocol: Protocol, phase: Phase, ended: Mapping[str, Any]) -> GraftModule:
    """The module of a phase that has ended, with what its strategy leaves in it, and the weights that count."""
    module = assemble(tree, protocol, phase.roles, int(tree["seed"]), learnt_in(tree, phase))
    module.phase = phase
    for means, state in zip(phase.means, ended["graftrec"]["means"], strict=False):
        if means.stays:
            means.build(module)
        means.load_state_dict(state)
    check_data(ended, data_of(protocol), f"the checkpoint of phase {phase.name}")
    check_fit(ended["state_dict"], module, f"the checkpoint of phase {phase.name}")
    load(module, ended["state_dict"])
    return module


def read_ended(folder: Path, going: Going) -> dict[str, Any] | None:
    """The checkpoint of a phase that has ended; None if it has not, or if that is damaged."""
    path = folder / BEST
    if not path.exists():
        return None
    try:
        found = load_checkpoint(path)
    except DataError as error:
        if error.code not in DAMAGED:
            raise
        going.say(f"{error}; looking for what the phase can go on from")
        return None
    return found if "ended" in found["graftrec"] else None


def start_of(folder: Path, going: Going) -> Path | None:
    """The last good checkpoint of a phase, to go on from; None where there is none.

    Raises:
        DataError: the one that was asked for is damaged.
    """
    if going.exactly is not None and going.exactly.parent.resolve() == folder.resolve():
        verify(going.exactly)
        return going.exactly
    problems = []
    for path in (folder / LAST, folder / PREVIOUS):
        if not path.exists():
            continue
        try:
            verify(path)
        except DataError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            going.say(f"{problem}; going on from {path}")
        return path
    for problem in problems:
        going.say(f"{problem}; there is no other one, so the phase begins anew")
    if process_group.is_first():
        for name in (BEST, LAST, PREVIOUS, manifest.NAME):  # nothing can be saved beside what cannot be trusted
            atomic_files.remove(folder / name)
    return None


def _use(
    tree: Mapping[str, Any], protocol: Protocol, phase: Phase, module: GraftModule, judged: tuple[str, ...]
) -> None:
    has_target = any(role == "target" for role in module.roles.values())
    paced = streams_of(tree, ("target",) if has_target else phase.roles)
    asked = streams_of(tree, tuple(role for role in phase.roles if role in judged)) if has_target else []
    limit = tree["trainer"].get(LIMIT)
    try:
        protocol.use(streams_of(tree, phase.roles), paced, int(tree["seed"]), 1.0 if limit is None else limit, asked)
    except ValueError as error:
        raise UserError(f"trainer.{LIMIT}: {error}") from error


def _fit(
    tree: Mapping[str, Any],
    protocol: Protocol,
    module: GraftModule,
    phase: Phase,
    folder: Path,
    loggers: Sequence[Any],
    progress: Callable[[str], PhaseProgress],
    lines: list[str],
    start: Path | None,
    before: Sequence[Phase],
    judged: tuple[str, ...],
) -> tuple[pl.Trainer, dict[str, Any]]:
    """One fit, from its beginning or from a checkpoint; the module ends with its best weights, and so does the disk.

    Returns:
        the trainer, and what to know about the phase.
    """
    _use(tree, protocol, phase, module, judged)
    for logger in loggers:
        logger.phase(phase.name)
    bar = progress(phase.name)
    cost = Cost(bar)
    keeper = Keeper(folder, "target" in module.roles.values(), float(tree.get("save_every", 300)))
    # dropout continues nothing: the same phase gives the same run whatever was trained before it
    module.seed = derived(int(tree["seed"]), "dropout", phase.name)
    module.data = data_of(protocol)
    module.finite.limit = int(tree.get("skip_limit", module.finite.limit))
    torch.set_flush_denormal(True)  # gradients of probabilities near 0 underflow, and a CPU is 10 times slower there
    with quiet():
        more = [build(each) for each in tree["trainer"].get("callbacks") or ()]
        callbacks = [bar, cost, Pulse(), keeper, *pruning(phase, before), *more]
        trainer = _trainer(tree, folder, max_epochs=phase.epochs, logger=list(loggers), callbacks=callbacks)
        trainer.fit(module, datamodule=protocol, ckpt_path=start, weights_only=True)
    if trainer.fit_loop.epoch_loop.total_batch_idx < 0:
        raise UserError(f"phase {phase.name} made no step; see trainer.max_steps, max_time and limit_train_batches")
    state = weights(keeper.path)
    learnt = {name: state[name] for name, _ in module.named_parameters() if name in state}  # DWA begins with NaN
    if (odd := first_odd(learnt)) is not None:
        raise DataError("TRAIN-002", f"phase {phase.name} ended with {odd} not finite, and nothing better before")
    load(module, state)
    lines = [*lines, *module.finite.lines(phase.name)]
    early = [each.stopping_reason_message for each in trainer.early_stopping_callbacks]
    lines += [f"{phase.name}: stopped early: {reason}" for reason in early if reason]
    if keeper.monitored and keeper.score is None:
        lines.append(f"{phase.name}: no validation had a score that can be trusted, so the last weights count")
    record = {
        "seconds": bar.seconds,
        "rows_per_second": bar.rows_per_second,
        "cost": cost.found(),
        "flops": cost.flops,
        "skipped": dict(module.finite.skipped),
        "carried": lines + [line for line in (means.finish(module) for means in phase.means) if line],
        "logs": [logger.state_dict() for logger in loggers],
        "step": trainer.fit_loop.epoch_loop._batches_that_stepped,
        "epoch": trainer.current_epoch,
    }
    ended: dict[str, Any] = {"state_dict": state_of(module)}
    if trainer.is_global_zero:
        found = load_checkpoint(keeper.path)
        ours = {**found["graftrec"], "ended": record, "means": [means.state_dict() for means in phase.means]}
        kept = {key: found[key] for key in ("epoch", "global_step", "pytorch-lightning_version", "hyper_parameters")}
        save({**kept, **ended, "graftrec": ours}, folder / BEST)
        remove(folder / PREVIOUS)
    trainer.strategy.barrier()
    return trainer, record


def _again(tree: Mapping[str, Any], folder: Path, loggers: Sequence[Any], record: Mapping[str, Any]) -> pl.Trainer:
    """The trainer of a phase that has ended; what it still logs goes where it would have gone."""
    for logger, state in zip(loggers, record["logs"], strict=False):
        logger.load_state_dict(state)
    trainer = _trainer(tree, folder, logger=list(loggers))
    trainer.fit_loop.epoch_loop._batches_that_stepped = record["step"]
    trainer.fit_loop.epoch_progress.current.completed = record["epoch"]
    return trainer


def _trainer(tree: Mapping[str, Any], folder: Path, **more: Any) -> pl.Trainer:
    if not more.get("callbacks"):
        more |= {"callbacks": [Pulse()], "enable_checkpointing": False, "enable_progress_bar": False}
    kept = {key: value for key, value in tree["trainer"].items() if key not in OURS}
    with quiet():
        trainer: pl.Trainer = build(
            kept,
            default_root_dir=str(folder),
            num_sanity_val_steps=0,
            enable_model_summary=False,
            use_distributed_sampler=False,
            plugins=[SafeIO(), *process_group.plugins()],
            **more,
        )
    return trainer


def check_trainer(tree: Mapping[str, Any]) -> None:
    """UserError where this machine has no trainer as it is asked for: devices, precision, callbacks."""
    _trainer(tree, Path(), logger=False)
    for each in tree["trainer"].get("callbacks") or ():
        build(each)


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
    return [Phase(TWIN, ("target",), epochs)]


def has_transfer(tree: Mapping[str, Any]) -> bool:
    """Whether there is anything that could help a target."""
    return bool(task_trees(tree, ("source", "shared")))
