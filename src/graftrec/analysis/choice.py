"""The rule of `transfer=auto`: which sources, how strongly, by gains on validation and their standard errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from graftrec.analysis.draws import by_user

Array = npt.NDArray[np.float64]
Candidate = tuple[tuple[str, float], ...]
"""Sources (or shared tasks) with their strengths, in the order of the tree."""
NONE: Candidate = ()


@dataclass(frozen=True)
class Gain:
    """What one candidate gains over another on validation, in the metric's unit, and that gain's standard error."""

    gain: float
    error: float
    harmed: tuple[str, ...] = ()  # targets that lose more than their own standard error

    @property
    def clear(self) -> bool:
        """Whether it exceeds its error, and harms no target."""
        return self.gain > self.error and not self.harmed


@dataclass(frozen=True)
class Step:
    """A comparison of ``candidate`` with ``over``; no gain where the budget was used up."""

    candidate: Candidate
    over: Candidate
    found: Gain | None


@dataclass
class Choice:
    """What was chosen, after which comparisons and how many trainings."""

    chosen: Candidate = NONE
    steps: list[Step] = field(default_factory=list)
    trained: list[Candidate] = field(default_factory=lambda: [NONE])


def choose(
    names: Sequence[str],
    alone: Sequence[str],
    strengths: Sequence[float],
    trials: int,
    gain: Callable[[Candidate, Candidate], Gain],
    order: Callable[[Sequence[str]], Sequence[str]],
) -> Choice:
    """The candidate that is used, after at most ``trials`` trainings; a gain that is not clear changes nothing.

    1. All ``names`` together at the first strength, against none.
    2. Each of ``alone`` against none, first all of them at the first strength; one that is not clear is tried again at
       the next weaker, and dropped after the last.
    3. Those that were clear, the largest gain first; each further one stays if what it adds is clear as well.
    4. If none was clear alone, all together, if that was.

    Args:
        alone: those that can train without the others. gain: of the first over the second, which may train them; it is
        asked for no candidate before the budget allows it. order: puts ``alone`` into the order in which it is tried,
        asked after 1.
    """
    found = Choice()

    def clear(candidate: Candidate, over: Candidate) -> Gain | None:
        """The gain, if it is clear."""
        said = None
        if candidate in found.trained or len(found.trained) < trials:
            found.trained += [candidate] if candidate not in found.trained else []
            said = gain(candidate, over)
        found.steps.append(Step(candidate, over, said))
        return said if said is not None and said.clear else None

    together = tuple((name, strengths[0]) for name in names)
    helped_together = clear(together, NONE) if len(names) > 1 else None
    helped: dict[str, tuple[float, float]] = {}  # name -> gain, strength
    tried = order(alone)
    for strength in strengths:
        for name in tried:
            if name not in helped and (said := clear(((name, strength),), NONE)):
                helped[name] = said.gain, strength
    for name in sorted(helped, key=lambda name: -helped[name][0]):
        more = {**dict(found.chosen), name: helped[name][1]}
        candidate = tuple((each, more[each]) for each in names if each in more)
        if not found.chosen or clear(candidate, found.chosen):
            found.chosen = candidate
    if not helped and helped_together:
        found.chosen = together
    return found


def gain_of(ours: dict[str, tuple[Array, Array]], theirs: dict[str, tuple[Array, Array]]) -> Gain:
    """The gain of values per row or user, target -> (users, values), over others of the same rows; higher is better.

    Of several targets it is the mean, and so is its error: that of a mean is never larger, however they depend on each
    other. The error of a target is s / sqrt(n) of the differences of its n users (rows of one user are one: `by_user`).
    It does not count what another seed would change.
    """
    gains, errors = {}, {}
    for target, (who, values) in ours.items():
        users, others = theirs[target]
        if not np.array_equal(who, users):
            raise ValueError(f"{target} should be judged on the same rows. Found others.")
        difference = by_user(values - others, who.astype(np.int64))[1]
        difference = difference[~np.isnan(difference)]
        n = len(difference)
        gains[target] = float(difference.mean()) if n else math.nan
        errors[target] = float(difference.std(ddof=1)) / math.sqrt(n) if n > 1 else math.inf
    harmed = tuple(target for target, each in gains.items() if not each >= -errors[target])
    return Gain(float(np.mean(list(gains.values()))), float(np.mean(list(errors.values()))), harmed)
