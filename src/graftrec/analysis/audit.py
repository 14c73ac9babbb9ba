"""``graftrec audit``: train every source -> target pair, all together and the twins; say what the transfer did."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from graftrec import config
from graftrec.analysis.arms import AUTO, ArmJob, arms_of, is_tested, is_trained, jobs_of, status, test_arm, train_arm
from graftrec.analysis.auto import chosen, train_auto
from graftrec.analysis.baselines import Baseline, Ease, ItemKnn
from graftrec.analysis.cells import matrix, number
from graftrec.analysis.pool import Workers
from graftrec.analysis.scored import Scored, score_baselines, score_ranker
from graftrec.analysis.union import Ranked
from graftrec.assemble import assemble, task_trees
from graftrec.data.protocols.base import Protocol
from graftrec.data.streams.baskets import BasketRows
from graftrec.data.streams.sequences import SequenceRows
from graftrec.errors import UserError
from graftrec.jobs import command
from graftrec.metrics.scale import sign
from graftrec.ranks import outside, processes
from graftrec.report import audit_page, heat_map, matrix_table, terminal
from graftrec.report.jobs_progress import JobsProgress
from graftrec.report.logs import CsvLog
from graftrec.report.screen import screen
from graftrec.tasks.base import Task
from graftrec.tasks.ranking import RankingTask
from graftrec.train import prepare

Tree = Mapping[str, Any]
MOST_WORKERS = 4
NEIGHBOURS: tuple[type[Baseline], ...] = (ItemKnn, Ease)
TWINS = ("same", "wide")
COMPARED = ("item_knn", "ease", "bias", "gbdt")  # baselines that a twin should not be below


def audit(tree: Tree, folder: Path) -> float:
    """Audit ``tree`` in ``folder``, going on where an earlier call stopped; the mean of the targets' best change."""
    asked = settings(tree)
    tree = both_ways(tree) if asked["both_ways"] else tree
    console, begun = screen(), time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    protocol, seconds = prepare(tree)
    arms = arms_of(tree, protocol, asked["twins"])
    seeds = range(int(tree["seed"]), int(tree["seed"]) + asked["seeds"])
    jobs = jobs_of(tree, arms, seeds, str(protocol.card.get("fingerprint", "")), folder / "arms")
    console.print(terminal.data_line(protocol.card, seconds))
    console.print(matrix_table.plan_line(arms, len(seeds), sum(is_trained(job.folder) for job in jobs)))
    with Processes(tree, protocol, asked["workers"]) as processes:
        todo = [job for job in jobs if not is_trained(job.folder)]
        processes.run(train_arm, [job for job in todo if job.arm.name != AUTO], "training", console)
        # what it tries first are the arms that are there by now
        processes.run(train_auto, [job for job in todo if job.arm.name == AUTO], AUTO, console)
        jobs = [chosen(job) for job in jobs]
        # all weights are chosen: only now the test is looked at
        processes.run(test_arm, [job for job in jobs if not is_tested(job.folder)], "test", console)
    found = matrix(jobs, asked["draws"])
    tasks = {target: _task(tree, protocol, target) for target in tree["target"]}
    scored = baselines_of(tree, protocol, tasks) if tree["baselines"] else {}
    report = {
        **{"command": command("audit"), "seeds": list(seeds), "draws": asked["draws"]},
        "main": {target: task.main for target, task in tasks.items()},
        **found,
        **standing(found, tasks, scored),
        "arms": [arm_row(job) for job in jobs],
        "seconds": round(sum(float(status(job.folder).get("seconds") or 0.0) for job in jobs), 3),
        "this_call_seconds": round(time.monotonic() - begun, 3),
    }
    _write(folder / "audit.json", report)
    _write(folder / "data_card.json", protocol.card)
    write_users(folder / "users.parquet", jobs)
    heat_map.draw(report, folder / "transfer_matrix.png")
    audit_page.write(folder, report)
    for table in matrix_table.tables(report):
        console.print(table)
    for line in matrix_table.lines(report):
        console.print(line)
    console.print(terminal.closing_lines(Path(os.path.relpath(folder)), report["command"]))
    _to_logger(tree, folder, report)
    return best_change(report)


def settings(tree: Tree) -> dict[str, Any]:
    """The node ``audit`` of a tree, checked all at once.

    Raises:
        UserError: a value that cannot be.
    """
    node = dict(tree.get("audit") or {})
    found = {"seeds": 5, "draws": 10_000, "workers": None, "twins": list(TWINS), "both_ways": False} | node
    wrong = [f"audit.{key}: there is no such key{config.near(key, _KEYS)}" for key in set(found) - set(_KEYS)]
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
    found["workers"] = found["workers"] or min(MOST_WORKERS, os.cpu_count() or 1)
    return found


def _whole(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


_KEYS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "seeds": (lambda value: _whole(value, 1, 10_000), "a whole number of at least 1, at most 10,000"),
    "draws": (lambda value: _whole(value, 1000, 10**7), "a whole number of at least 1000, at most 10,000,000"),
    "workers": (lambda value: value is None or _whole(value, 1, 1024), "a whole number from 1 to 1,024, or null"),
    "twins": (lambda value: isinstance(value, list) and set(value) <= set(TWINS), "a list of same and wide"),
    "both_ways": (lambda value: isinstance(value, bool), "true or false"),
}


def both_ways(tree: Tree) -> dict[str, Any]:
    """The tree with every source as a target too, and every target as a source of the others; see `sources_of`."""
    everything = {**(tree.get("target") or {}), **(tree.get("source") or {})}
    return {**tree, "source": everything, "target": everything}


class Processes:
    """Where arms run: here, one after the other, or in fresh processes that stay for all of them."""

    def __init__(self, tree: Tree, protocol: Protocol, count: int) -> None:
        self._protocol = protocol
        self._workers = Workers(count, prepared, dict(tree)) if count > 1 else None

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *error: object) -> None:
        if self._workers is not None:
            self._workers.close()

    def run(self, work: Callable[[Protocol, ArmJob], Any], jobs: Sequence[ArmJob], name: str, console: Any) -> None:
        """Do all jobs, and say how far they are."""
        with JobsProgress(name, len(jobs), console) as progress:
            for job, found in self._each(work, jobs):
                progress.done(f"{job.words}  {name} {_said(found)}")

    def _each(self, work: Callable[[Protocol, ArmJob], Any], jobs: Sequence[ArmJob]) -> Iterator[tuple[ArmJob, Any]]:
        if self._workers is not None and len(jobs) > 1:
            yield from self._workers.run(work, jobs)
            return
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as the processes, so that results do not depend on their number
        try:
            for job in jobs:
                yield job, work(self._protocol, job)
        finally:
            torch.set_num_threads(threads)


def prepared(tree: dict[str, Any]) -> Protocol:
    """What a process begins with: the data of all arms."""
    return prepare(tree)[0]


def _said(found: Mapping[str, Any]) -> str:
    if "test" in found:
        return "done"
    score = found.get("val")
    return f"{found.get('seconds', 0.0):.1f} s" + (f", val {score:.4f}" if isinstance(score, float) else "")


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
                union = score_ranker(each(), stream, task.k, task.relevant, task.at, beside)
                found[target][f"{each.name}_union"] = union
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
    found: Mapping[str, Any], tasks: Mapping[str, Task], scored: Mapping[str, Mapping[str, Scored]]
) -> dict[str, Any]:
    """``baselines``; ``weak_twins``, those that are below one of them; and each target's ``best`` arm beside them."""
    weak, best, values = {}, {}, {}
    for target, task in tasks.items():
        main = task.main
        values[target] = {
            name: {metric: number(value.value) for metric, value in each.metrics.items()}
            for name, each in scored.get(target, {}).items()
        }
        there = {name: each.get(main) for name, each in values[target].items() if each.get(main) is not None}
        compared = {name: value for name, value in there.items() if name.startswith(COMPARED)}
        twin = (found["twins"].get(target) or {}).get(main, [None])[0]
        own = [c for c in found["cells"] if c["target"] == target and c["metric"] == main and c["cohort"] is None]
        if twin is None:
            continue
        up = sign(main)
        if compared:
            name = max(compared, key=lambda key: up * float(compared[key] or 0.0))
            if up * float(compared[name] or 0.0) > up * twin:
                weak[target] = {"metric": main, "twin": twin, "baseline": name, "value": compared[name]}
        if own:
            cell = max(own, key=lambda cell: up * cell["delta"])
            best[target] = {"metric": main, "sources": cell["sources"], "value": twin + cell["delta"]}
            if compared:
                best[target] |= {"baseline": name, "baseline_value": compared[name]}
    return {"baselines": values, "weak_twins": weak, "best": best}


def arm_row(job: ArmJob) -> dict[str, Any]:
    """What one training came to."""
    said = status(job.folder)
    row = {"arm": job.arm.name, "target": job.arm.target, "sources": list(job.arm.sources), "seed": job.seed}
    row |= {"folder": job.folder.name, "parameters": job.arm.parameters}
    return row | {key: number(said.get(key)) for key in ("val", "seconds", "test")}


def write_users(path: Path, jobs: Sequence[ArmJob]) -> None:
    """Every metric per user or row of every arm and seed: columns arm, task, seed, metric, user, value."""
    frames = [
        pl.read_parquet(job.folder / "units.parquet")
        .unpivot(index="user", variable_name="metric", value_name="value")
        .select(
            pl.lit(job.arm.name).alias("arm"),
            pl.lit(job.arm.target).alias("task"),
            pl.lit(job.seed).alias("seed"),
            "metric",
            "user",
            pl.col("value").cast(pl.Float64),
        )
        for job in jobs
    ]
    pl.concat(frames).write_parquet(path)


def best_change(report: Mapping[str, Any]) -> float:
    """Mean over the targets of the best change of their main metric, above 0 where it is for the better."""
    found = []
    for target, metric in report["main"].items():
        cells = [c for c in report["cells"] if (c["target"], c["metric"], c["cohort"]) == (target, metric, None)]
        found += [max(sign(metric) * cell["delta"] for cell in cells)] if cells else []
    return float(np.mean(found)) if found else float("nan")


def _to_logger(tree: Tree, folder: Path, report: Mapping[str, Any]) -> None:
    """The cells as a W&B table, where a logger is chosen that has tables."""
    known = {"folder": str(folder), "config": dict(tree), "group": folder.resolve().parent.name}
    logger: Any = config.build(tree["logger"], **known)
    if isinstance(logger, CsvLog):
        return
    columns = ["sources", "target", "metric", "cohort", "delta", "low", "high", "p_holm", "n_users", "verdict"]
    rows = [["+".join(c["sources"]), *(c[key] for key in columns[1:])] for c in report["cells"]]
    logger.log_table("transfer_matrix", columns=columns, data=rows)
    logger.log_image("transfer_matrix_plot", [str(folder / "transfer_matrix.png")])
    logger.close(0)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    draft = path.with_name(f".{path.name}")
    draft.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
    os.replace(draft, path)
