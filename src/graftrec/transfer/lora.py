"""Changes of low rank."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from torch.nn.utils import parametrize

from graftrec.models.layers.adapters import LowRank, matrices
from graftrec.transfer.base import SHARED, Means, Phase, Transfer, at_least_one, changeable
from graftrec.transfer.rows import tables_of


class LoRA(Transfer):
    """On the target W + (alpha / r) B A learns in the place of every dense weight W, which is frozen; so do tables.

    E. Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022, https://arxiv.org/abs/2106.09685,
    section 4.1: A is drawn and B is 0, so the model is the source's at first. Of a table of N rows E becomes E + (alpha
    / r) A B with A (N, r) of zeros, so that a step costs what its rows cost; tables of one width share B. At the end
    all is merged: the model that serves is of the size that it was.

    Where we differ: every matrix of encoder, interaction and trunk is changed, whoever holds it: of dense, recurrent
    and embedding layers, of experts each by itself, and bare ones (there: attention alone). W_q, W_k and W_v of one
    product are one W here and share A. No change is wider than its matrix: a rank of at least the smaller side reaches
    all that full fine-tuning of it does. Biases, norms and gates rest, the head learns in full. The trunk `MeLU` is
    refused: its forward pass takes steps on its weights, and would on A and B, which are gone when all is merged.

    Args:
        pretrain, finetune: epochs of the phases. rank: r. alpha: scale over r.
    """

    whole_weights = True

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
    """Puts changes of low rank on matrices and tables, and merges them at the end."""

    def __init__(self, rank: int, alpha: float) -> None:
        self.rank, self.scale = rank, alpha / rank
        self._changed: list[tuple[str, nn.Module, str]] = []

    def build(self, model: nn.Module) -> None:
        changeable(model)
        self._changed = list(matrices_of(model))
        for _, part, name in self._changed:
            parametrize.register_parametrization(part, name, LowRank(getattr(part, name), self.rank, self.scale))
        tables_of(model).adapt(self.rank, self.scale)

    def told(self) -> str:
        names = ", ".join(name for name, _, _ in self._changed)
        return f"changes of rank {self.rank}, or of a smaller full one, on the tables and {names}"

    def finish(self, model: nn.Module) -> str:
        for _, part, name in self._changed:
            parametrize.remove_parametrizations(part, name, leave_parametrized=True)
        tables_of(model).merge()
        count, self._changed = len(self._changed), []
        return f"changes of rank {self.rank} merged into {count} matrices and the tables"


def matrices_of(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Matrices of the parts that a task shares with others, but the tables: see `matrices`."""
    tables = {id(block) for block in tables_of(model).blocks()}
    for prefix, shared in model.named_children():
        if f"{prefix}." in SHARED:
            for name, part, own in matrices(shared):
                if id(getattr(part, own)) not in tables:
                    yield f"{prefix}.{name}", part, own
