"""Changes of low rank."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from torch.nn.utils import parametrize

from graftrec.nn.adapted import LowRank, dense_layers
from graftrec.nn.experts import BatchedLinear
from graftrec.transfer.base import SHARED, Means, Phase, Transfer, at_least_one
from graftrec.transfer.rows import tables_of


class LoRA(Transfer):
    """On the target W + (alpha / r) B A learns in the place of every dense weight W, which is frozen; so do tables.

    E. Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022, https://arxiv.org/abs/2106.09685,
    section 4.1: A is drawn and B is 0, so the model is the source's at first. Of a table of N rows E becomes E + (alpha
    / r) A B with A (N, r) of zeros, so that a step costs what its rows cost. At the end all is merged: the model that
    serves is of the size that it was.

    Where we differ: all dense layers of encoder, interaction and trunk are changed, those of experts each by itself
    (there: attention alone); biases and norms rest, the head learns in full. `GRU4Rec`'s recurrent weights rest.

    Args:
        pretrain, finetune: epochs of the phases. rank: r. alpha: scale over r.
    """

    def __init__(self, pretrain: int = 2, finetune: int = 4, rank: int = 8, alpha: float = 16.0) -> None:
        at_least_one(pretrain=pretrain, finetune=finetune, rank=rank)
        if alpha <= 0:
            raise ValueError(f"alpha should be positive. Found {alpha}.")
        self.pretrain, self.finetune, self.rank, self.alpha = pretrain, finetune, rank, alpha

    def phases(self) -> list[Phase]:
        low = LowRankChanges(self.rank, self.alpha)
        return [
            Phase("pretrain", ("source", "shared"), self.pretrain),
            Phase("finetune", ("target",), self.finetune, SHARED, start_from="pretrain", means=(low,)),
        ]


class LowRankChanges(Means):
    """Puts changes of low rank on dense layers and tables, and merges them at the end."""

    def __init__(self, rank: int, alpha: float) -> None:
        self.rank, self.scale = rank, alpha / rank

    def build(self, model: nn.Module) -> None:
        for layer in list(layers_of(model)):
            parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, self.rank, self.scale))
        tables_of(model).adapt(self.rank, self.scale)

    def finish(self, model: nn.Module) -> str:
        layers = list(layers_of(model))
        for layer in layers:
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
        tables_of(model).merge()
        return f"changes of rank {self.rank} merged into {len(layers)} dense layers and the tables"


def layers_of(model: nn.Module) -> Iterator[nn.Linear | BatchedLinear]:
    """Dense layers of the parts that a task shares with others."""
    for name, part in model.named_children():
        if f"{name}." in SHARED:
            yield from (layer for _, layer in dense_layers(part))
