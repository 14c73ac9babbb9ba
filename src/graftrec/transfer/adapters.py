"""Bottlenecks behind frozen layers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from graftrec.nn.adapted import Bottleneck, behind, dense_layers
from graftrec.transfer.base import SHARED, Means, Phase, Transfer, at_least_one
from graftrec.transfer.rows import NewRowsOnly, SeenRows


class Adapters(Transfer):
    """On the target a bottleneck h + W_up ReLU(W_down h) learns behind frozen layers of the trunk.

    N. Houlsby et al., Parameter-Efficient Transfer Learning for NLP, ICML 2019, https://arxiv.org/abs/1902.00751,
    section 2.1: beside the adapters the norms and the head learn. In a trunk of attention blocks ``layers=[out, back]``
    are the paper's two places, in front of both residual sums.

    Where we differ: any trunk, so by default behind each of its dense layers, of experts each by itself; W_up starts
    at 0 (there: near 0). Rows of tables that no source read learn as well, as they would be noise else.

    Args:
        pretrain, finetune: epochs of the phases. width: of the bottleneck. layers: ends of the names of dense layers of
            the trunk that get one; none: all.
    """

    def __init__(self, pretrain: int = 2, finetune: int = 4, width: int = 16, layers: Sequence[str] = ()) -> None:
        at_least_one(pretrain=pretrain, finetune=finetune, width=width)
        self.pretrain, self.finetune, self.width, self.layers = pretrain, finetune, width, tuple(layers)

    def phases(self) -> list[Phase]:
        seen = SeenRows()
        means = (Bottlenecks(self.width, self.layers), NewRowsOnly(seen))
        return [
            Phase("pretrain", ("source", "shared"), self.pretrain, means=(seen,)),
            Phase("finetune", ("target",), self.finetune, SHARED, start_from="pretrain", means=means),
        ]


class Bottlenecks(Means):
    """Puts bottlenecks behind dense layers of the trunk, and thaws its norms."""

    stays = True

    def __init__(self, width: int, layers: Sequence[str]) -> None:
        self.width, self.layers = width, tuple(layers)

    def build(self, model: nn.Module) -> None:
        trunk = model.get_submodule("trunk")
        found = dict(dense_layers(trunk))
        chosen = {n: layer for n, layer in found.items() if not self.layers or f".{n}".endswith(self._ends())}
        if not chosen:
            raise ValueError(
                f"adapters should have a dense layer of the trunk to stand behind. Found {type(trunk).__name__} with "
                f"{', '.join(found) or 'none'}."
            )
        for layer in chosen.values():
            layer.add_module("adapter", Bottleneck(layer, self.width).to(layer.weight.device))
            layer.register_forward_hook(behind)
        for part in trunk.modules():
            if isinstance(part, nn.LayerNorm):
                part.requires_grad_(True)

    def _ends(self) -> tuple[str, ...]:
        return tuple(f".{layer}" for layer in self.layers)
