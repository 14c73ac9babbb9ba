"""The cells of a transfer matrix: what each arm of a target changed against its twin, and what may be said of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from graftrec.analysis.arms import ALL, AUTO, TWIN, WIDE, ArmJob, status
from graftrec.analysis.draws import Measured, by_user, holm, measure, verdict
from graftrec.metrics.scale import bounds, sign

Array = npt.NDArray[np.float64]
Units = dict[str, dict[str, Array]]
"""Arm -> metric -> values (seeds, users), of one target."""


def matrix(jobs: Sequence[ArmJob], draws: int = 10_000) -> dict[str, Any]:
    """``twins``, ``wide_twins`` and ``cells`` of audit.json, from what the arms' folders hold.

    A cell is the mean over users and seeds of arm - twin, seed by seed and user by user, in the metric's unit. Its p is
    corrected by Holm in the family of all cells of its metric, overall; those of cohorts are a second family. With one
    source, that arm is what stands beside the wide twin.

    The interval of a twin's own mean is cut to what the metric can be (see `bounds`): a few users give one that is
    wider, and as the true mean is inside of the range, the part that is left holds it as often as the whole did.
    """
    found: dict[str, Any] = {"twins": {}, "wide_twins": {}, "cells": []}
    for target in dict.fromkeys(job.arm.target for job in jobs):
        own = [job for job in jobs if job.arm.target == target]
        units = units_of(own)
        if not units[TWIN]:
            found["twins"][target] = {}
            continue
        sources = [arm for arm in units if arm not in (TWIN, WIDE, AUTO)]
        most = ALL if ALL in units else sources[0] if len(sources) == 1 else ""  # what has the wide twin's parameters
        asked: list[tuple[str, str, Array]] = []  # arm, metric, values or differences
        for metric, twin in units[TWIN].items():
            asked += [("", metric, twin)]
            asked += [(arm, metric, values[metric] - twin) for arm, values in units.items() if arm not in (TWIN, WIDE)]
            if WIDE in units:
                asked += [(WIDE, metric, units[WIDE][metric])]
                asked += [("over", metric, units[most][metric] - units[WIDE][metric])] if most else []
        measured = measure([values for *_, values in asked], draws)
        by_name = {(arm, metric): each for (arm, metric, _), each in zip(asked, measured, strict=True)}
        found["twins"][target] = {metric: of_twin(by_name["", metric], metric) for metric in units[TWIN]}
        if WIDE in units:
            found["wide_twins"][target] = {metric: of_twin(by_name[WIDE, metric], metric) for metric in units[TWIN]}
        for arm in units:
            if arm in (TWIN, WIDE):
                continue
            mine = [job for job in own if job.arm.name == arm]
            said = _seen([status(job.folder) for job in mine])
            for metric in units[TWIN]:
                cell = _cell(mine, metric, by_name[arm, metric]) | said
                if arm == AUTO:
                    cell["auto"] = _chosen([status(job.folder) for job in mine])
                if arm == most and WIDE in units:
                    cell["over_wide_twin"] = _plain(by_name["over", metric])
                found["cells"].append(cell)
    decide(found["cells"])
    return found


def units_of(jobs: Sequence[ArmJob]) -> Units:
    """The test's values of one target's arms: rows of one user are brought together, see `by_user`.

    Raises:
        ValueError: arms that were judged on different users.
    """
    found: Units = {}
    who: npt.NDArray[np.int64] | None = None
    for name in dict.fromkeys(job.arm.name for job in jobs):
        seeds: dict[str, list[Array]] = {}
        for job in jobs:
            if job.arm.name != name:
                continue
            frame = pl.read_parquet(job.folder / "units.parquet")
            rows = frame["user"].to_numpy()
            alone = len(np.unique(rows)) == len(rows)
            users = rows if alone else by_user(np.zeros(len(rows)), rows)[0]
            if who is not None and not np.array_equal(who, users):
                raise ValueError(f"{job.words} should be judged on the users of the other arms. Found others.")
            who = users
            for metric in frame.columns[1:]:
                values = frame[metric].to_numpy().astype(np.float64)
                seeds.setdefault(metric, []).append(values if alone else by_user(values, rows)[1])
        found[name] = {metric: np.stack(values) for metric, values in seeds.items()}
    common = [m for m in found.get(TWIN, {}) if all(m in arm and not np.isnan(arm[m]).all() for arm in found.values())]
    return {name: {metric: arm[metric] for metric in common} for name, arm in found.items()}


def decide(cells: list[dict[str, Any]]) -> None:
    """Put ``p_holm`` and the ``verdict`` into each cell; a family is a metric's cells overall, or those of cohorts."""
    families: dict[tuple[str, bool], list[dict[str, Any]]] = {}
    for cell in cells:
        families.setdefault((cell["metric"], cell["cohort"] is None), []).append(cell)
    for family in families.values():
        for cell, p in zip(family, holm([cell["p"] for cell in family]), strict=True):
            cell["p_holm"] = p
            delta = math.nan if cell["delta"] is None else cell["delta"] * sign(cell["metric"])
            cell["verdict"] = verdict(delta, p)


def _cell(jobs: Sequence[ArmJob], metric: str, measured: Measured) -> dict[str, Any]:
    name, _, cohort = metric.partition("/")
    arm = jobs[0].arm
    return {
        "sources": list(arm.sources),
        "target": arm.target,
        "metric": name,
        "cohort": cohort or None,
        **_plain(measured),
        "p_holm": 1.0,
        "verdict": "no evidence",
        "seconds": round(sum(float(status(job.folder).get("seconds") or 0.0) for job in jobs), 3),
        "parameters": arm.parameters,
    }


def _plain(measured: Measured) -> dict[str, Any]:
    """The numbers of a difference as JSON has them."""
    found = {key: number(value) for key, value in asdict(measured).items()}
    found["n_users"] = found.pop("n")
    return found


def number(value: Any) -> Any:
    """A number that JSON can hold; what is not finite is null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def of_twin(measured: Measured, metric: str) -> list[float | None]:
    """The mean and its interval, cut to what the metric can be; none where there is none."""
    if not math.isfinite(measured.low):
        return [number(measured.delta), None, None]
    least, most = bounds(metric)
    return [number(measured.delta), max(measured.low, least), min(measured.high, most)]


def _chosen(states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """In how many seeds each source was used, and nothing at all; the trainings that it took, of all seeds."""
    found: dict[str, Any] = {"used": {}, "nothing": 0, "seeds": len(states), "trials": 0}
    for state in states:
        said = state["auto"]
        found["trials"] += said["trials"]
        found["nothing"] += not said["strengths"]
        for name in said["strengths"]:
            found["used"][name] = found["used"].get(name, 0) + 1
    return found


def _seen(states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the seeds of what the arms logged of their tasks: gradient_cosine ``a~b`` and affinity ``a->b``."""
    found: dict[str, dict[str, list[float]]] = {}
    for state in states:
        for name, value in (state.get("seen") or {}).items():
            kind, _, pair = name.partition("/")
            found.setdefault(kind, {}).setdefault(pair, []).append(float(value))
    return {kind: {pair: sum(v) / len(v) for pair, v in pairs.items()} for kind, pairs in found.items()}
