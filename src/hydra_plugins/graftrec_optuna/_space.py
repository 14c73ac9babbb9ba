"""Hydra's sweep overrides as Optuna's distributions, and a trial's parameters as overrides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, RangeSweep
from hydra.errors import CompactHydraException
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

Space = dict[str, tuple[str, BaseDistribution]]  # parameter -> its key as an override writes it, its distribution


def parse(texts: Sequence[str], config_loader: Any) -> tuple[list[str], Space]:
    """The overrides that all trials have, and the search space; of two that set the same key the last one counts.

    Raises:
        CompactHydraException: nothing to search, or ranges that cannot be; all at once.
    """
    fixed: dict[str, str] = {}
    space: Space = {}
    problems = []
    for text, override in zip(texts, OverridesParser.create(config_loader).parse_overrides(list(texts)), strict=True):
        key = override.get_key_element()
        name = key.lstrip("+")
        fixed.pop(name, None)
        space.pop(name, None)
        if not override.is_sweep_override():
            fixed[name] = text
            continue
        try:
            space[name] = (key, distribution(override))
        except ValueError as error:
            problems.append(f"{text}: {error}")
    if not space and not problems:
        problems.append("there is nothing to search: write key=a,b or key=interval(0,1) or key=range(1,9)")
    if problems:
        raise CompactHydraException("\n".join(problems))
    return list(fixed.values()), space


def distribution(override: Override) -> BaseDistribution:
    """What Optuna draws from; a choice is drawn among the texts that Hydra would write.

    Raises:
        ValueError: an empty range, or a log scale that Optuna cannot have.
    """
    swept: Any = override.value()
    log = "log" in getattr(swept, "tags", ())
    if override.is_interval_sweep():
        if isinstance(swept.start, int) and isinstance(swept.end, int):
            return IntDistribution(swept.start, swept.end, log=log)
        return FloatDistribution(float(swept.start), float(swept.end), log=log)
    if isinstance(swept, RangeSweep):
        values = list(swept.range())  # which is without its end
        if not values:
            raise ValueError("the range is empty")
        low, high, step = min(values), max(values), abs(swept.step or 1)
        if any(isinstance(value, (float, Decimal)) for value in (swept.start, swept.stop, swept.step)):
            if log:
                raise ValueError("a range of fractions has no log scale; write tag(log, interval(low, high))")
            return FloatDistribution(float(low), float(high), step=float(step))
        return IntDistribution(int(low), int(high), step=1 if log else int(step), log=log)
    return CategoricalDistribution(list(dict.fromkeys(override.sweep_string_iterator())))


def written(params: Mapping[str, Any], space: Space) -> list[str]:
    """A trial's parameters as overrides."""
    return [f"{key}={params[name]}" for name, (key, _) in space.items()]
