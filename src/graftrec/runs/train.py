"""``graftrec train``: prepare the data, train the tasks together, train the target alone, compare, report."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from graftrec.config.command_line import command
from graftrec.config.instantiate import build
from graftrec.data.protocols.base import Protocol
from graftrec.evaluation.baselines.scoring import score_baselines
from graftrec.evaluation.report import auto_table, plots, run_page, run_tables
from graftrec.evaluation.report.console import Screen, screen
from graftrec.runs import data_identity, run_folder
from graftrec.runs.audit.source_search import search
from graftrec.runs.audit.source_selection import is_auto, settled
from graftrec.runs.declared_metrics import check_verdicts
from graftrec.runs.run_summary import Metrics, Seeds, summary, write_units
from graftrec.runs.side_by_side import Processes, count_of
from graftrec.runs.trainings import (
    GRAFTED,
    TWIN,
    Training,
    merged,
    read_outcome,
    seeds_of,
    train_here,
    train_one,
    trainings_of,
)
from graftrec.training.builder import columns_of, read_by, task_trees
from graftrec.training.callbacks.progress import PhaseProgress
from graftrec.training.compatibility import prepared
from graftrec.training.distributed import process_group
from graftrec.training.distributed.rank import processes
from graftrec.training.fit import Arm, Going, check_trainer, has_transfer, twin_plan
from graftrec.training.loggers.logs import CsvLog, replay
from graftrec.training.phase_setup import check_plan
from graftrec.transfer.base import Transfer
from graftrec.utils import best_effort
from graftrec.utils.atomic_files import write_text
from graftrec.utils.errors import UserError, outcome
from graftrec.utils.fault_injection import strike
from graftrec.utils.redaction import redact


def train(tree: Mapping[str, Any], folder: Path) -> float:
    """Train ``tree`` and leave a run folder; the target's validation score (higher is better), the mean of all seeds.

    Raises:
        UserError: settings that do not fit the data or each other, or several processes, of which this is not one.
        DataError: data that cannot be used.
    """
    if (
        processes(tree["trainer"]) > 1 and not process_group.several()
    ):  # Lightning would start this very command once more
        raise UserError(
            "trainer.devices: train() is one process; graftrec.runs.job.run_job starts as many as are asked for"
        )
    first = process_group.is_first()  # of several processes only the first one writes and shows things
    console = screen() if first else Screen(quiet=True)
    going = going_on(tree, console.print)
    if first and going is None:
        run_folder.check(folder)
    strike("data")
    protocol, seconds = process_group.one_first(lambda: prepared(tree))
    console.print(run_tables.data_line(protocol.card, seconds))
    if going is not None:
        data_identity.check(folder, protocol.fingerprint)
    check_verdicts(tree, protocol)
    check_trainer(tree)
    folders = [run_folder.CHECKPOINTS, *([run_folder.SEEDS] if len(seeds_of(tree)) > 1 else [])]
    folders += [run_folder.TRIALS] if is_auto(tree) else []

    def begin() -> None:
        process_group.of_first(lambda: run_folder.begin(folder, "train", going is not None, folders))

    with Processes(tree, protocol, count_of(tree)) as pool:
        auto = None
        if is_auto(tree):
            auto = search(tree, protocol, folder / run_folder.TRIALS, pool, console, begin)
            console.print(auto_table.table(auto))
            console.print(auto_table.line(auto))
            tree = settled(tree, auto["strengths"])  # from here on a fixed strategy with these sources
        transfer: Transfer = build(tree["transfer"])
        plan = transfer.phases()
        nothing = auto is not None and not has_transfer(tree)
        plan = twin_plan(plan) if nothing else plan
        compared, wanted = bool(tree["twin"]) and has_transfer(tree), tree["baselines"]
        strike("setup")
        tasks = check_plan(tree, protocol, plan)  # what does not fit together is said before anything is written
        trainings = trainings_of(tree, folder, compared, nothing, going)
        for each in trainings:
            if each.arm == TWIN and each.seed == trainings[0].seed:
                strike("setup")
                check_plan(each.tree, protocol, each.plan)
        if auto is None:
            begin()
        if first:
            _write(folder / "data_card.json", protocol.card)
        console.print(run_tables.roles_table(role_rows(tree, protocol), float(tree["lambda_shared"])))
        loggers = _loggers(tree, folder, again=going is not None) if first else []
        code = 1
        try:
            if len(seeds_of(tree)) == 1:
                arms = [train_one(protocol, each, loggers, _bars(console), going) for each in trainings]
            else:
                arms = _of_all_seeds(trainings, protocol, pool, loggers, console)
            for line in arms[0].carried:
                console.print(line)
            ranks = process_group.who(tree)
            if not first:
                return arms[0].score
            grafted, twin = _by_seed(trainings, arms)
            twin = grafted if nothing and tree["twin"] else twin  # with no source it is the twin itself
            baselines = {
                name: score_baselines(task, protocol.streams[task.stream], name in tree["target"]) if wanted else {}
                for name, task in tasks.items()
            }
            metrics = summary(tree, tasks, grafted, twin, baselines) | ({} if auto is None else {"auto": auto})
            metrics["fit"] |= {"ranks": ranks} if ranks else {}
            write_units(folder / "users.parquet", protocol, tree, {GRAFTED: grafted, TWIN: twin}, baselines)
            _write(folder / "metrics.json", metrics)
            targets, main = list(tree["target"]), metrics["main"]["metric"]
            loggers[0].finalize("success")  # metrics.csv as a whole
            curves, bars = folder / "learning_curves.png", folder / "comparison.png"
            failed = best_effort.tried(
                {
                    curves.name: partial(plots.learning_curves, folder / "metrics.csv", curves, targets, main),
                    bars.name: partial(plots.comparison, metrics, bars),
                    "report.html": partial(run_page.write_report, folder, command=command()),
                    **{type(logger).__name__: partial(logger.show, metrics) for logger in loggers},
                }
            )
            if failed:
                metrics["reasons"] |= failed
                _write(folder / "metrics.json", metrics)
            code = 0
        except BaseException as error:
            code = outcome(error)[0]
            raise
        finally:
            for logger in loggers:
                logger.close(code)
    for table in run_tables.result_tables(metrics, console.width):
        console.print(table)
    for said in [*run_tables.fitted_lines(metrics), *run_tables.undefined_lines(metrics)]:
        console.print(said)
    console.print(run_tables.verdict_line(metrics))
    console.print(run_tables.cost_line(metrics))
    console.print(run_tables.closing_lines(Path(os.path.relpath(folder)), command()))
    return sum(arm.score for arm in grafted.values()) / len(grafted)


def _bars(console: Screen) -> Callable[[str], PhaseProgress]:
    return lambda name: PhaseProgress(name, console)


def _of_all_seeds(
    trainings: Sequence[Training], protocol: Protocol, pool: Processes, loggers: Sequence[Any], console: Screen
) -> list[Arm]:
    """Train with every seed, side by side where ``pool`` has processes; what each logged goes to all ``loggers``."""
    todo = process_group.of_first(lambda: [n for n, each in enumerate(trainings) if not (each.going and each.finished)])
    before, seeds = len(trainings) - len(todo), len({each.seed for each in trainings})
    console.print(run_tables.trainings_line(len(trainings), seeds, before, pool.count))
    pool.run(train_here, [trainings[n] for n in todo], "training", console)
    if not process_group.is_first():
        return [Arm() for _ in trainings]
    for each in trainings:
        replay(each.folder, each.seed, each.seed == trainings[0].seed, loggers)
    return [read_outcome(each.folder) for each in trainings]


def _by_seed(trainings: Sequence[Training], arms: Sequence[Arm]) -> tuple[Seeds, Seeds | None]:
    """Seed -> the grafted model's training, and the twins' as one."""
    grafted: dict[int, Arm] = {}
    twins: dict[int, list[Arm]] = {}
    for each, arm in zip(trainings, arms, strict=True):
        if each.arm == GRAFTED:
            grafted[each.seed] = arm
        else:
            twins.setdefault(each.seed, []).append(arm)
    return grafted, {seed: merged(own) for seed, own in twins.items()} or None


def going_on(tree: Mapping[str, Any], say: Callable[[str], None]) -> Going | None:
    """How to go on with what is in the run's folder: not at all, as far as that is good, or from one checkpoint."""
    wanted, every = tree.get("resume"), tree.get("save_every", 0)
    if isinstance(every, bool) or not isinstance(every, (int, float)) or not every >= 0:
        raise UserError(f"save_every should be at least 0 seconds, found {every}")
    if wanted is None:
        return None
    return Going(say, Path(wanted) if wanted != "auto" and not Path(wanted).is_dir() else None)


def _loggers(tree: Mapping[str, Any], folder: Path, again: bool) -> list[Any]:
    """metrics.csv, and what is chosen beside it; ``again``: of a run that is gone on with."""
    known = {"config": redact(dict(tree)), "group": folder.resolve().parent.name, "again": again}
    chosen = build(tree["logger"], folder=str(folder), **known)
    return [CsvLog(folder)] if isinstance(chosen, CsvLog) else [CsvLog(folder), chosen]


def role_rows(tree: Mapping[str, Any], protocol: Protocol) -> list[dict[str, Any]]:
    """Which task plays which role, for the screen."""
    return [
        {
            "role": role,
            "task": name,
            "learns": f"{', '.join(columns_of(task)).replace('_', ' ')} ({', '.join(read_by(task))})".lstrip(),
            "reads": task.get("reads", "trunk"),
            "loss": task.get("loss", task)["_target_"].split(".")[-2].replace("_", " "),
            "rows": sum(protocol.streams[stream].rows for stream in read_by(task)),
        }
        for name, (role, task) in task_trees(tree).items()
    ]


def _write(path: Path, content: Metrics) -> None:
    write_text(path, json.dumps(content, indent=2, default=str) + "\n")
