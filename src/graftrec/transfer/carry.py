"""Carry weights from one model into another, and say what was carried."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class CarryReport:
    """Names of parameters: ``loaded``; ``left`` behind in the source; ``new`` here; ``mismatched`` in shape."""

    loaded: list[str]
    left: list[str]
    new: list[str]
    mismatched: list[str]

    def line(self) -> str:
        """One line for the terminal."""
        return (
            f"carried over {len(self.loaded)} parameters ({len(self.left)} left behind, {len(self.new)} new, "
            f"{len(self.mismatched)} of another shape)"
        )


def carry(model: nn.Module, state: dict[str, Tensor], prefixes: tuple[str, ...]) -> CarryReport:
    """Load every parameter of ``state`` under ``prefixes`` that fits ``model``.

    Raises:
        ValueError: nothing was carried, which is never what was asked for; the message names near candidates.
    """
    mine = model.state_dict()
    wanted = {k: v for k, v in state.items() if k.startswith(prefixes)}
    loaded = [k for k, v in wanted.items() if k in mine and mine[k].shape == v.shape]
    mismatched = [k for k, v in wanted.items() if k in mine and mine[k].shape != v.shape]
    if not loaded:
        raise ValueError(
            f"The carry-over loaded nothing: no parameter under {', '.join(prefixes)} of the {len(state)} given fits "
            f"this "
            f"model (mismatched in shape: {mismatched[:5] or 'none'}; here there are {sorted(mine)[:5]})."
        )
    model.load_state_dict({k: wanted[k] for k in loaded}, strict=False)
    left = [k for k in state if k not in loaded and k not in mismatched]
    return CarryReport(loaded, left, [k for k in mine if k not in wanted], mismatched)
