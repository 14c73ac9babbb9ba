"""Trained models beside simple ones: which baseline is the best, and is a twin clearly below one (a weak twin)?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graftrec.evaluation.baselines.scoring import Scored
from graftrec.evaluation.statistics.intervals import FEWEST_SEEDS
from graftrec.evaluation.statistics.user_values import Values, difference_of
from graftrec.evaluation.statistics.verdicts import Cell, decide
from graftrec.tasks.metrics.direction import sign

UNION = "_union"  # the end of a baseline's name that sees the sources' rows as well
CLEAR = 0.05


def beside(metric: str, arms: Mapping[str, Sequence[Values]], baselines: Mapping[str, Scored]) -> dict[str, Any]:
    """Each arm - each baseline of one target, of one metric, with intervals over users and the arm's seeds.

    ``best`` is the baseline with the best test value; p values are corrected among all baselines of an arm (Holm), so
    that one may be named after the test was seen. ``weak`` names the baseline that is clearly above the twin, by the
    most if there are several; baselines that see the sources' rows (`UNION`) are left out of it, and fewer than
    `FEWEST_SEEDS` seeds of the twin make it neither weak nor strong.
    """
    values = {name: each.metrics[metric].value for name, each in baselines.items() if metric in each.metrics}
    defined = {name: value for name, value in values.items() if value is not None}
    if not defined:
        return {}
    best = max(defined, key=lambda name: sign(metric) * defined[name])
    found: dict[str, Any] = {"metric": metric, "best": best, "value": defined[best]}
    for arm, seeds in arms.items():
        cells = {
            name: Cell(metric, difference_of(seeds, [baselines[name].units] * len(seeds), metric))
            for name in defined
            if metric in baselines[name].units and all(metric in each for each in seeds)
        }
        decide(list(cells.values()))
        found[arm] = {name: cell.found for name, cell in cells.items()}
    found["weak"] = _weak(found.get("twin", {}), sign(metric))
    return found


def _weak(twin: Mapping[str, Mapping[str, Any]], up: float) -> str | None:
    below = {
        name: up * each["delta"]
        for name, each in twin.items()
        if not name.endswith(UNION)
        and each["delta"] is not None
        and each["seeds"] >= FEWEST_SEEDS
        and each["p_holm"] < CLEAR
    }
    below = {name: delta for name, delta in below.items() if delta < 0}
    return min(below, key=lambda name: below[name], default=None)
