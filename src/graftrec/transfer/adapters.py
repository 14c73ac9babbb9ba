"""Bottlenecks behind frozen layers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from graftrec.models.layers.adapters import Bottleneck, behind, dense_layers, matrices
from graftrec.models.layers.stream_norm import StreamNorm
from graftrec.transfer.base import SHARED, Means, Phase, Transfer, at_least_one, changeable
from graftrec.transfer.rows import NewRowsOnly, SeenRows
from graftrec.utils.errors import UserError


class Adapters(Transfer):
    """On the target a bottleneck h + W_up ReLU(W_down h) learns behind frozen layers of the trunk.

    N. Houlsby et al., Parameter-Efficient Transfer Learning for NLP, ICML 2019, https://arxiv.org/abs/1902.00751,
    section 2.1: beside the adapters the norms and the head learn. In a trunk of attention blocks ``layers=[out, back]``
    are the paper's two places, in front of both residual sums.

    Where we differ: any trunk but `MeLU`, whose forward pass takes steps on its weights and would on the adapters'; so
    by default behind each of its dense layers, of experts each by itself; W_up starts at 0 (there: near 0). Nothing can
    stand behind a weight that no dense layer holds: recurrent ones, embeddings and bare matrices rest, and are told.
    Rows of tables that no source read learn as well, as they would be noise else.

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
        self._chosen: dict[str, nn.Module] = {}
        self._rest: list[str] = []

    def build(self, model: nn.Module) -> None:
        trunk = changeable(model)
        found = dict(dense_layers(trunk))
        ends = tuple(f".{layer}" for layer in self.layers)
        chosen = {name: layer for name, layer in found.items() if not ends or f".{name}".endswith(ends)}
        if not chosen:
            raise ValueError(
                f"adapters should have a dense layer of the trunk to stand behind. Found {type(trunk).__name__} with "
                f"{', '.join(found) or 'none'}."
            )
        behind_none = [name for name, _, _ in matrices(trunk) if name.removesuffix(".weight") not in chosen]
        for layer in chosen.values():
            weight = layer.get_parameter("weight")
            layer.add_module("adapter", Bottleneck(weight, self.width).to(weight.device))
            layer.register_forward_hook(behind)
        for part in trunk.modules():
            if isinstance(part, nn.LayerNorm | StreamNorm):
                part.requires_grad_(True)
        self._chosen, self._rest = chosen, behind_none

    def told(self) -> str:
        rest = f"; nothing stands behind {', '.join(self._rest)}" if self._rest else ""
        return f"bottlenecks of width {self.width} behind {', '.join(self._chosen)} of the trunk{rest}"

    def gradients(self) -> None:
        """UserError after the first step where a layer's output was never asked for: its bottleneck cannot learn."""
        idle = [
            name
            for name, layer in self._chosen.items()
            if any(part.grad is None for part in layer.get_submodule("adapter").parameters())
        ]
        if idle:
            raise UserError(
                f"transfer.layers should name layers that every step runs. Found {', '.join(idle)}, which the trunk's "
                "first step did not run"
            )
        self._chosen = {}
