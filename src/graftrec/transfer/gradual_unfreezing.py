"""Unfreeze from the head downwards, lower layers with smaller rates."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from graftrec.transfer.base import OPTIONAL, SHARED, Means, Past, Phase, Transfer, at_least_one


class GradualUnfreezing(Transfer):
    """Pretrain, then thaw one layer more in each phase, from the last one down; layer l learns at eta / 2.6^(top - l).

    J. Howard, S. Ruder, Universal Language Model Fine-tuning for Text Classification, ACL 2018,
    https://arxiv.org/abs/1801.06146, section 3.3 (gradual unfreezing) and 3.2 (eta^(l-1) = eta^l / 2.6).

    Where we differ: each step is a phase with a schedule and moments of its own (there the slanted triangle spans all),
    and goes on from its best epoch; the last one, with everything thawed, has ``finetune`` epochs.

    Args:
        pretrain: epochs of the sources. step: epochs of each phase before the last. finetune: of the last.
        layers: prefixes of parameter names, the lowest layer first. Every parameter has to be in one, the longest that
            fits: of ``[encoder., trunk.stack.blocks.0., trunk., tasks.]`` the lowest block is a layer of its own, and
            ``trunk.`` is the rest. An interaction is in the lowest layer of the trunk unless one names it.
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
        for number, low in enumerate(layers):
            inside = [high for high in layers[number + 1 :] if high.startswith(low)]
            if inside:
                raise ValueError(f"layers should be in order, a part below its rest. Found {inside[0]} above {low}.")
        self.pretrain, self.step, self.finetune = pretrain, step, finetune
        self.layers, self.decay = tuple(layers), decay

    def phases(self) -> list[Phase]:
        top = len(self.layers) - 1
        beside = {part: self._beside(part) for part in OPTIONAL if part not in self.layers}
        rates = {layer: self.decay ** (number - top) for number, layer in enumerate(self.layers)}
        rates |= {part: rates[layer] for part, layer in beside.items() if layer}
        means = (Covered(tuple(rates)),)
        found = [Phase("pretrain", ("source", "shared"), self.pretrain)]
        carry: tuple[str, ...] = SHARED
        for lowest in range(top, -1, -1):
            frozen = self.layers[:lowest] + tuple(p for p, layer in beside.items() if layer in self.layers[:lowest])
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
                    means=means,
                )
            )
            carry = (*SHARED, "tasks.")
        return found

    def _beside(self, part: str) -> str:
        """The layer that a part thaws with which not every model has: the trunk's lowest one; empty: none is named."""
        return next((layer for layer in self.layers if layer.startswith("trunk.")), "")


class Covered(Means):
    """Refuses a model with parameters in no layer: they would train from the first phase on, at the full rate."""

    def __init__(self, layers: tuple[str, ...]) -> None:
        self.layers = layers

    def start(self, model: nn.Module, past: Past) -> None:
        shared = tuple(f"{name}." for name, _ in model.named_children() if name != "balancer")
        bare = [n for n, _ in model.named_parameters() if n.startswith(shared) and not n.startswith(self.layers)]
        if bare:
            part = bare[0].partition(".")[0]
            raise ValueError(
                f"transfer.layers should have a layer for every parameter, such as {part}. for the rest of a part. "
                f"Found none for {', '.join(bare[:3])}{' and more' if len(bare) > 3 else ''}."
            )
