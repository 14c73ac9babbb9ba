"""Numbers and verdicts as words, the same ones on every screen and page."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

DASH = "–"  # noqa: RUF001
GRAFTED = "grafted"
TWIN = "twin"
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
    """The verdict's word: helps, hurts, no evidence, or an empty text."""
    return str((difference or {}).get("verdict") or "")


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
    """Those metrics that a screen shows: not `ASIDE`, nor lists of other lengths, nor all cohorts by history."""
    main = str(table(metrics, "main").get("metric"))
    length = main.partition("@")[2]

    def kept(name: str) -> bool:
        metric, _, cohort = name.partition("/")
        stem = metric.partition("@")[0]
        other = metric != f"{stem}@{length}" and f"{stem}@{length}" in names
        return metric == main or not (metric in ASIDE or other or cohort.startswith("history_"))

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


def verdict_sentence(metrics: Metrics) -> str:
    """The answer to the run's question in one sentence."""
    task, metric, difference = main_difference(metrics)
    numbers = interval(difference)
    if numbers == DASH:
        why = reason(metrics, "differences", task, metric) or reason(metrics, "test", task, metric)
        why = why or "no twin was trained" if not table(metrics, "twin") else why or "the difference is undefined"
        return f"Whether the transfer helped was not measured: {why}."
    said = {"helps": "The transfer helped", "hurts": "The transfer hurt"}.get(verdict(difference))
    return f"{said or 'No evidence that the transfer helped'}: {task} {metric} {numbers}"


def cohort_sentences(metrics: Metrics) -> list[str]:
    """What the main difference is in each cohort: ``first time: +0.010 [+0.001, +0.019], helps``."""
    task, metric, _ = main_difference(metrics)
    found = []
    for name, difference in table(metrics, "differences", task).items():
        main, slash, cohort = name.partition("/")
        if slash and main == metric and interval(difference) != DASH:
            found.append(f"{label(cohort)}: {interval(difference)}, {verdict(difference)}")
    return found


def baseline_sentence(metrics: Metrics) -> str:
    """How the grafted model did against the strongest baseline; empty where there was none."""
    main = table(metrics, "main")
    task, metric = str(main.get("task") or ""), str(main.get("metric") or "")
    over = table(metrics, "over_baseline", task, metric)
    numbers = interval(over)
    if numbers == DASH:
        return ""
    word = {"helps": "better than", "hurts": "worse than"}.get(verdict(over), "not clearly different from")
    return f"The grafted model is {word} the best baseline, {label(str(over.get('baseline')))}: {numbers}"
