"""Carry weights from one model into another, and say what was carried."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from graftrec.transfer.base import OPTIONAL, State


@dataclass(frozen=True)
class CarryReport:
    """Names of parameters: ``loaded``; ``left`` behind in the source; ``new`` here; ``mismatched`` in shape."""

    loaded: list[str]
    left: list[str]
    new: list[str]
    mismatched: list[str]

    def line(self) -> str:
        """One line for the terminal."""
        odd = f": {', '.join(self.mismatched[:3])}" if self.mismatched else ""
        return (
            f"carried over {len(self.loaded)} parameters ({len(self.left)} left behind, {len(self.new)} new, "
            f"{len(self.mismatched)} of another shape{odd})"
        )


def carry(model: nn.Module, state: State, prefixes: Sequence[str]) -> CarryReport:
    """Load every parameter of ``state`` under ``prefixes`` that fits ``model``.

    Raises:
        ValueError: a prefix that no parameter begins with, or nothing that fits, which is never what was asked for;
            the message has the nearest names.
    """
    mine = model.state_dict()
    for prefix in prefixes:
        if prefix not in OPTIONAL and not any(name.startswith(prefix) for name in state):
            raise ValueError(
                f"The carry-over loaded nothing for '{prefix}': no parameter's name starts with it"
                f"{nearest(prefix, state)}"
            )
    wanted = {k: v for k, v in state.items() if k.startswith(tuple(prefixes))}
    loaded = [k for k, v in wanted.items() if k in mine and mine[k].shape == v.shape]
    mismatched = [k for k, v in wanted.items() if k in mine and mine[k].shape != v.shape]
    if not loaded:
        odd = f"mismatched in shape: {', '.join(mismatched[:5])}" if mismatched else _unlike(wanted, mine)
        raise ValueError(
            f"The carry-over loaded nothing: none of the {len(wanted)} parameters under {', '.join(prefixes)} fits "
            f"this model ({odd})."
        )
    model.load_state_dict({k: wanted[k] for k in loaded}, strict=False)
    left = [k for k in state if k not in loaded and k not in mismatched]
    return CarryReport(loaded, left, [k for k in mine if k not in wanted], mismatched)


def nearest(prefix: str, names: Iterable[str]) -> str:
    """The parts of names that a wrong prefix may have meant, as the end of a sentence."""
    names = list(names)
    depth = prefix.rstrip(".").count(".") + 1
    parts = dict.fromkeys(".".join(name.split(".")[:depth]) + "." for name in names)
    near = difflib.get_close_matches(prefix, parts, 3, 0.6)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return f"; there are {', '.join(dict.fromkeys(name.split('.')[0] + '.' for name in names))}"


def _unlike(wanted: State, mine: State) -> str:
    name = next(iter(wanted), "")
    near = difflib.get_close_matches(name, mine, 3, 0.0)
    return f"there '{name}', here {', '.join(near)}"
