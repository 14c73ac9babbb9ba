"""Verdicts of one family of differences: Holm's correction, and what a run of one seed may not say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from graftrec.evaluation.statistics.intervals import FEWEST_SEEDS, Difference, holm, verdict
from graftrec.tasks.metrics.direction import sign


@dataclass
class Cell:
    """A difference of one metric, and what is to be said of it: ``found`` is what a report holds."""

    metric: str
    difference: Difference
    found: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = ("delta", "low", "high", "p", "n", "seeds", "error")
        self.found |= {name: number(getattr(self.difference, name)) for name in names}
        self.found |= {"p_holm": None, "verdict": None, "minimum_detectable": None}
        if why := undefined(self.difference):
            self.found["reason"] = why

    @property
    def judged(self) -> bool:
        """Whether there are enough seeds for a verdict."""
        return self.difference.seeds >= FEWEST_SEEDS


def decide(family: Sequence[Cell]) -> None:
    """Put Holm's p, the verdict and the smallest change that would have been found into each of a family.

    A difference of fewer than `FEWEST_SEEDS` seeds keeps its numbers and gets no verdict: no change would have been
    found.
    """
    corrected = holm([cell.difference.p for cell in family])
    for cell, p in zip(family, corrected, strict=True):
        cell.found["p_holm"] = p
        if cell.judged:
            least = number(cell.difference.detectable(len(family)))
            cell.found["minimum_detectable"] = (
                least or None
            )  # of a difference that is the same for all nothing is known
            cell.found["verdict"] = verdict(cell.difference.delta * sign(cell.metric), p)


def undefined(difference: Difference) -> str:
    """Why a difference has no interval, or one of width 0; empty where it has one."""
    if difference.n == 0:
        return "nobody has a value in both"
    if difference.n == 1:
        return "1 user, of whom there is no interval"
    if difference.error == 0:
        return f"the same difference for each of {difference.n:,} users"
    return ""


def number(value: Any) -> Any:
    """A number that JSON can hold; what is not finite is null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
