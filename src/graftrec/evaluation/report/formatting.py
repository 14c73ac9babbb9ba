"""Numbers and verdicts as words, the same ones on every screen and page."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

DASH = "–"  # noqa: RUF001
GRAFTED = "grafted"
TWIN = "twin"
FEW = 30  # users, below which their number is shown
# What metrics.json and report.html hold and a screen has no room for, unless it is the run's main metric.
LISTS = ("coverage", "novelty", "popularity_bias")  # of all users' lists together: neither higher nor lower is better
ASIDE = ("ap", "precision", "recall", "f1", "copc", "gauc_coverage", "r2")

Metrics = Mapping[str, Any]


def number(value: Any) -> float | None:
    """A finite float, or None for anything that is not one (null, NaN, text)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def shown(value: Any) -> str:
    """One metric value as text; a dash where it is undefined."""
    x = number(value)
    if x is None:
        return DASH
    return f"{x:.3f}" if abs(x) < 100 else f"{x:,.1f}"


def amount(value: Any, unit: str) -> str:
    """Three digits of a large number with its unit: ``1.23 GFLOP``."""
    x = number(value)
    if x is None:
        return DASH
    step = min(6, int(math.log10(max(1.0, x)) // 3))
    return f"{x / 1000**step:.3g} {'kMGTPE'[step - 1] if step else ''}{unit}"


def signed(value: Any) -> str:
    """A difference with its sign; four digits where three would hide it."""
    x = number(value)
    if x is None:
        return DASH
    digits = 3 if abs(x) >= 0.001 or x == 0 else 4
    return f"{x:+.{digits}f}"


def interval(difference: Metrics | None) -> str:
    """``+0.003 [-0.004, +0.010]``, or a dash where there is no difference."""
    if not difference or number(difference.get("delta")) is None:
        return DASH
    delta, low, high = (signed(difference.get(k)) for k in ("delta", "low", "high"))
    return f"{delta} [{low}, {high}]" if DASH not in (low, high) else delta


def verdict(difference: Metrics | None) -> str:
    """The verdict's word: helps, hurts, no evidence, or an empty text where there is none to be had."""
    return str((difference or {}).get("verdict") or "")


def few(difference: Metrics | None) -> str:
    """``4 users`` where an interval is of fewer than 30 users, else an empty text."""
    count = (difference or {}).get("n", (difference or {}).get("n_users"))
    if not isinstance(count, int) or count >= FEW:
        return ""
    return f"{count} user{'' if count == 1 else 's'}"


def said(difference: Metrics | None) -> str:
    """What stands behind an interval: its verdict, and of how few users it is."""
    return ", ".join(part for part in (verdict(difference), few(difference)) if part)


def table(metrics: Metrics, *keys: str) -> Metrics:
    """The mapping under nested keys, empty where one of them is missing."""
    found: Any = metrics
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def label(name: str) -> str:
    """``ndcg@10/first_time`` as ``ndcg@10 · first time``, ``history_1_4`` as ``history 1-4``."""
    name = re.sub(r"history_(\d+)_(\d+)$", r"history \1-\2", name)
    return re.sub(r"history_([1-9]\d*)$", r"history \1+", name).replace("/", " · ").replace("_", " ")


def row_label(metrics: Metrics, task: str, metric: str) -> str:
    """The label of a row of results; without a difference behind it, of how few users a cohort is."""
    count = table(metrics, "users", task).get(metric)
    if count is None or number(table(metrics, "differences", task, metric).get("delta")) is not None:
        return label(metric)
    return f"{label(metric)}, {of}" if (of := few({"n": count})) else label(metric)


def tasks(metrics: Metrics) -> list[str]:
    """Task names, targets first, then sources, then shared ones."""
    roles = table(metrics, "roles")
    order = {"target": 0, "source": 1, "shared": 2}
    names = dict.fromkeys([*table(metrics, "test"), *table(metrics, "baselines")])
    return sorted(names, key=lambda task: order.get(str(roles.get(task)), 3))


def metric_names(metrics: Metrics, task: str) -> list[str]:
    """Every metric known for a task, in the order of the test scores; the run's main metric and its cohorts first."""
    names = dict.fromkeys([*table(metrics, "test", task), *table(metrics, "twin", task)])
    for scores in table(metrics, "baselines", task).values():
        names.update(dict.fromkeys(scores))
    main = table(metrics, "main")
    first = main.get("metric") if main.get("task") == task else None
    return sorted(names, key=lambda name: 0 if name == first else 1 if name.partition("/")[0] == first else 2)


def brief(metrics: Metrics, names: Sequence[str]) -> list[str]:
    """Metrics that a screen shows: what is declared, else no `ASIDE`, lists of other lengths or cohorts by history."""
    main = str(table(metrics, "main").get("metric"))
    length = main.partition("@")[2]
    declared = table(metrics, "family").get("declared") or ()

    def kept(name: str) -> bool:
        metric, _, cohort = name.partition("/")
        stem = metric.partition("@")[0]
        other = metric != f"{stem}@{length}" and f"{stem}@{length}" in names
        return metric == main or name in declared or not (metric in ASIDE or other or cohort.startswith("history_"))

    return [name for name in names if kept(name)]


def of_lists(metric: str) -> bool:
    """Whether a metric is of all users' lists together, so that no user has a value."""
    return metric.partition("@")[0] in LISTS


def baseline_names(metrics: Metrics, task: str) -> list[str]:
    """The baselines that were scored for a task."""
    return list(table(metrics, "baselines", task))


def reason(metrics: Metrics, *path: str) -> str:
    """Why the value at ``part/task/metric`` is undefined; empty where nobody said."""
    reasons = table(metrics, "reasons")
    found = reasons.get("/".join(path))
    return "" if found is None else str(found)


def score(metrics: Metrics, task: str, metric: str, column: str) -> tuple[float | None, str]:
    """A cell of the result table: its value, and the reason where there is none."""
    if column == GRAFTED:
        path: Sequence[str] = ("test", task)
    elif column == TWIN:
        path = ("twin", task)
    else:
        path = ("baselines", task, column)
    value = number(table(metrics, *path).get(metric))
    if value is not None:
        return value, ""
    return None, reason(metrics, *path, metric) or reason(metrics, "test", task, metric) or "not measured"


def columns(metrics: Metrics, task: str) -> list[str]:
    """Columns of a task's result table before the difference: baselines, twin, grafted."""
    twin = [TWIN] if table(metrics, "twin", task) else []
    return [*baseline_names(metrics, task), *twin, GRAFTED]


def main_difference(metrics: Metrics) -> tuple[str, str, Metrics]:
    """(task, metric, difference) of the run's main metric."""
    main = table(metrics, "main")
    task, metric = str(main.get("task") or ""), str(main.get("metric") or "")
    return task, metric, table(metrics, "differences", task, metric)


def seeds_of(metrics: Metrics) -> list[Any]:
    """The seeds that a run was trained with."""
    found = metrics.get("seeds")
    return list(found) if isinstance(found, list) else []


def spread(metrics: Metrics, task: str, metric: str, column: str) -> float | None:
    """The standard deviation over seeds of a cell of the result table; None for one seed and for baselines."""
    part = {GRAFTED: "test", TWIN: "twin"}.get(column)
    return None if part is None else number(table(metrics, "spread", part, task).get(metric))
