"""Unfreeze from the head downwards, lower layers with smaller rates."""

from __future__ import annotations

from collections.abc import Sequence

from graftrec.transfer.base import OPTIONAL, SHARED, Phase, Transfer, at_least_one


class GradualUnfreezing(Transfer):
    """Pretrain, then thaw one layer more in each phase, from the last one down; layer l learns at eta / 2.6^(top - l).

    J. Howard, S. Ruder, Universal Language Model Fine-tuning for Text Classification, ACL 2018,
    https://arxiv.org/abs/1801.06146, section 3.3 (gradual unfreezing) and 3.2 (eta^(l-1) = eta^l / 2.6).

    Where we differ: each step is a phase with a schedule and moments of its own (there the slanted triangle spans all),
    and goes on from its best epoch; the last one, with everything thawed, has ``finetune`` epochs.

    Args:
        pretrain: epochs of the sources. step: epochs of each phase before the last. finetune: of the last.
        layers: prefixes of parameter names, the lowest layer first; such as ``trunk.stack.blocks.0.`` for finer ones.
        decay: what the rate of each layer below is divided by, at least 1 (1: one rate for all).
    """

    def __init__(
        self,
        pretrain: int = 2,
        step: int = 1,
        finetune: int = 2,
        layers: Sequence[str] = ("encoder.", "trunk.", "tasks."),
        decay: float = 2.6,
    ) -> None:
        at_least_one(pretrain=pretrain, step=step, finetune=finetune)
        if decay < 1:
            raise ValueError(f"decay should be at least 1. Found {decay}.")
        if len(layers) < 2 or len(set(layers)) < len(layers):
            raise ValueError(f"layers should be at least 2 different prefixes. Found {', '.join(layers) or 'none'}.")
        self.pretrain, self.step, self.finetune = pretrain, step, finetune
        self.layers, self.decay = tuple(layers), decay

    def phases(self) -> list[Phase]:
        top = len(self.layers) - 1
        rates = {layer: self.decay ** (number - top) for number, layer in enumerate(self.layers)}
        rates |= {part: rates["trunk."] for part in OPTIONAL if part not in rates and "trunk." in rates}
        found = [Phase("pretrain", ("source", "shared"), self.pretrain)]
        carry: tuple[str, ...] = SHARED
        for lowest in range(top, -1, -1):
            frozen = self.layers[:lowest] + (OPTIONAL if "trunk." in self.layers[:lowest] else ())
            epochs = self.step if lowest else self.finetune
            found.append(
                Phase(
                    f"unfreeze_{top - lowest + 1}",
                    ("target",),
                    epochs,
                    frozen,
                    start_from=found[-1].name,
                    carry=carry,
                    rates=rates,
                )
            )
            carry = (*SHARED, "tasks.")
        return found
