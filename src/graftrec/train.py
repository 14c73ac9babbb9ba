"""``graftrec train``: prepare the data, train the tasks together, train the target alone, compare, report."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
import torch
from rich.console import Console

from graftrec.analysis.references import Reference, references
from graftrec.analysis.statistics import paired_difference
from graftrec.assemble import assemble, check_columns, streams_of, task_trees
from graftrec.checkpoint import write_manifest
from graftrec.config import build
from graftrec.data.protocols.base import Protocol
from graftrec.errors import outcome
from graftrec.metrics.pointwise import Value
from graftrec.phases import Arm, freeze, has_transfer, run_plan, twin_plan
from graftrec.report import html, plots, terminal
from graftrec.report.logs import CsvLog
from graftrec.report.progress import PhaseProgress
from graftrec.tasks.base import Task
from graftrec.transfer.base import Transfer

Metrics = dict[str, Any]


def train(tree: Mapping[str, Any], folder: Path) -> float:
    """Train ``tree`` and leave a run folder; the target's validation score (higher is better)."""
    console = screen()
    folder.mkdir(parents=True, exist_ok=True)
    protocol, seconds = prepare(tree)
    transfer: Transfer = build(tree["transfer"])
    plan = transfer.phases()
    for phase in plan:  # what does not fit together is said before anything is written
        freeze(assemble(tree, protocol, phase.roles, int(tree["seed"])), phase.frozen)
    _write(folder / "data_card.json", protocol.card)
    console.print(terminal.data_line(protocol.card, seconds))
    console.print(terminal.roles_table(role_rows(tree, protocol), float(tree["lambda_shared"])))
    loggers: list[Any] = [CsvLog(folder)]
    logger = build(tree["logger"], folder=str(folder), config=dict(tree), group=folder.resolve().parent.name)
    if not isinstance(logger, CsvLog):
        loggers.append(logger)

    def progress(name: str) -> PhaseProgress:
        return PhaseProgress(name, console)

    code = 1
    try:
        checkpoints = folder / "checkpoints"
        grafted = run_plan(tree, protocol, plan, checkpoints, loggers, progress)
        for line in grafted.carried:
            console.print(line)
        twin = None
        if tree["twin"] and has_transfer(tree):
            alone = {**tree, "source": {}, "shared": {}}
            twin = run_plan(alone, protocol, twin_plan(plan), checkpoints / "twin", loggers, progress)
        metrics = summary(tree, protocol, grafted, twin)
        code = 0
    except BaseException as error:
        code = outcome(error)[0]
        raise
    finally:
        for each in loggers:
            each.close(code)
    write_manifest(checkpoints)
    _write_units(folder / "users.parquet", grafted, twin)
    _write(folder / "metrics.json", metrics)
    targets = list(tree["target"])
    plots.learning_curves(folder / "metrics.csv", folder / "learning_curves.png", targets, metrics["main"]["metric"])
    plots.comparison(metrics, folder / "comparison.png")
    html.write_report(folder, command=command())
    for table in terminal.result_tables(metrics, console.width):
        console.print(table)
    for why in terminal.undefined_lines(metrics):
        console.print(why)
    console.print(terminal.verdict_line(metrics))
    console.print(terminal.closing_lines(Path(os.path.relpath(folder)), command()))
    return grafted.score


def screen() -> Console:
    """The terminal, or 120 columns where the output goes to a file."""
    console = Console()
    return console if console.is_terminal else Console(width=120)


def prepare(tree: Mapping[str, Any]) -> tuple[Protocol, float]:
    """Build the protocol and make the streams that the tasks read; the seconds it took.

    Raises:
        UserError: a stream or a column that does not exist. DataError: data that cannot be used.
    """
    start = time.monotonic()
    protocol: Protocol = build(tree["protocol"], dataset=build(tree["dataset"]))
    protocol.prepare(streams_of(tree))
    check_columns(tree, protocol)
    return protocol, time.monotonic() - start


def role_rows(tree: Mapping[str, Any], protocol: Protocol) -> list[dict[str, Any]]:
    """Which task plays which role, for the screen."""
    return [
        {
            "role": role,
            "task": name,
            "learns": f"{task['column'].replace('_', ' ')} ({task['stream']})",
            "reads": task.get("reads", "trunk"),
            "loss": task["loss"]["_target_"].split(".")[-2].replace("_", " "),
            "rows": protocol.streams[task["stream"]].rows,
        }
        for name, (role, task) in task_trees(tree).items()
    ]


def summary(tree: Mapping[str, Any], protocol: Protocol, grafted: Arm, twin: Arm | None) -> Metrics:
    """metrics.json: everything measured, with the reason of every value that is not there."""
    found: Metrics = {"test": {}, "val": {}, "twin": {}, "baselines": {}, "differences": {}, "over_baseline": {}}
    found["reasons"], found["chosen"] = {}, {}
    roles = {name: role for name, (role, _) in task_trees(tree).items()}
    bases: dict[str, dict[str, Reference]] = {}
    for name in roles:
        task = grafted.tasks[name]
        bases[name] = references(task, protocol.streams[task.stream])
        for baseline, reference in bases[name].items():
            _put(found, f"baselines/{name}/{baseline}", reference.metrics)
            if reference.chosen is not None:
                found["chosen"][f"{name}/{baseline}"] = reference.chosen
        _put(found, f"val/{name}", grafted.val.get(name, {}))
        _put(found, f"test/{name}", grafted.test.get(name, {}))
        if twin is not None and name in twin.test:
            _put(found, f"twin/{name}", twin.test[name])
            found["differences"][name] = _differences(found, name, grafted.units[name], twin.units[name])
    main = next(name for name, role in roles.items() if role == "target")
    metric = grafted.tasks[main].main
    found["over_baseline"] = _over_baseline(grafted.tasks[main], main, metric, grafted, bases[main])
    found["roles"], found["main"] = roles, {"task": main, "metric": metric}
    found["fit"] = {
        "seconds": grafted.seconds,
        "rows_per_second": grafted.rows_per_second,
        "parameters": grafted.parameters,
        "evaluation": grafted.evaluation,
    }
    return found


def _put(found: Metrics, path: str, values: Mapping[str, Value]) -> None:
    """Values under ``path``; a missing one is null, with its reason."""
    at = found
    for part in path.split("/"):
        at = at.setdefault(part, {})
    for metric, value in values.items():
        at[metric] = value.value
        if value.value is None:
            found["reasons"][f"{path}/{metric}"] = value.reason


def _differences(
    found: Metrics, task: str, ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor]
) -> Metrics:
    """Grafted - twin for every metric that has values per user or row."""
    differences = {}
    for metric in found["test"][task]:
        if metric in ours and metric in theirs:
            differences[metric] = asdict(paired_difference(ours[metric].numpy(), theirs[metric].numpy()))
        else:
            found["reasons"][f"differences/{task}/{metric}"] = f"{metric} is no mean over users or rows"
    return differences


def _over_baseline(task: Task, name: str, metric: str, grafted: Arm, bases: Mapping[str, Reference]) -> Metrics:
    """Grafted - the best baseline, for the metrics of a ranking with and without cohort."""
    if not task.ranks:
        return {}
    over = {}
    for key in (metric, f"{metric}/first_time"):
        scored = {base: ref.metrics[key].value for base, ref in bases.items() if ref.metrics[key].value is not None}
        if scored and key in grafted.units[name]:
            best = max(scored, key=lambda base: float(scored[base] or 0.0))
            difference = paired_difference(grafted.units[name][key].numpy(), bases[best].units[key].numpy())
            over[key] = {"baseline": best, **asdict(difference)}
    return {name: over}


def _write_units(path: Path, grafted: Arm, twin: Arm | None) -> None:
    """Every metric per user, for paired comparisons of runs later: arm, task, metric, user, value."""
    frames = []
    for arm, units in (("grafted", grafted.units), ("twin", twin.units if twin else {})):
        for task, columns in units.items():
            who = columns.get("query")
            for metric, values in columns.items():
                if metric != "query":
                    number = torch.arange(len(values)) if who is None else who
                    frame = pl.DataFrame({"user": number.numpy(), "value": values.double().numpy()})
                    frames.append(
                        frame.select(
                            arm=pl.lit(arm), task=pl.lit(task), metric=pl.lit(metric), user="user", value="value"
                        )
                    )
    if frames:
        pl.concat(frames).write_parquet(path)


def command() -> str:
    """What was typed: in a sweep, this job's own settings."""
    from hydra.core.hydra_config import HydraConfig

    if HydraConfig.initialized():
        return shlex.join(["graftrec", "train", *HydraConfig.get().overrides.task])
    return shlex.join(["graftrec", "train", *sys.argv[1:]])


def _write(path: Path, content: Metrics) -> None:
    draft = path.with_name(f".{path.name}")
    draft.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
    os.replace(draft, path)
