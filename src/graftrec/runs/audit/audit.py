"""``graftrec audit``: train every source -> target pair, all together and the twins; say what the transfer did."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from graftrec.config import instantiate
from graftrec.config.command_line import command
from graftrec.data.protocols.base import Protocol
from graftrec.data.streams.baskets import BasketRows
from graftrec.data.streams.sequences import SequenceRows
from graftrec.evaluation.baselines.merged_history import Ranked
from graftrec.evaluation.baselines.rankers import Baseline, Ease, ItemKnn
from graftrec.evaluation.baselines.scoring import Scored, score_baselines, score_ranker, tried
from graftrec.evaluation.report import run_tables
from graftrec.evaluation.report.console import screen
from graftrec.evaluation.statistics import user_values
from graftrec.evaluation.statistics.verdicts import number
from graftrec.evaluation.weak_twin import UNION, beside
from graftrec.runs import run_folder
from graftrec.runs.audit import audit_page, heat_map, matrix_table
from graftrec.runs.audit.arms import (
    AUTO,
    TWIN,
    WIDE,
    ArmJob,
    arms_of,
    is_tested,
    is_trained,
    job_of,
    jobs_of,
    read_units,
    status,
    test_arm,
    train_arm,
    tree_of,
)
from graftrec.runs.audit.source_search import search
from graftrec.runs.audit.source_selection import settled
from graftrec.runs.audit.transfer_matrix import OfArms, matrix, units_of
from graftrec.runs.declared_metrics import check_verdicts
from graftrec.runs.run_summary import with_ids
from graftrec.runs.side_by_side import Processes, processes_of
from graftrec.runs.trainings import GRAFTED
from graftrec.tasks.base import Task
from graftrec.tasks.ranking import RankingTask
from graftrec.training.builder import assemble, task_trees
from graftrec.training.compatibility import prepared
from graftrec.training.distributed.rank import outside, processes
from graftrec.training.loggers.logs import CsvLog
from graftrec.utils import best_effort
from graftrec.utils.atomic_files import write_text
from graftrec.utils.errors import UserError

Tree = Mapping[str, Any]
NEIGHBOURS: tuple[type[Baseline], ...] = (ItemKnn, Ease)
TWINS = ("same", "wide")


def audit(tree: Tree, folder: Path) -> float:
    """Audit ``tree`` in ``folder``, going on where an earlier call stopped.

    Returns:
        the mean over the targets of what the best arm gained on validation, above 0 where it is for the better; a
        sweep that looks for the best settings never sees the test.
    """
    asked = settings(tree)
    tree = both_ways(tree) if asked["both_ways"] else tree
    console, begun = screen(), time.monotonic()
    run_folder.check(folder)
    protocol, seconds = prepared(tree)
    check_verdicts(tree, protocol)
    arms = arms_of(tree, protocol, asked["twins"])
    seeds = range(int(tree["seed"]), int(tree["seed"]) + asked["seeds"])
    data = str(protocol.card.get("fingerprint", ""))
    run_folder.begin(folder, "audit")
    jobs = jobs_of(tree, [arm for arm in arms if arm.name != AUTO], seeds, data, folder / "arms")
    console.print(run_tables.data_line(protocol.card, seconds))
    console.print(matrix_table.plan_line(arms, len(seeds), sum(is_trained(job.folder) for job in jobs)))
    autos = {}
    with Processes(tree, protocol, asked["workers"]) as pool:
        pool.run(train_arm, [job for job in jobs if not is_trained(job.folder)], "training", console)
        for arm in (arm for arm in arms if arm.name == AUTO):
            autos[arm.target] = search(tree_of(tree, arm), protocol, folder / "arms", pool, console)
            strengths = autos[arm.target]["strengths"]
            own = [settled(tree_of(tree, arm, seed), strengths) for seed in seeds]
            jobs += [job_of(arm, each, seed, data, folder / "arms") for each, seed in zip(own, seeds, strict=True)]
        pool.run(train_arm, _each_once(job for job in jobs if not is_trained(job.folder)), AUTO, console)
        # all weights are chosen: only now the test is looked at
        pool.run(test_arm, _each_once(job for job in jobs if not is_tested(job.folder)), "test", console)
    tasks = {target: _task(tree, protocol, target) for target in tree["target"]}
    mains = {target: task.main for target, task in tasks.items()}
    found = matrix(jobs, mains, [str(name) for name in tree.get("verdicts") or ()])
    scored = baselines_of(tree, protocol, tasks) if tree["baselines"] else {}
    report = {
        **{"command": command("audit"), "seeds": list(seeds), "main": mains},
        **found,
        **standing(jobs, mains, scored),
        "auto": autos,
        "arms": [arm_row(job) for job in jobs],
        "seconds": round(sum(float(status(job.folder).get("seconds") or 0.0) for job in jobs), 3),
        "this_call_seconds": round(time.monotonic() - begun, 3),
    }
    _write(folder / "audit.json", report)
    _write(folder / "data_card.json", protocol.card)
    write_users(folder / "users.parquet", protocol, tree, jobs)
    best_effort.tried(
        {
            "transfer_matrix.png": partial(heat_map.draw, report, folder / "transfer_matrix.png"),
            "report.html": partial(audit_page.write, folder, report),
        }
    )
    for table in matrix_table.tables(report):
        console.print(table)
    for line in matrix_table.lines(report):
        console.print(line)
    console.print(run_tables.closing_lines(Path(os.path.relpath(folder)), report["command"]))
    best_effort.tried({"the logger": partial(_to_logger, tree, folder, report)})
    return gain_on_validation(report)


def _each_once(jobs: Iterable[ArmJob]) -> list[ArmJob]:
    """Jobs of different folders: what `Auto` chose may be another arm."""
    return list({job.folder: job for job in jobs}.values())


def settings(tree: Tree) -> dict[str, Any]:
    """The node ``audit`` of a tree, checked all at once.

    Raises:
        UserError: a value that cannot be.
    """
    node = dict(tree.get("audit") or {})
    found: dict[str, Any] = {"seeds": 5, "workers": None, "twins": list(TWINS), "both_ways": False} | node
    wrong = [f"audit.{key}: there is no such key{instantiate.near(key, _KEYS)}" for key in set(found) - set(_KEYS)]
    for key, (right, words) in _KEYS.items():
        if not right(found[key]):
            wrong.append(f"audit.{key}: should be {words}, found {found[key]!r}")
    if outside() is not None or processes(tree.get("trainer", {})) > 1:
        wrong.append(
            "audit: trains its arms side by side, each in one process; leave trainer=ddp, torchrun and srun out, "
            "audit.workers says how many there are"
        )
    if wrong:
        raise UserError(sorted(wrong))
    found["workers"] = processes_of(found["workers"])
    return found


def _whole(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


_KEYS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "seeds": (lambda value: _whole(value, 1, 10_000), "a whole number of at least 1, at most 10,000"),
    "workers": (lambda value: value is None or _whole(value, 1, 1024), "a whole number from 1 to 1,024, or null"),
    "twins": (lambda value: isinstance(value, list) and set(value) <= set(TWINS), "a list of same and wide"),
    "both_ways": (lambda value: isinstance(value, bool), "true or false"),
}


def both_ways(tree: Tree) -> dict[str, Any]:
    """The tree with every source as a target too, and every target as a source of the others; see `sources_of`."""
    everything = {**(tree.get("target") or {}), **(tree.get("source") or {})}
    return {**tree, "source": everything, "target": everything}


def _task(tree: Tree, protocol: Protocol, target: str) -> Task:
    """A target's task, untrained: its main metric and what it is judged by."""
    alone = {**tree, "source": {}, "shared": {}, "target": {target: tree["target"][target]}}
    return assemble(alone, protocol, ("target",), int(tree["seed"])).task(target)


def baselines_of(tree: Tree, protocol: Protocol, tasks: Mapping[str, Task]) -> dict[str, dict[str, Scored]]:
    """Target -> name -> what simple baselines score, `item_knn` and `ease` also on the union of the domains."""
    found: dict[str, dict[str, Scored]] = {}
    for target, task in tasks.items():
        stream = protocol.streams[task.stream]
        found[target] = score_baselines(task, stream)
        beside = _beside(tree, protocol, task.stream)
        if isinstance(task, RankingTask) and isinstance(stream, (BasketRows, SequenceRows)) and beside:
            for each in NEIGHBOURS:
                union = tried(task, partial(score_ranker, each(), stream, task.k, task.relevant, task.at, beside))
                found[target][f"{each.name}{UNION}"] = union
    return found


def _beside(tree: Tree, protocol: Protocol, stream: str) -> list[Ranked]:
    """The sources' streams of other domains that know the users of ``stream`` under the same numbers."""
    found: list[Ranked] = []
    for _, task in task_trees(tree, ("source", "shared")).values():
        name = str(task["stream"])
        other = protocol.streams[name]
        if name == stream or not isinstance(other, (BasketRows, SequenceRows)) or other in found:
            continue
        if protocol.users_of(name) is protocol.users_of(stream):
            found.append(other)
    return found


def standing(
    jobs: Sequence[ArmJob], mains: Mapping[str, str], scored: Mapping[str, Mapping[str, Scored]]
) -> dict[str, Any]:
    """``baselines``, the rows that they were ``fitted_on``, each target's ``best`` arm by validation; and ``beside``,
    twin and best arm against the baselines.

    Nothing is chosen by the test: ``best`` has the highest mean of its trainings' scores on validation.
    """
    values, best, compared = {}, {}, {}
    fitted = {target: {name: _seen_by(name, each) for name, each in of.items()} for target, of in scored.items()}
    for target, main in mains.items():
        own = [job for job in jobs if job.arm.target == target]
        arms = units_of(own)
        values[target] = {
            name: {metric: number(value.value) for metric, value in each.metrics.items()}
            for name, each in scored.get(target, {}).items()
        }
        on_val = validation(own)
        chosen = max((name for name in on_val if name not in (TWIN, WIDE)), key=lambda name: on_val[name], default=None)
        if chosen is None or not all(main in seed for seed in arms[chosen]):
            continue
        job = next(job for job in own if job.arm.name == chosen)
        best[target] = {
            "metric": main,
            "arm": chosen,
            "sources": list(job.arm.sources),
            "validation_gain": on_val[chosen] - on_val[TWIN],
            "value": number(user_values.mean_of(arms[chosen], main).delta),
        }
        shown: OfArms = {TWIN: arms[TWIN], GRAFTED: arms[chosen]}
        if scored.get(target):
            compared[target] = beside(main, shown, scored[target])
    return {"baselines": values, "fitted_on": fitted, "best": best, "beside": compared}


def _seen_by(name: str, baseline: Scored) -> str:
    """The rows that a baseline was fitted on."""
    return f"{baseline.rows}, of the sources as well" if name.endswith(UNION) else baseline.rows


def validation(jobs: Sequence[ArmJob]) -> dict[str, float]:
    """Arm -> the mean over its seeds of its score on validation, higher is better."""
    scores: dict[str, list[float]] = {}
    for job in jobs:
        scores.setdefault(job.arm.name, []).append(float(status(job.folder)["val"]))
    return {name: sum(own) / len(own) for name, own in scores.items()}


def arm_row(job: ArmJob) -> dict[str, Any]:
    """What one training came to."""
    said = status(job.folder)
    row = {"arm": job.arm.name, "target": job.arm.target, "sources": list(job.arm.sources), "seed": job.seed}
    row |= {"folder": job.folder.name, "parameters": job.arm.parameters}
    return row | {key: number(said.get(key)) for key in ("val", "seconds", "test")}


def write_users(path: Path, protocol: Protocol, tree: Tree, jobs: Sequence[ArmJob]) -> None:
    """Every metric per user or row of every arm and seed: columns arm, seed, task, metric, user, id and value."""
    frames = [
        read_units(job.folder).select(
            pl.lit(job.arm.name).alias("arm"), pl.lit(job.seed).cast(pl.Int64).alias("seed"), pl.all()
        )
        for job in jobs
    ]
    user_values.write(with_ids(pl.concat(frames), protocol, tree), path)


def gain_on_validation(report: Mapping[str, Any]) -> float:
    """Mean over the targets of what their best arm gained on validation, above 0 where it is for the better."""
    gains = [each["validation_gain"] for each in report["best"].values()]
    return sum(gains) / len(gains) if gains else float("nan")


def _to_logger(tree: Tree, folder: Path, report: Mapping[str, Any]) -> None:
    """The cells as a W&B table, where a logger is chosen that has tables."""
    known = {"folder": str(folder), "config": dict(tree), "group": folder.resolve().parent.name}
    logger: Any = instantiate.build(tree["logger"], **known)
    if isinstance(logger, CsvLog):
        return
    columns = ["sources", "target", "metric", "cohort", "delta", "low", "high", "p_holm", "n_users", "verdict"]
    rows = [["+".join(c["sources"]), *(c[key] for key in columns[1:])] for c in report["cells"]]
    logger.log_table("transfer_matrix", columns=columns, data=rows)
    logger.log_image("transfer_matrix_plot", [str(folder / "transfer_matrix.png")])
    logger.close(0)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2, default=str) + "\n")
