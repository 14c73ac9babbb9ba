"""``graftrec train``: prepare the data, train the tasks together, train the target alone, compare, report."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from graftrec import group
from graftrec.analysis.auto import search
from graftrec.analysis.scored import score_baselines
from graftrec.analysis.settled import is_auto, settled
from graftrec.assemble import check_columns, columns_of, protocol_of, read_by, streams_of, task_trees
from graftrec.begin import check_plan
from graftrec.config import build
from graftrec.data.protocols.base import Protocol
from graftrec.errors import UserError, outcome
from graftrec.faults import strike
from graftrec.files import whole
from graftrec.jobs import command
from graftrec.phases import Going, check_trainer, has_transfer, run_plan, twin_plan
from graftrec.ranks import processes
from graftrec.redaction import redact
from graftrec.report import auto_table, html, plots, terminal
from graftrec.report.logs import CsvLog
from graftrec.report.progress import PhaseProgress
from graftrec.report.screen import Screen, screen
from graftrec.summary import Metrics, summary, write_units
from graftrec.transfer.base import Transfer


def train(tree: Mapping[str, Any], folder: Path) -> float:
    """Train ``tree`` and leave a run folder; the target's validation score (higher is better).

    Raises:
        UserError: settings that do not fit the data or each other, or several processes, of which this is not one.
        DataError: data that cannot be used.
    """
    if processes(tree["trainer"]) > 1 and not group.several():  # Lightning would start this very command once more
        raise UserError(
            "trainer.devices: train() is one process; graftrec.jobs.run_job starts as many as are asked for"
        )
    first = group.is_first()  # of several processes only the first one writes and shows things
    console = screen() if first else Screen(quiet=True)
    going = going_on(tree, console.print)
    checkpoints = folder / "checkpoints"
    if first:
        folder.mkdir(parents=True, exist_ok=True)
        if going is None:  # what an earlier run left here is of no use, and is not to be taken for ours
            shutil.rmtree(checkpoints, ignore_errors=True)
    strike("data")
    protocol, seconds = group.one_first(lambda: prepare(tree))
    console.print(terminal.data_line(protocol.card, seconds))
    auto = None
    if is_auto(tree):
        auto = search(tree, protocol, folder / "trials", console.print)
        console.print(auto_table.table(auto))
        console.print(auto_table.line(auto))
        tree = settled(tree, auto["strengths"])  # from here on a fixed strategy with these sources
    transfer: Transfer = build(tree["transfer"])
    plan = transfer.phases()
    nothing = auto is not None and not has_transfer(tree)
    plan = twin_plan(plan) if nothing else plan
    compared, wanted = tree["twin"] and has_transfer(tree), tree["baselines"]
    check_trainer(tree)
    for each in [plan, *([twin_plan(plan)] if compared else [])]:
        strike("setup")
        check_plan(tree, protocol, each)  # what does not fit together is said before anything is written
    if first:
        _write(folder / "data_card.json", protocol.card)
    console.print(terminal.roles_table(role_rows(tree, protocol), float(tree["lambda_shared"])))
    loggers = _loggers(tree, folder, again=going is not None) if first else []

    def progress(name: str) -> PhaseProgress:
        return PhaseProgress(name, console)

    code = 1
    try:
        grafted = run_plan(tree, protocol, plan, checkpoints, loggers, progress, going)
        for line in grafted.carried:
            console.print(line)
        twin = grafted if nothing and tree["twin"] else None  # with no source it is the twin itself
        if compared:
            alone = {**tree, "source": {}, "shared": {}}
            twin = run_plan(alone, protocol, twin_plan(plan), checkpoints / "twin", loggers, progress, going)
        ranks = group.who(tree)
        if not first:
            return grafted.score
        baselines = {
            name: score_baselines(task, protocol.streams[task.stream], name in tree["target"]) if wanted else {}
            for name, task in grafted.tasks.items()
        }
        metrics = summary(tree, grafted, twin, baselines) | ({} if auto is None else {"auto": auto})
        metrics["fit"] |= {"ranks": ranks} if ranks else {}
        write_units(folder / "users.parquet", grafted, twin, baselines)
        _write(folder / "metrics.json", metrics)
        targets, main = list(tree["target"]), metrics["main"]["metric"]
        loggers[0].finalize("success")  # metrics.csv as a whole
        plots.learning_curves(folder / "metrics.csv", folder / "learning_curves.png", targets, main)
        plots.comparison(metrics, folder / "comparison.png")
        html.write_report(folder, command=command())
        for each in loggers:
            each.show(metrics)
        code = 0
    except BaseException as error:
        code = outcome(error)[0]
        raise
    finally:
        for each in loggers:
            each.close(code)
    for table in terminal.result_tables(metrics, console.width):
        console.print(table)
    for why in terminal.undefined_lines(metrics):
        console.print(why)
    console.print(terminal.verdict_line(metrics))
    console.print(terminal.cost_line(metrics))
    console.print(terminal.closing_lines(Path(os.path.relpath(folder)), command()))
    return grafted.score


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


def prepare(tree: Mapping[str, Any]) -> tuple[Protocol, float]:
    """Build the protocol and make the streams that the tasks read; the seconds it took.

    Raises:
        UserError: a stream or a column that does not exist. DataError: data that cannot be used.
    """
    start = time.monotonic()
    protocol = protocol_of(tree)
    protocol.prepare(streams_of(tree), judged=streams_of(tree, ("target",)))
    check_columns(tree, protocol)
    return protocol, time.monotonic() - start


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
    with whole(path) as draft:
        draft.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
