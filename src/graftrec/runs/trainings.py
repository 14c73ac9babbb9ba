"""The trainings of a run: the grafted model and its twins, each with every seed, each in a folder of its own.

The first seed's weights are in ``checkpoints`` and ``checkpoints/twin``, as in a run of one seed; those of the others
in ``seeds/SEED/checkpoints``. With several seeds a training leaves what it came to beside its weights (`OUTCOME` and
`UNITS`), so that no training is repeated when a run goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from graftrec.config import instantiate
from graftrec.data.protocols.base import Protocol
from graftrec.evaluation.report.console import Screen
from graftrec.evaluation.statistics import user_values
from graftrec.runs.audit.source_selection import with_sources
from graftrec.tasks.metrics.pointwise import Value
from graftrec.training.callbacks.optuna_trial import unasked
from graftrec.training.callbacks.progress import PhaseProgress
from graftrec.training.distributed import process_group
from graftrec.training.fit import Arm, Going, run_plan, twin_plan
from graftrec.training.loggers.logs import CsvLog
from graftrec.transfer.base import Phase, Transfer
from graftrec.utils import record_files
from graftrec.utils.atomic_files import write_text
from graftrec.utils.errors import DataError

Tree = Mapping[str, Any]
GRAFTED, TWIN = "grafted", "twin"
OUTCOME, UNITS = "outcome.json", "units.parquet"
OF_RUN = ("seeds", "workers", "verdicts")  # keys of a run that are none of a training
KEPT = ("score", "seconds", "rows_per_second", "evaluation", "parameters", "flops", "cost", "carried", "skipped")


@dataclass(frozen=True)
class Training:
    """One training of a run: ``arm`` is grafted or twin, of several targets a twin has one ``target``."""

    arm: str
    seed: int
    tree: dict[str, Any]
    folder: Path
    target: str = ""
    alone: bool = False  # the grafted model of a run that was left no source: the target alone
    going: bool = False  # go on with what is in the folder
    exactly: Path | None = None  # from this checkpoint and no other, if it is one of this training
    first: bool = True  # of the run's first seed, by which the trial of a search is judged

    @property
    def words(self) -> str:
        """``twin of meat, seed 3``."""
        return f"{self.arm}{f' of {self.target}' if self.target else ''}, seed {self.seed}"

    @property
    def finished(self) -> bool:
        """Whether it has left its outcome; one that is damaged is none."""
        try:
            read_outcome(self.folder)
        except DataError:
            return False
        return True

    @property
    def plan(self) -> list[Phase]:
        """The phases of the strategy, or of the target alone."""
        transfer: Transfer = instantiate.build(self.tree["transfer"])
        plan = transfer.phases()
        return twin_plan(plan) if self.arm == TWIN or self.alone else plan


def trainings_of(
    tree: Tree, folder: Path, twin: bool, alone: bool = False, going: Going | None = None
) -> list[Training]:
    """Every training of a run in ``folder``, seed by seed: the grafted model, and for each target its ``twin``.

    A twin has one target, no source and no shared task, and as many passes over the target as the plan makes in all.
    """
    found = []
    own = {key: value for key, value in tree.items() if key not in OF_RUN}
    several = len(tree["target"]) > 1
    for seed in seeds_of(tree):
        how: Any = {} if going is None else {"going": True, "exactly": going.exactly}
        how["first"] = seed == int(tree["seed"])
        below = folder if seed == int(tree["seed"]) else folder / "seeds" / str(seed)
        of_seed = {**own, "seed": seed}
        grafted = Training(GRAFTED, seed, of_seed, below / "checkpoints", alone=alone, **how)
        found.append(grafted)
        for target in tree["target"] if twin else ():
            twins = below / "checkpoints" / "twin"
            single = {**of_seed, "target": {target: tree["target"][target]}}
            where, name = (twins / target, target) if several else (twins, "")
            found.append(Training(TWIN, seed, with_sources(single, ()), where, name, **how))
    return found


def seeds_of(tree: Tree) -> list[int]:
    """The seeds of a run: ``seed``, ``seed + 1`` and so on."""
    return list(range(int(tree["seed"]), int(tree["seed"]) + int(tree.get("seeds", 1))))


def train_one(
    protocol: Protocol,
    training: Training,
    loggers: Sequence[Any] | None = None,
    progress: Callable[[str], PhaseProgress] | None = None,
    going: Going | None = None,
) -> Arm:
    """Train and evaluate; without ``loggers`` its metrics.csv and its outcome are left in its own folder.

    A training that has left its outcome is not repeated. Of several processes only the first one writes.
    """
    alone = loggers is None
    if alone and training.going and process_group.of_first(lambda: training.finished):
        return read_outcome(training.folder) if process_group.is_first() else Arm()
    if alone:
        loggers = [CsvLog(training.folder)] if process_group.is_first() else []
        silent = Screen(file=StringIO())
        progress = progress or (lambda name: PhaseProgress(name, silent))
    assert loggers is not None and progress is not None  # noqa: S101, PT018  for mypy
    arm = run_plan(training.tree, protocol, training.plan, training.folder, loggers, progress, going)
    if alone and process_group.is_first():
        for logger in loggers:
            logger.close(0)
        write_outcome(arm, training.folder)
    return arm


def train_here(protocol: Protocol, training: Training) -> dict[str, Any]:
    """`train_one` for `Processes`: what it came to is in its folder, and what there is to say comes back."""
    said: list[str] = []
    going = Going(said.append, training.exactly) if training.going else None
    with nullcontext() if training.first else unasked():
        arm = train_one(protocol, training, going=going)
    return {"seconds": arm.seconds, "val": arm.score, "said": said}


def write_outcome(arm: Arm, folder: Path) -> None:
    """What a training came to: its values per user first, so that `OUTCOME` stands for both."""
    user_values.write(user_values.frame_of(arm.units), folder / UNITS)
    found = {name: getattr(arm, name) for name in KEPT}
    for stage in ("val", "test"):
        results = getattr(arm, stage)
        found[stage] = {task: {name: value._asdict() for name, value in each.items()} for task, each in results.items()}
    found = record_files.sealed(json.loads(json.dumps(found)) | {"sums": record_files.sums(folder, (UNITS,))})
    write_text(folder / OUTCOME, json.dumps(found, indent=2) + "\n")


def _values(found: Mapping[str, Any]) -> dict[str, Value]:
    return {name: Value(value["value"], value["reason"]) for name, value in found.items()}


def read_outcome(folder: Path) -> Arm:
    """What `write_outcome` left; the tasks and modules themselves are gone.

    Raises:
        DataError: it is missing or damaged.
    """
    path = folder / OUTCOME
    found = record_files.mapping(path)
    with record_files.reading(path):
        arm = Arm(**{name: found[name] for name in KEPT})
        if found["sums"] != record_files.sums(folder, (UNITS,)):
            raise ValueError(f"{UNITS} beside it is another one")
        for stage in ("val", "test"):
            setattr(arm, stage, {task: _values(each) for task, each in found[stage].items()})
    values = user_values.read(record_files.table(folder / UNITS, ("task", "metric", user_values.USER, "value")))
    arm.units = {
        task: {name: torch.from_numpy(each.copy()) for name, each in own.items()} for task, own in values.items()
    }
    return arm


def merged(arms: Sequence[Arm]) -> Arm:
    """The twins of one seed as one: each target's results are of the twin that has it alone."""
    first = arms[0]
    found = replace(first, val={}, test={}, units={}, tasks={}, skipped={})
    for arm in arms:
        found.val |= arm.val
        found.test |= arm.test
        found.units |= arm.units
        found.tasks |= arm.tasks
        for name, times in arm.skipped.items():
            found.skipped[name] = found.skipped.get(name, 0) + times
    found.score = sum(arm.score for arm in arms) / len(arms)
    found.seconds = sum(arm.seconds for arm in arms)
    return found
