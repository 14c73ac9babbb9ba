"""What is not finite stays out of the weights: a task's loss out of its step, or the whole step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from graftrec.data.batch import Batch
from graftrec.utils.errors import DataError

GRADIENTS = "gradients"  # beside names of tasks: steps that were left out as a whole


class Finite:
    """Counts what was left out of steps, and stops a run where nothing else happens.

    A loss that is NaN or infinite would, through what the tasks share, reach all of them in one backward: its task is
    left out of that step. Gradients that are not finite, of finite losses, leave nobody to blame: the step is left out.

    Args:
        limit: steps in a row without the same task, or without any gradient, after which the run stops; at least 1.

    Attributes:
        skipped: name of a task, ``trunk`` (its own losses) or ``gradients`` -> steps without it so far.
    """

    def __init__(self, limit: int = 20) -> None:
        if limit < 1:
            raise ValueError(f"skip_limit should be at least 1 step. Found {limit}.")
        self.limit = limit
        self.skipped: Counter[str] = Counter()
        self._row: Counter[str] = Counter()

    def left_out(self, losses: Mapping[str, Tensor]) -> list[str]:
        """Names of those ``losses`` (scalars) that are not finite; the only time that a step waits for its losses."""
        known = torch.stack([loss.detach() for loss in losses.values()]).isfinite().tolist() if losses else []
        for name, well in zip(losses, known, strict=True):
            self._count(name, well)
        return [name for name, well in zip(losses, known, strict=True) if not well]

    def steps(self, norm: Tensor) -> bool:
        """Whether a step may be made with gradients of this norm."""
        well = bool(norm.isfinite())
        self._count(GRADIENTS, well)
        return well

    def check(self, where: str, batches: Mapping[str, Batch], reads: Mapping[str, list[str]]) -> None:
        """Stop after too many steps in a row.

        Args:
            where: step and phase. batches: of the last step, by stream. reads: task -> streams.

        Raises:
            DataError: names the task, the step, and the range of each column that it read.
        """
        for name, times in self._row.items():
            if times >= self.limit:
                streams = [stream for stream in reads.get(name, batches) if stream in batches]
                ranges = "; ".join(f"{stream}: {ranges_of(batches[stream])}" for stream in streams)
                what = "the gradients are" if name == GRADIENTS else f"the loss of {name} is"
                raise DataError(
                    "TRAIN-001",
                    f"{what} not finite {times} steps in a row, the last of them {where}; a lower optimizer.lr, "
                    f"trainer.gradient_clip_val=1 or smaller numbers may help. Its batch has {ranges}",
                )

    def state_dict(self) -> dict[str, Any]:
        """What was counted so far."""
        return {"skipped": dict(self.skipped), "row": dict(self._row)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting."""
        self.skipped, self._row = Counter(state["skipped"]), Counter(state["row"])

    def lines(self, phase: str) -> list[str]:
        """One line for each of what was left out, for the screen."""
        return [
            f"{phase}: {times} steps left out, whose gradients were not finite"
            if name == GRADIENTS
            else f"{phase}: {times} steps without {name}, whose loss was not finite"
            for name, times in sorted(self.skipped.items())
        ]

    def _count(self, name: str, well: bool) -> None:
        if well:
            self._row.pop(name, None)
        else:
            self._row[name] += 1
            self.skipped[name] += 1


def ranges_of(batch: Batch) -> str:
    """``name lowest..highest`` of each column, and how many of its numbers are not finite."""
    return ", ".join(f"{name} {_range(values)}" for name, values in batch.items() if values.numel())


def _range(values: Tensor) -> str:
    known = values[values.isfinite()]
    odd = values.numel() - known.numel()
    found = f"{known.min().item():g}..{known.max().item():g}" if known.numel() else "without a finite number"
    return f"{found} ({odd} not finite)" if odd else found


def first_odd(state: Mapping[str, Tensor]) -> str | None:
    """The name of the first of these weights that is not finite; None if all are."""
    for name, value in state.items():
        whole = value.full_tensor() if isinstance(value, DTensor) else value
        if not bool(whole.isfinite().all()):
            return name
    return None
