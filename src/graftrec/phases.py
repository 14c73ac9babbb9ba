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

from graftrec.assemble import assemble, streams_of, task_trees
from graftrec.checkpoint import keep_best, weights
from graftrec.config import build
from graftrec.data.protocols.base import Protocol
from graftrec.data.seeds import derived
from graftrec.errors import UserError
from graftrec.metrics.pointwise import Value
from graftrec.module import GraftModule
from graftrec.report.progress import PhaseProgress
from graftrec.tasks.base import Task
from graftrec.transfer.base import Phase
from graftrec.transfer.carry import carry

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
    parameters: int = 0
    carried: list[str] = field(default_factory=list)
    tasks: dict[str, Task] = field(default_factory=dict)


def run_plan(
    tree: Mapping[str, Any],
    protocol: Protocol,
    plan: Sequence[Phase],
    folder: Path,
    loggers: Sequence[Any],
    progress: Callable[[str], PhaseProgress],
) -> Arm:
    """Train all phases of ``plan`` and evaluate each task in the last phase that trains it."""
    arm = Arm()
    states: dict[str, dict[str, Tensor]] = {}
    seed = int(tree["seed"])
    last_of = {role: phase.name for phase in plan for role in phase.roles}
    for number, phase in enumerate(plan):
        module = assemble(tree, protocol, phase.roles, seed)
        module.phase = phase
        module.log_every = int(tree["trainer"].get("log_every_n_steps", 50))
        if phase.start_from is not None:
            report = carry(module, states[phase.start_from], phase.carry)
            arm.carried.append(f"{phase.start_from} -> {phase.name}: {report.line()}")
        freeze(module, phase.frozen)
        final = number == len(plan) - 1
        where = folder if final else folder / phase.name
        trainer, bar = _fit(tree, protocol, module, phase, where, loggers, progress)
        arm.seconds += bar.seconds
        arm.rows_per_second = bar.rows_per_second
        states[phase.name] = {name: value.clone() for name, value in module.state_dict().items()}
        ours = [name for name in module.tasks if last_of[module.roles[name]] == phase.name]
        if ours:
            with quiet():
                trainer.validate(module, datamodule=protocol, verbose=False)
            arm.val |= {name: module.results[name] for name in ours}
            if "target" in phase.roles:
                arm.score = module.score()
            start = time.monotonic()
            with quiet():
                trainer.test(module, datamodule=protocol, verbose=False)
            seconds = time.monotonic() - start
            rows = sum(protocol.streams[name].splits["test"] for name in streams_of(tree, phase.roles))
            arm.evaluation = {"seconds": seconds, "rows_per_second": rows / seconds}
            arm.test |= {name: module.results[name] for name in ours}
            arm.units |= {name: dict(module.task(name).units()) for name in ours}
            arm.tasks |= {name: module.task(name) for name in ours}
        arm.parameters = sum(parameter.numel() for parameter in module.parameters())
    return arm


def _fit(
    tree: Mapping[str, Any],
    protocol: Protocol,
    module: GraftModule,
    phase: Phase,
    folder: Path,
    loggers: Sequence[Any],
    progress: Callable[[str], PhaseProgress],
) -> tuple[pl.Trainer, PhaseProgress]:
    """One fit; the module ends with its best weights."""
    has_target = any(role == "target" for role in module.roles.values())
    paced = streams_of(tree, ("target",) if has_target else phase.roles)
    protocol.use(streams_of(tree, phase.roles), paced, int(tree["seed"]))
    for logger in loggers:
        logger.phase(phase.name)
    bar = progress(phase.name)
    best = keep_best(folder, monitored=has_target)
    # dropout continues nothing: the same phase gives the same run whatever was trained before it
    torch.manual_seed(derived(int(tree["seed"]), "dropout", phase.name))
    torch.set_flush_denormal(True)  # gradients of probabilities near 0 underflow, and a CPU is 10 times slower there
    with quiet():
        trainer: pl.Trainer = build(
            tree["trainer"],
            max_epochs=phase.epochs,
            logger=list(loggers),
            callbacks=[bar, best],
            default_root_dir=str(folder),
            num_sanity_val_steps=0,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        trainer.fit(module, datamodule=protocol)
    if trainer.interrupted:
        raise KeyboardInterrupt
    module.load_state_dict(weights(Path(best.best_model_path or best.last_model_path)))
    return trainer, bar


def freeze(module: GraftModule, prefixes: Sequence[str]) -> None:
    """Stop the training of parameters under ``prefixes``; UserError if a prefix matches none."""
    for prefix in prefixes:
        found = [parameter for name, parameter in module.named_parameters() if name.startswith(prefix)]
        if not found:
            raise UserError(f"frozen: no parameter's name starts with '{prefix}'")
        for parameter in found:
            parameter.requires_grad_(False)


class quiet(warnings.catch_warnings):  # noqa: N801
    """Leave out what Lightning says about choices that are ours."""

    def __enter__(self) -> None:
        super().__enter__()
        logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
        warnings.filterwarnings("ignore", ".*LeafSpec.*")  # torch deprecated what Lightning 2.6.6 walks batches with
        warnings.filterwarnings("ignore", ".*smaller than the logging interval.*")  # a small table
        warnings.filterwarnings("ignore", ".*exists and is not empty.*")  # phases and jobs share a folder on purpose


def twin_plan(plan: Sequence[Phase]) -> list[Phase]:
    """The target alone, for as many passes over it as the plan makes in all."""
    epochs = sum(phase.epochs for phase in plan if "target" in phase.roles)
    return [Phase("twin", ("target",), epochs)]


def has_transfer(tree: Mapping[str, Any]) -> bool:
    """Whether there is anything that could help a target."""
    return bool(task_trees(tree, ("source", "shared")))
