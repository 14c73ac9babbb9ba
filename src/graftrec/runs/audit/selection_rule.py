"""The rule of `transfer=auto`: which sources, how strongly, by gains on validation over several seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from graftrec.evaluation.statistics.intervals import mean_of_differences, paired_difference

Array = npt.NDArray[np.float64]
Candidate = tuple[tuple[str, float], ...]
"""Sources (or shared tasks) with their strengths, in the order of the tree."""
NONE: Candidate = ()
Values = Mapping[str, tuple[npt.NDArray[np.int64], Array]]
"""Target -> its users and values on validation, higher is better."""
CHANCE = 0.05  # that a source without effect is used: of all strengths at which it is tried together


@dataclass(frozen=True)
class Gain:
    """What one candidate gains over another on validation, in the metric's unit, with the error of users and seeds."""

    gain: float
    error: float
    p: float  # one-sided: how likely so large a gain is where there is none
    harmed: tuple[str, ...] = ()  # targets that lose more than their own standard error

    def clear(self, chance: float) -> bool:
        """Whether it is one, and harms no target."""
        return self.gain > 0 and self.p < chance and not self.harmed


@dataclass(frozen=True)
class Step:
    """A comparison of ``candidate`` with ``over``; no gain where the budget was used up."""

    candidate: Candidate
    over: Candidate
    found: Gain | None
    clear: bool = False


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
    most: int,
    gain: Callable[[Candidate, Candidate], Gain],
    order: Callable[[Sequence[str]], Sequence[str]],
) -> Choice:
    """The candidate that is used, after at most ``most`` were trained; a gain that is not clear changes nothing.

    A gain is clear where its one-sided p, over users and seeds, is below `CHANCE` divided by the number of strengths:
    so often a source without effect is used. What is used is then trained with other seeds, so that its verdict owes
    nothing to the luck of the trainings that were compared here.

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
    found, chance = Choice(), CHANCE / len(strengths)

    def clear(candidate: Candidate, over: Candidate) -> Gain | None:
        """The gain, if it is clear."""
        said = None
        if candidate in found.trained or len(found.trained) < most:
            found.trained += [candidate] if candidate not in found.trained else []
            said = gain(candidate, over)
        is_clear = said is not None and said.clear(chance)
        found.steps.append(Step(candidate, over, said, is_clear))
        return said if is_clear else None

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


def gain_of(ours: Sequence[Values], theirs: Sequence[Values]) -> Gain:
    """The gain of one candidate's validation values over another's, seed by seed and user by user.

    Of several targets it is the mean, and so is its error: that of a mean is never larger, however they depend on each
    other. See `paired_difference`.

    Raises:
        ValueError: values of other users.
    """
    found = {}
    for target, (who, _) in ours[0].items():
        if not all(np.array_equal(who, values[target][0]) for values in (*ours, *theirs)):
            raise ValueError(f"{target} should be judged on the same rows. Found others.")
        a, b = (np.stack([values[target][1] for values in arm]) for arm in (ours, theirs))
        found[target] = paired_difference(a, b, who)
    harmed = tuple(target for target, each in found.items() if not each.delta >= -each.error)
    mean = mean_of_differences(list(found.values()))
    return Gain(mean.delta, mean.error, mean.p / 2 if mean.delta > 0 else 1 - mean.p / 2, harmed)
