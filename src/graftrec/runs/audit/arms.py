"""Arms of an audit: the same target, trained with nothing, with one source or with all; each in a folder of its own.

`train_arm` chooses an arm's weights by the target's validation metric and never looks at the test; `test_arm` evaluates
what was chosen. A folder says in its ``status.json`` how far it is, and what is finished is never done again.
"""

from __future__ import annotations

import csv
import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import polars as pl

from graftrec import __version__
from graftrec.config import instantiate
from graftrec.data.protocols.base import Protocol
from graftrec.evaluation.report.console import Screen
from graftrec.evaluation.statistics import user_values
from graftrec.evaluation.statistics.user_values import USER
from graftrec.models.encoder import Encoder
from graftrec.runs import run_folder
from graftrec.runs.audit.source_selection import fixed, is_auto, with_sources
from graftrec.runs.resume import held
from graftrec.tasks.metrics.direction import sign
from graftrec.training.builder import assemble, task_trees
from graftrec.training.callbacks.progress import PhaseProgress
from graftrec.training.distributed import process_group
from graftrec.training.fit import Arm, has_transfer, restore, test_plan, train_plan, twin_plan
from graftrec.training.loggers.logs import CsvLog
from graftrec.transfer.base import Phase, Transfer
from graftrec.utils import record_files
from graftrec.utils.atomic_files import empty, is_ours, own, remove, write_text
from graftrec.utils.errors import DataError, UserError

Tree = Mapping[str, Any]
TWIN, WIDE, ALL, AUTO = "twin", "wide twin", "all", "auto"
BESIDE = (*instantiate.BESIDE, *instantiate.JUDGING)  # change no training
SEEN = ("train/gradient_cosine/", "train/affinity/")  # what an arm says of its tasks, mean over the steps
ORPHANS = 10.0  # seconds for a process of an audit that was killed
WIDEST = 64  # times the encoder's width


@dataclass(frozen=True)
class ArmSpec:
    """An arm of one target: what trains beside it, and how wide the encoder is (0: as in the tree)."""

    name: str
    target: str
    sources: tuple[str, ...] = ()
    width: int = 0
    parameters: int = 0


@dataclass(frozen=True)
class ArmJob:
    """One training of an arm, in ``folder``."""

    arm: ArmSpec
    seed: int
    tree: dict[str, Any]
    folder: Path

    @property
    def words(self) -> str:
        """``grocery -> produce, seed 3``."""
        return f"{self.arm.name} -> {self.arm.target}, seed {self.seed}"


def arms_of(tree: Tree, protocol: Protocol, twins: Sequence[str] = ("same", "wide")) -> list[ArmSpec]:
    """For each target the twin, each source (or shared task) alone, all of them, and the wide twin.

    A task that is a source and a target is no source of itself. Under `transfer=auto` these are trained with the
    strategy that it tries, and it is one more arm itself. The wide twin's encoder, and with it the trunk that reads it,
    is so wide that it has about as many parameters as ``all``.

    Raises:
        UserError: nothing that could be transferred.
    """
    found = []
    for target in tree["target"]:
        sources = sources_of(tree, target)
        if not sources:
            raise UserError("audit: no source and no shared task is selected; write 'task@source=[...]'")
        own = [ArmSpec(TWIN, target), *(ArmSpec(name, target, (name,)) for name in sources)]
        own += [ArmSpec(ALL, target, tuple(sources))] if len(sources) > 1 else []
        own += [ArmSpec(AUTO, target, (AUTO,))] if is_auto(tree) else []
        own = [replace(arm, parameters=count_parameters(tree_of(tree, arm), protocol)) for arm in own]
        found += own
        if "wide" in twins:
            wide = widened(tree, protocol, own[0], own[-1].parameters)
            found += [wide] if wide.width else []
    return found


def sources_of(tree: Tree, target: str) -> list[str]:
    """The sources and shared tasks that may train beside a target."""
    return [name for name in task_trees(tree, ("source", "shared")) if name != target]


def tree_of(tree: Tree, arm: ArmSpec, seed: int | None = None) -> dict[str, Any]:
    """The tree that trains an arm."""
    found = without_beside(tree)
    found["target"] = {arm.target: tree["target"][arm.target]}
    if arm.width:
        found["encoder"] = {**tree["encoder"], "width": arm.width}
    found["seed"] = int(tree["seed"]) if seed is None else seed
    if arm.name == AUTO:
        return with_sources(found, sources_of(tree, arm.target))
    return with_sources({**found, "transfer": fixed(tree)}, arm.sources)


def without_beside(tree: Tree) -> dict[str, Any]:
    """The tree without what changes no training."""
    return {key: value for key, value in tree.items() if key not in BESIDE}


def plan_of(tree: Tree) -> list[Phase]:
    """The transfer strategy's phases; of a target alone one phase with as many passes over the target."""
    transfer: Transfer = instantiate.build(tree["transfer"])
    plan = transfer.phases()
    return plan if has_transfer(tree) else twin_plan(plan)


def jobs_of(tree: Tree, arms: Sequence[ArmSpec], seeds: Sequence[int], data: str, folder: Path) -> list[ArmJob]:
    """Every training; its folder's name is the fingerprint of its tree, of the ``data`` and of this version."""
    return [job_of(arm, tree_of(tree, arm, seed), seed, data, folder) for seed in seeds for arm in arms]


def job_of(arm: ArmSpec, own: dict[str, Any], seed: int, data: str, folder: Path) -> ArmJob:
    """The training of ``own``, an arm's tree."""
    return ArmJob(arm, seed, own, folder / instantiate.fingerprint({**own, "data": data, "version": __version__}))


def status(folder: Path) -> dict[str, Any]:
    """What ``status.json`` says; empty where nothing is finished, or nothing of this form: then it is trained again."""
    path = folder / "status.json"
    try:
        found = record_files.mapping(path)
        with record_files.reading(path):
            float(found["val"]), float(found["seconds"]), dict(found["seen"])
    except DataError:
        return {}
    return found


def again(folder: Path) -> str:
    """What to do where a record of an arm is damaged."""
    return f"delete the folder {folder}, and the same command trains this arm again"


def read_units(folder: Path) -> pl.DataFrame:
    """Each metric per user or row that `test_arm` left; DataError where it is damaged."""
    return record_files.table(folder / "units.parquet", ("task", "metric", USER, "value"), again(folder))


def is_trained(folder: Path) -> bool:
    """Whether an arm's weights are chosen."""
    return status(folder).get("state") in ("trained", "tested")


def is_tested(folder: Path) -> bool:
    """Whether the test has judged them."""
    return status(folder).get("state") == "tested" and (folder / "units.parquet").is_file()


@contextmanager
def kept(folder: Path) -> Iterator[bool]:
    """Keep an arm's folder for this process while it writes there; of several together the first one keeps it.

    A process whose audit was killed may be about to end, and is waited for.

    Raises:
        UserError: another process is at work there.
    """
    first = process_group.is_first()
    with ExitStack() as keeping:
        if first:
            if is_ours(folder.parent.parent):  # of a run of ours, whose arm was killed before it had a marker
                run_folder.mark(folder, "arm")
            keeping.enter_context(held(own(folder), ORPHANS))
        yield first


def train_arm(protocol: Protocol, job: ArmJob) -> dict[str, Any]:
    """Train an arm and choose its weights by validation: what ``status.json`` then says, with ``val``, its score.

    Of several processes the first one writes the files; the others return less.
    """
    with kept(job.folder) as first:
        if first:
            empty(job.folder)  # half a training is none
        return _train(protocol, job, first)


def _train(protocol: Protocol, job: ArmJob, first: bool) -> dict[str, Any]:
    begun, silent = time.monotonic(), Screen(file=StringIO())
    logs = [CsvLog(job.folder)] if first else []
    plan = plan_of(job.tree)
    bar = partial(PhaseProgress, console=silent)
    arm = train_plan(job.tree, protocol, plan, job.folder, logs, bar, judged=("target",))  # sources are not asked about
    if not first:
        return {"val": arm.score}
    logs[0].close(0)
    for spare in job.folder.rglob("last.ckpt"):
        if (spare.parent / "best.ckpt").is_file():
            remove(spare)
    _write_val(job, protocol, arm)
    found = {
        "state": "trained",
        "arm": job.arm.name,
        "target": job.arm.target,
        "sources": list(job.arm.sources),
        "seed": job.seed,
        "val": arm.score,
        "seconds": round(time.monotonic() - begun, 3),
        "parameters": sum(arm.parameters.values()),
        "carried": arm.carried,
        "seen": _seen(job.folder / "metrics.csv"),
    }
    write_status(job.folder, found)
    return found


def test_arm(protocol: Protocol, job: ArmJob) -> dict[str, Any]:
    """Evaluate an arm's chosen weights on the test: ``units.parquet`` holds each metric per user or row."""
    with kept(job.folder):
        arm = restore(job.tree, protocol, plan_of(job.tree), job.folder)
        test_plan(arm, job.tree, protocol)
        user_values.write(
            user_values.frame_of({job.arm.target: arm.units[job.arm.target]}), job.folder / "units.parquet"
        )
        test = {name: value.value for name, value in arm.test[job.arm.target].items()}
        found = status(job.folder) | {"state": "tested", "test": test}
        write_status(job.folder, found)
        for spare in job.folder.rglob("*.ckpt"):
            remove(spare)
        return found


test_arm.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test


def _write_val(job: ArmJob, protocol: Protocol, arm: Arm) -> None:
    """``val.parquet``: each target's main metric per user or row of validation; columns task, user, value.

    A metric of which a lower value is better has its sign changed: what is higher here is better.
    """
    frames = []
    for ready in arm.ready:
        for name in (name for name in ready.tasks if name in job.tree["target"]):
            task = ready.module.task(name)
            values = task.units()
            if task.main in values:
                own = {task.main: sign(task.main) * values[task.main].double()}
                own |= {USER: values[USER]} if USER in values else {}
                frames.append(user_values.frame_of({name: own}).drop("metric"))
    if frames:
        user_values.write(pl.concat(frames), job.folder / "val.parquet")


def count_parameters(tree: Tree, protocol: Protocol) -> int:
    """Parameters of what is evaluated at the end."""
    module = assemble(tree, protocol, plan_of(tree)[-1].roles, int(tree["seed"]))
    return sum(parameter.numel() for parameter in module.parameters())


def widened(tree: Tree, protocol: Protocol, twin: ArmSpec, parameters: int) -> ArmSpec:
    """The twin with the encoder's width that comes nearest to so many ``parameters``; no width where it has them."""
    wide = replace(twin, name=WIDE)
    base = int(tree["encoder"].get("width") or instantiate.arguments(Encoder)["width"].default)
    slots = instantiate.arguments(instantiate.resolve(tree["trunk"]["_target_"]))
    step = int(tree["trunk"].get("heads") or (slots["heads"].default if "heads" in slots else 1))
    step = step if base % step == 0 else base  # every head of a trunk gets the same share of the width
    if parameters <= twin.parameters:
        return wide
    counted: dict[int, int] = {base: twin.parameters}

    def count(width: int) -> int:
        if width not in counted:
            counted[width] = count_parameters(tree_of(tree, replace(wide, width=width)), protocol)
        return counted[width]

    low, high = base // step, base // step + 1
    while count(high * step) < parameters and high * step < WIDEST * base:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle * step) < parameters else (low, middle)
    width = min((low * step, high * step), key=lambda width: abs(count(width) - parameters))
    return replace(wide, width=0 if width == base else width, parameters=count(width))


def _seen(path: Path) -> dict[str, float]:
    """Means over the steps of what the arm logged of its tasks: ``gradient_cosine/a~b``."""
    found: dict[str, list[float]] = {}
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for name, cell in row.items():
                if name and name.startswith(SEEN) and cell:
                    found.setdefault(name.removeprefix("train/"), []).append(float(cell))
    return {name: statistics.fmean(values) for name, values in found.items()}


def write_status(folder: Path, content: Mapping[str, Any]) -> None:
    """Write an arm's ``status.json``, all of it or nothing."""
    sealed = record_files.sealed(json.loads(json.dumps(dict(content))))
    write_text(folder / "status.json", json.dumps(sealed, indent=2) + "\n")
