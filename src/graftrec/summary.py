"""What a run came to: grafted, twin and baselines side by side, with intervals, and the reason of what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
import torch

from graftrec.analysis.scored import Scored
from graftrec.analysis.statistics import paired_difference
from graftrec.assemble import task_trees
from graftrec.metrics.pointwise import Value
from graftrec.metrics.scale import sign
from graftrec.phases import Arm
from graftrec.tasks.base import Task
from graftrec.tasks.ranking import COHORTS

Metrics = dict[str, Any]
Baselines = Mapping[str, Mapping[str, Scored]]
"""Task -> baseline -> what it scored."""


def summary(tree: Mapping[str, Any], grafted: Arm, twin: Arm | None, baselines: Baselines) -> Metrics:
    """metrics.json: everything measured, with the reason of every value that is not there."""
    found: Metrics = {"test": {}, "val": {}, "twin": {}, "baselines": {}, "differences": {}, "over_baseline": {}}
    found["reasons"], found["chosen"] = {}, {}
    roles = {name: role for name, (role, _) in task_trees(tree).items()}
    for name in roles:
        for baseline, scored in baselines[name].items():
            _put(found, f"baselines/{name}/{baseline}", scored.metrics)
            if scored.chosen is not None:
                found["chosen"][f"{name}/{baseline}"] = scored.chosen
        _put(found, f"val/{name}", grafted.val.get(name, {}))
        _put(found, f"test/{name}", grafted.test.get(name, {}))
        if twin is not None and name in twin.test:
            _put(found, f"twin/{name}", twin.test[name])
            found["differences"][name] = _differences(found, name, grafted.units[name], twin.units[name])
    main = next(name for name, role in roles.items() if role == "target")
    metric = grafted.tasks[main].main
    found["over_baseline"] = _over_baseline(grafted.tasks[main], main, metric, grafted, baselines[main])
    found["skipped"] = {"grafted": grafted.skipped, "twin": twin.skipped if twin is not None else {}}
    found["roles"], found["main"] = roles, {"task": main, "metric": metric}
    found["fit"] = {
        "seconds": grafted.seconds,
        "rows_per_second": grafted.rows_per_second,
        "parameters": sum(grafted.parameters.values()),
        "parameters_of": grafted.parameters,
        **grafted.cost,
        "flops": grafted.flops,
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
            both = ours[metric].numpy(), theirs[metric].numpy()
            differences[metric] = asdict(paired_difference(*both, up=sign(metric)))
        else:
            found["reasons"][f"differences/{task}/{metric}"] = f"{metric} is no mean over users or rows"
    return differences


def _over_baseline(task: Task, name: str, metric: str, grafted: Arm, baselines: Mapping[str, Scored]) -> Metrics:
    """Grafted - the best baseline, for the metrics of a ranking with and without cohort."""
    if not task.ranks:
        return {}
    over = {}
    for key in (metric, f"{metric}/first_time"):
        values = {base: ref.metrics[key].value for base, ref in baselines.items() if key in ref.metrics}
        scored = {base: value for base, value in values.items() if value is not None}
        if scored and key in grafted.units[name]:
            best = max(scored, key=lambda base: float(scored[base] or 0.0))
            difference = paired_difference(grafted.units[name][key].numpy(), baselines[best].units[key].numpy())
            over[key] = {"baseline": best, **asdict(difference)}
    return {name: over}


def write_units(path: Path, grafted: Arm, twin: Arm | None, baselines: Baselines) -> None:
    """Every metric per user, for paired comparisons of runs: columns arm, task, metric, user, value."""
    arms = [("grafted", task, units) for task, units in grafted.units.items()]
    arms += [("twin", task, units) for task, units in (twin.units if twin else {}).items()]
    arms += [(name, task, ref.units) for task, found in baselines.items() for name, ref in found.items()]
    frames = []
    for arm, task, columns in arms:
        who = columns.get("query", grafted.units.get(task, {}).get("query"))
        for metric, values in columns.items():
            if metric == "query":
                continue
            if metric.partition("/")[2].startswith(COHORTS) and bool(values.isnan().all()):
                continue  # nobody is in it
            user = torch.arange(len(values)) if who is None else who
            frames.append(
                pl.DataFrame({"user": user.numpy(), "value": values.double().numpy()}).select(
                    pl.lit(arm).alias("arm"),
                    pl.lit(task).alias("task"),
                    pl.lit(metric).alias("metric"),
                    "user",
                    "value",
                )
            )
    if frames:
        pl.concat(frames).write_parquet(path)
