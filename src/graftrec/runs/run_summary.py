"""What a run came to: grafted, twin and baselines side by side, with intervals, and the reason of what is missing."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from graftrec.data.protocols.base import Protocol
from graftrec.evaluation.baselines.scoring import Scored
from graftrec.evaluation.statistics import user_values
from graftrec.evaluation.statistics.user_values import USER, Values, difference_of
from graftrec.evaluation.statistics.verdicts import Cell, decide
from graftrec.evaluation.weak_twin import beside
from graftrec.tasks.base import Task
from graftrec.tasks.metrics.pointwise import Value
from graftrec.tasks.ranking import COHORTS
from graftrec.training.builder import task_trees
from graftrec.training.fit import Arm, has_transfer

Metrics = dict[str, Any]
Baselines = Mapping[str, Mapping[str, Scored]]
"""Task -> baseline -> what it scored."""
Seeds = Mapping[int, Arm]
"""Seed -> the training of an arm."""


def summary(
    tree: Mapping[str, Any], tasks: Mapping[str, Task], grafted: Seeds, twin: Seeds | None, baselines: Baselines
) -> Metrics:
    """metrics.json: everything measured, with the reason of every value that is not there.

    A value of several seeds is their mean; ``spread`` has the standard deviations and ``by_seed`` the values.
    ``differences`` are grafted - twin. Verdicts have the targets' main metrics and what ``verdicts`` names, corrected
    as one family; all other differences are shown without.
    """
    first = next(iter(grafted.values()))
    roles = {name: role for name, (role, _) in task_trees(tree).items()}
    targets = [name for name, role in roles.items() if role == "target"]
    found: Metrics = {"test": {}, "val": {}, "twin": {}, "baselines": {}, "differences": {}}
    found |= {"seeds": list(grafted), "spread": {}, "by_seed": {}, "reasons": {}, "chosen": {}, "fitted_on": {}}
    for name in roles:
        for baseline, scored in baselines.get(name, {}).items():
            _put(found, f"baselines/{name}/{baseline}", scored.metrics)
            found["fitted_on"].setdefault(name, {})[baseline] = scored.rows
            if scored.chosen is not None:
                found["chosen"][f"{name}/{baseline}"] = scored.chosen
        _put_seeds(found, f"val/{name}", [arm.val.get(name, {}) for arm in grafted.values()])
        _put_seeds(found, f"test/{name}", [arm.test.get(name, {}) for arm in grafted.values()])
        if twin is not None and name in next(iter(twin.values())).test:
            _put_seeds(found, f"twin/{name}", [arm.test[name] for arm in twin.values()])
    found["main"] = {"task": targets[0], "metric": tasks[targets[0]].main}
    found["mains"] = {name: tasks[name].main for name in targets}
    cells = _differences(found, grafted, twin)
    declared = dict.fromkeys(str(name) for name in tree.get("verdicts") or ())
    family = [
        cells[name, metric] for name in targets for metric in dict.fromkeys([tasks[name].main, *declared])
        if (name, metric) in cells
    ]  # fmt: skip
    decide(family)
    found["family"] = {"size": len(family), "declared": list(declared)}
    if twin is None:
        found["family"]["untested"] = (
            "no twin was trained" if has_transfer(tree) else "there is no source to learn from"
        )
    found["users"] = {name: _counts(_values(name, grafted)[0]) for name in roles}
    arms = {"twin": twin, "grafted": grafted} if twin is not None else {"grafted": grafted}
    found["beside"], found["beside_declared"] = {}, {}
    for name in roles:
        if of_task := baselines.get(name):
            there = {arm: _values(name, seeds) for arm, seeds in arms.items() if arm == "grafted" or name in targets}
            found["beside"][name] = beside(tasks[name].main, there, of_task)
            if name in targets:
                also = {metric: beside(metric, there, of_task) for metric in declared if metric != tasks[name].main}
                found["beside_declared"][name] = {metric: each for metric, each in also.items() if each}
    for name in roles:
        if name in baselines and not baselines[name] and found["test"][name]:
            why = f"there is none for {type(tasks[name]).__name__}" if tree["baselines"] else "baselines=false"
            found["reasons"][f"baselines/{name}"] = f"no simple model stands beside {name}: {why}"
    found["skipped"] = {arm: _skipped(seeds) for arm, seeds in (("grafted", grafted), ("twin", twin))}
    found["roles"] = roles
    found["fit"] = {
        "seconds": first.seconds,
        "seconds_of_all": sum(arm.seconds for seeds in (grafted, twin or {}) for arm in seeds.values()),
        "rows_per_second": first.rows_per_second,
        "parameters": sum(first.parameters.values()),
        "parameters_of": first.parameters,
        **first.cost,
        "flops": first.flops,
        "evaluation": first.evaluation,
    }
    return found


def _put(found: Metrics, path: str, values: Mapping[str, Value]) -> None:
    """Values under ``path``; a missing one is null, with its reason."""
    at = _at(found, path)
    for metric, value in values.items():
        at[metric] = value.value
        if value.value is None:
            found["reasons"][f"{path}/{metric}"] = value.reason


def _at(found: Metrics, path: str) -> Metrics:
    for part in path.split("/"):
        found = found.setdefault(part, {})
    return found


def _put_seeds(found: Metrics, path: str, seeds: Sequence[Mapping[str, Value]]) -> None:
    """The mean of each metric over the seeds under ``path``; one that a seed lacks is null, with that seed's reason."""
    values: dict[str, Value] = {}
    for metric in dict.fromkeys(metric for each in seeds for metric in each):
        own = [each.get(metric, Value(None, "not measured with every seed")) for each in seeds]
        numbers = [value.value for value in own if value.value is not None]
        missing = next((value for value in own if value.value is None), None)
        values[metric] = missing or Value(statistics.fmean(numbers))
        if len(seeds) > 1 and missing is None:
            _at(found, f"spread/{path}")[metric] = statistics.stdev(numbers)
            _at(found, f"by_seed/{path}")[metric] = numbers
    _put(found, path, values)


def _differences(found: Metrics, grafted: Seeds, twin: Seeds | None) -> dict[tuple[str, str], Cell]:
    """Grafted - twin for every metric that has values per user or row, not decided yet."""
    cells: dict[tuple[str, str], Cell] = {}
    for task in found["twin"]:
        assert twin is not None  # noqa: S101  for mypy
        ours, theirs = _values(task, grafted), _values(task, twin)
        for metric in found["test"][task]:
            if all(metric in values for values in (*ours, *theirs)):
                cell = Cell(metric, difference_of(ours, theirs, metric))
                cells[task, metric] = cell
                found["differences"].setdefault(task, {})[metric] = cell.found
                if "reason" in cell.found:
                    found["reasons"][f"differences/{task}/{metric}"] = cell.found["reason"]
            else:
                found["reasons"][f"differences/{task}/{metric}"] = f"{metric} is no mean over users or rows"
    return cells


def _values(task: str, seeds: Seeds) -> list[Values]:
    return [arm.units.get(task, {}) for arm in seeds.values()]


def _counts(values: Values) -> dict[str, int]:
    """How many users, or rows of nobody known, have a value of each metric of a cohort."""
    found = {}
    for metric in values:
        if "/" in metric:
            there = ~np.isnan(np.asarray(values[metric], dtype=np.float64))
            owners = np.zeros(len(there)) if values.get(USER) is None else np.asarray(values[USER])
            known = owners[there & (owners != 0)]
            found[metric] = len(np.unique(known)) + int((there & (owners == 0)).sum())
    return found


def _skipped(seeds: Seeds | None) -> dict[str, int]:
    found: dict[str, int] = {}
    for arm in (seeds or {}).values():
        for name, times in arm.skipped.items():
            found[name] = found.get(name, 0) + times
    return found


def write_units(path: Path, protocol: Protocol, tree: Mapping[str, Any], arms: Mapping[str, Seeds | None],
                baselines: Baselines) -> None:  # fmt: skip
    """Every metric of every user, for paired comparisons: columns arm, seed, task, metric, user, id and value.

    ``user`` is the user's number in this data (0: nobody known, each row for itself) and ``id`` the raw id as text. A
    baseline has no seed.
    """
    frames = [
        user_values.frame_of(arm.units, arm=name, seed=seed)
        for name, seeds in arms.items()
        for seed, arm in (seeds or {}).items()
    ]
    for task, of_task in baselines.items():
        frames += [user_values.frame_of({task: each.units}, arm=name, seed=None) for name, each in of_task.items()]
    everything = [frame.with_columns(pl.col("seed").cast(pl.Int64)) for frame in frames if len(frame)]
    if not everything:
        return
    found = pl.concat(everything)
    empty = pl.col("metric").str.contains(rf"/({'|'.join(COHORTS)})") & pl.col("value").is_nan().all().over(
        "arm", "seed", "task", "metric"
    )
    user_values.write(with_ids(found.filter(~empty), protocol, tree), path)


def with_ids(values: pl.DataFrame, protocol: Protocol, tree: Mapping[str, Any]) -> pl.DataFrame:
    """The frame with the raw ``id`` of each user in the task's own data as text, null where nobody is known."""
    parts = []
    for (task,), part in values.partition_by("task", as_dict=True, maintain_order=True).items():
        stream = str(task_trees(tree)[str(task)][1].get("stream") or "")
        ids = pl.Series("id", [None] * len(part), dtype=pl.String)
        if stream and bool((part[USER] != 0).any()):
            numbers, raw = protocol.raw_users(stream)
            known = pl.DataFrame({USER: numbers, "id": raw.cast(pl.String)}).filter(pl.col(USER) != 0)
            ids = part.select(USER).join(known, on=USER, how="left", maintain_order="left")["id"]
        parts.append(part.insert_column(part.columns.index(USER) + 1, ids))
    return pl.concat(parts)
