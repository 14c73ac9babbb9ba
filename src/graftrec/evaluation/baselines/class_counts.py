"""What a user would pick instead of a network for one of several classes: what was chosen before, counted by class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from graftrec.data.streams.base import Stage, StreamData
from graftrec.data.streams.baskets import BasketRows
from graftrec.data.streams.rows import TableRows
from graftrec.data.tables.interactions import distinct
from graftrec.evaluation.baselines.rankers import RecentPopularity, best_of
from graftrec.evaluation.baselines.recency import decayed
from graftrec.tasks.base import known, within
from graftrec.tasks.metrics.direction import sign
from graftrec.tasks.rows import RowTask

HALF_LIVES = (None, 1.0, 7.0, 30.0, 90.0, 365.0)  # days; None: unweighted
PRIORS = (1.0, 3.0, 30.0, 100.0)
STAGES: tuple[Stage, ...] = ("val", "test")
About = Mapping[str, Tensor]
Way = tuple[tuple[Any, ...], Callable[..., Tensor]]
"""Settings to try, and what makes probabilities of one."""


class Weighing(NamedTuple):
    """Settings of own frequency: days after which a choice counts half, None for never, and the weight of all users."""

    half_life: float | None
    prior: float = 10.0

    def __str__(self) -> str:
        half_life = "no half-life" if self.half_life is None else f"half-life {self.half_life:g} days"
        return f"{half_life}, prior {self.prior:g}"


@dataclass(frozen=True, eq=False)
class Told:
    """Classes that were chosen before a stage.

    Attributes:
        user, label: (n,) int64, the class in [0, C). weight: (n,) float64, share of a choice. day: (n,) float64.
        at: (U,) float64, the day as of which each user is asked about. clock: whether days are real ones.
        causal: whether only what was strictly before a user's day counts; else what is later counts as of the day.
    """

    user: Tensor
    label: Tensor
    weight: Tensor
    day: Tensor
    at: Tensor
    clock: bool
    causal: bool

    def own(self, users: Tensor, share: Tensor, setting: Weighing) -> Tensor:
        """Probabilities (n, C) of each row's user (n,): what they chose so far, smoothed with the ``share`` of all.

        p(c | u) = (prior share_c + n_uc) / (prior + n_u), with n_uc = sum of w_j 2^(-age_j / half-life) over u's
        choices j of class c: the Dirichlet prior of C. Zhai and J. Lafferty, A Study of Smoothing Methods for Language
        Models, SIGIR 2001, https://doi.org/10.1145/383952.384019. Who is unknown or chose nothing gets ``share`` (C,).
        """
        people, row = torch.unique(users, return_inverse=True)
        place = torch.searchsorted(people, self.user).clamp_max(len(people) - 1)
        asked = (people[place] == self.user) & (self.user > 0)
        age = self.at[self.user] - self.day
        if self.causal:
            asked &= age > 0
        place, label, weight, age = (values[asked] for values in (place, self.label, self.weight, age))
        if setting.half_life is not None:
            weight = weight * torch.exp2(-age.clamp_min(0) / setting.half_life)
        classes = len(share)
        counts = torch.bincount(place * classes + label, weight, len(people) * classes).view(-1, classes)
        return _shares(counts + setting.prior * share)[row]

    def recent(self, users: Tensor, share: Tensor, half_life: float) -> Tensor:
        """Probabilities (n, C) of the rows of ``users`` (n,): the classes that everybody chose before their day.

        p(c) is as for `own`, with the choices of all users and a prior of 1.
        """
        moments, row = torch.unique(self.at[users], return_inverse=True)
        label, weight, day = (values.numpy() for values in (self.label, self.weight, self.day))
        sums = decayed(label, weight, day, len(share), moments.numpy(), half_life)
        found = [torch.from_numpy(block) for _, block in sums]
        return _shares(torch.cat(found) + share)[row]


def class_baselines(
    task: RowTask, stream: StreamData, share: Tensor, val: Callable[[], About], test: About
) -> dict[str, tuple[Tensor, float | str]]:
    """Probabilities (n, C) of the test rows by what was chosen before, and the settings that validation chose by name.

    ``own_frequency`` and, with a clock, ``recent_popularity``, of baskets and of rows that say whose they are.
    What was chosen in validation is known to the test. A setting is the best by the task's main metric.

    Args:
        share: (C,) of the classes in training. val, test: what `RowTask.about` says of a stage's rows.
    """
    if not (isinstance(stream, BasketRows) or (isinstance(stream, TableRows) and "user" in test)):
        return {}
    told = {stage: _told(task, stream, stage) for stage in STAGES}
    clock, share, judged = told["val"].clock, share.double(), val()
    judges = "label" in judged and bool(known(judged["label"]).any())
    ways: dict[str, Way] = {}
    if clock:
        ways["recent_popularity"] = RecentPopularity.grid[::-1], Told.recent  # of equal ones the steadiest
    ways["own_frequency"] = tuple(map(Weighing, HALF_LIVES if clock else HALF_LIVES[:1])), Told.own
    found: dict[str, tuple[Tensor, float | str]] = {}
    for name, (grid, way) in ways.items():

        def quality(setting: Any, way: Callable[..., Tensor] = way) -> float:
            prediction = way(told["val"], judged["user"], share, setting)
            value = task.metrics({**judged, "prediction": prediction})[task.main].value
            return float("nan") if value is None else sign(task.main) * value

        setting = best_of(name, grid, _further, quality) if judges else grid[0]
        chosen = setting if isinstance(setting, float) else str(setting)
        found[name] = way(told["test"], test["user"], share, setting), chosen
    return found


def _further(best: Any) -> tuple[Any, ...]:
    """The best half-life, with other priors."""
    return tuple(Weighing(best.half_life, prior) for prior in PRIORS) if isinstance(best, Weighing) else ()


def _told(task: RowTask, stream: BasketRows | TableRows, stage: Stage) -> Told:
    return _of_baskets(task, stream, stage) if isinstance(stream, BasketRows) else _of_rows(task, stream, stage)


def _of_baskets(task: RowTask, stream: BasketRows, stage: Stage) -> Told:
    """Each basket weighs 1, spread over its distinct items, as a label is the class of one of them; unknown is none."""
    lines = stream.lines
    before, size, baskets = lines.known(stage), len(lines.cold_item), int(lines.basket.max()) + 1
    pairs = torch.from_numpy(distinct((lines.basket[before] * size + lines.item[before]).numpy()))
    basket, item = pairs // size, pairs % size
    label = lines.content[task.column.removeprefix("next_")][item] - 1
    weight = 1 / torch.bincount(basket, minlength=baskets).double()
    user, day = torch.zeros(baskets, dtype=torch.int64), torch.zeros(baskets, dtype=torch.float64)
    user[lines.basket], day[lines.basket] = lines.user, lines.time
    basket, label = basket[label >= 0], label[label >= 0]
    return Told(user[basket], label, weight[basket], day[basket], lines.times(stage), lines.clock, causal=True)


def _of_rows(task: RowTask, stream: TableRows, stage: Stage) -> Told:
    """Each row weighs 1, and its age is that before its user's first row of the stage."""
    label, user, day = stream.before(stage, task.column)
    if task.space:
        label = within(label, stream.before(stage, task.space).label)
    at, kept = stream.begins(stage), known(label)
    clock = at is not None and day is not None
    day = torch.zeros(len(label), dtype=torch.float64) if day is None else day
    at = torch.zeros(int(user.max()) + 1, dtype=torch.float64) if at is None else at
    return Told(user[kept], label[kept], torch.ones(int(kept.sum())).double(), day[kept], at, clock, causal=False)


def _shares(counts: Tensor) -> Tensor:
    """Counts (B, C) as probabilities, float32."""
    return (counts / counts.sum(1, keepdim=True).clamp_min(1e-300)).float()
