"""The cells of a transfer matrix: what each arm of a target changed against its twin, and what may be said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graftrec.evaluation.statistics import user_values
from graftrec.evaluation.statistics.intervals import Difference
from graftrec.evaluation.statistics.user_values import USER, Values, difference_of, mean_of
from graftrec.evaluation.statistics.verdicts import Cell, decide, number
from graftrec.runs.audit.arms import ALL, AUTO, TWIN, WIDE, ArmJob, read_units, status

OfArms = dict[str, list[Values]]
"""Arm -> of each seed the values of one target."""


def matrix(jobs: Sequence[ArmJob], mains: Mapping[str, str], declared: Sequence[str] = ()) -> dict[str, Any]:
    """``twins``, ``wide_twins`` and ``cells`` of audit.json, from what the arms' folders hold.

    A cell is arm - twin, seed by seed and user by user, in the metric's unit, as `graftrec train` has it. The cells of
    the targets' main metrics and of those that were ``declared`` are one family: they have Holm's p and a verdict. The
    others are shown without. With one source, that arm is what stands beside the wide twin.
    """
    found: dict[str, Any] = {"twins": {}, "wide_twins": {}, "cells": []}
    family: list[Cell] = []
    for target in mains:
        own = [job for job in jobs if job.arm.target == target]
        arms = units_of(own)
        metrics = [name for name in arms[TWIN][0] if name != USER and measured(arms[TWIN], name)]
        found["twins"][target] = {metric: _level(mean_of(arms[TWIN], metric)) for metric in metrics}
        sources = [arm for arm in arms if arm not in (TWIN, WIDE, AUTO)]
        most = ALL if ALL in arms else sources[0] if len(sources) == 1 else ""  # what has the wide twin's parameters
        if WIDE in arms:
            wide = [metric for metric in metrics if measured(arms[WIDE], metric)]
            found["wide_twins"][target] = {metric: _level(mean_of(arms[WIDE], metric)) for metric in wide}
        for arm in arms:
            if arm in (TWIN, WIDE):
                continue
            mine = [job for job in own if job.arm.name == arm]
            seen = _seen([status(job.folder) for job in mine])
            for metric in dict.fromkeys([mains[target], *metrics]):
                if metric not in metrics or not measured(arms[arm], metric):
                    if metric == mains[target]:
                        found["cells"].append(_undefined(metric in metrics) | _described(mine, metric) | seen)
                    continue
                cell = Cell(metric, difference_of(arms[arm], arms[TWIN], metric))
                cell.found |= _described(mine, metric) | seen
                cell.found["n_users"] = cell.found.pop("n")
                if arm == most and WIDE in arms and measured(arms[WIDE], metric):
                    cell.found["over_wide_twin"] = Cell(metric, difference_of(arms[arm], arms[WIDE], metric)).found
                found["cells"].append(cell.found)
                if metric in (mains[target], *declared):
                    family.append(cell)
    decide(family)
    found["family"] = {"size": len(family), "declared": list(declared)}
    return found


def units_of(jobs: Sequence[ArmJob]) -> OfArms:
    """The test's values of one target's arms, of each seed.

    Raises:
        ValueError: arms that were judged on different users or rows.
    """
    found: OfArms = {}
    first: Values | None = None
    for job in jobs:
        values = user_values.read(read_units(job.folder)).get(job.arm.target, {})
        first = values if first is None else first
        if not np.array_equal(first.get(USER, ()), values.get(USER, ())):
            raise ValueError(f"{job.words} should be judged on the users of the other arms. Found others.")
        found.setdefault(job.arm.name, []).append(values)
    return found


def measured(seeds: Sequence[Values], metric: str) -> bool:
    """Whether every seed of an arm has a value of somebody."""
    return all(metric in values and not np.isnan(values[metric]).all() for values in seeds)


def _undefined(twin: bool) -> dict[str, Any]:
    """A cell of the main metric without a number, and why."""
    why = f"the metric is undefined with a seed of {'this arm' if twin else 'the twin'}"
    numbers = dict.fromkeys(("delta", "low", "high", "p", "p_holm", "verdict", "minimum_detectable", "error"))
    return {**numbers, "n_users": 0, "reason": why}


def _described(jobs: Sequence[ArmJob], metric: str) -> dict[str, Any]:
    name, _, cohort = metric.partition("/")
    arm = jobs[0].arm
    return {
        "sources": list(arm.sources),
        "target": arm.target,
        "metric": name,
        "cohort": cohort or None,
        "seconds": round(sum(float(status(job.folder).get("seconds") or 0.0) for job in jobs), 3),
        "parameters": arm.parameters,
    }


def _level(mean: Difference) -> list[float | None]:
    """The mean and its interval; none where there is none."""
    return [number(mean.delta), number(mean.low), number(mean.high)]


def _seen(states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the seeds of what the arms logged of their tasks: gradient_cosine ``a~b`` and affinity ``a->b``."""
    found: dict[str, dict[str, list[float]]] = {}
    for state in states:
        for name, value in (state.get("seen") or {}).items():
            kind, _, pair = name.partition("/")
            found.setdefault(kind, {}).setdefault(pair, []).append(float(value))
    return {kind: {pair: sum(v) / len(v) for pair, v in pairs.items()} for kind, pairs in found.items()}
