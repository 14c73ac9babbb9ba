"""Customized gate control."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from graftrec.data.batch import Encoded
from graftrec.models.layers.extraction import Extraction
from graftrec.models.trunks.base import Trunk, flat


class CGC(Trunk):
    """z_t = sum_e g_t(x)_e f_e(x) over task t's own experts and the shared ones, g_t(x) = softmax(W_t x).

    H. Tang et al., Progressive Layered Extraction (PLE): A Novel Multi-Task Learning Model for Personalized
    Recommendations, RecSys 2020, https://doi.org/10.1145/3383313.3412236, section 4.1. No task reads or trains the
    experts of another.

    x is all fields side by side and the mean of the history, (B, F * D) or (B, (F + 1) * D); z_t is (B, hidden[-1]).

    Where we differ: gates have a bias; all layers of an expert have ReLU (the PLE in STEM's code leaves the last
    one linear).

    Args:
        experts: of each task, at least 1. shared: experts that every task reads, at least 1.
        hidden: widths of an expert's layers, at least one, each at least 1. dropout: behind each of them, in [0, 1).
    """

    def __init__(
        self,
        fields: int,
        width: int,
        history: bool,
        tasks: Sequence[str],
        experts: int = 1,
        shared: int = 2,
        hidden: Sequence[int] = (128, 64),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.tasks = list(tasks)
        self.level = Extraction(len(self.tasks), (fields + history) * width, experts, shared, hidden, dropout)
        self.out_dim = hidden[-1]

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        z = self.level(flat(encoded))
        return {task: z[self.tasks.index(task)] for task in tasks}

    def meeting(self) -> nn.Module:
        return self.level.shared.layers[-1]
