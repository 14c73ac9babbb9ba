"""Progressive layered extraction."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from graftrec.data.batch import Encoded
from graftrec.models.layers.extraction import Extraction
from graftrec.models.trunks.base import Trunk, flat


class PLE(Trunk):
    """Levels of task-specific and shared experts; each reads what the gates of the level below gave.

        z_t^l = sum_e g_t^l(z_t^(l-1))_e h_e^l over task t's own and the shared experts of level l
        z_s^l = sum_e g_s^l(z_s^(l-1))_e h_e^l over all experts of level l: shared ones and those of every task

    with z^0 = x, gates softmax(W z), and experts fed z_t or z_s. The last level has no z_s; one level is `CGC`.

    H. Tang et al., Progressive Layered Extraction (PLE): A Novel Multi-Task Learning Model for Personalized
    Recommendations, RecSys 2020, https://doi.org/10.1145/3383313.3412236, section 4.2.

    x is all fields side by side and the mean of the history, (B, F * D) or (B, (F + 1) * D); z_t is (B, hidden[-1]).

    Where we differ: gates have a bias; all layers of an expert have ReLU (the PLE in STEM's code leaves the last
    one linear).

    Args:
        levels: of extraction, at least 1.
        experts: of each task, at each level, at least 1. shared: experts that every task reads, likewise.
        hidden: widths of an expert's layers, at each level, at least one, each at least 1.
        dropout: behind each of these layers, in [0, 1).
    """

    def __init__(
        self,
        fields: int,
        width: int,
        history: bool,
        tasks: Sequence[str],
        levels: int = 2,
        experts: int = 1,
        shared: int = 2,
        hidden: Sequence[int] = (64,),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if levels < 1:
            raise ValueError(f"levels should be at least 1. Found {levels}.")
        self.tasks, in_dim, below = list(tasks), (fields + history) * width, []
        for _ in range(levels - 1):
            below.append(Extraction(len(self.tasks), in_dim, experts, shared, hidden, dropout, last=False))
            in_dim = hidden[-1]
        self.below = nn.Sequential(*below)
        self.last = Extraction(len(self.tasks), in_dim, experts, shared, hidden, dropout)
        self.out_dim = hidden[-1]

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        z = self.last(self.below(flat(encoded)))
        return {task: z[self.tasks.index(task)] for task in tasks}

    def meeting(self) -> nn.Module:
        return self.last.shared.layers[-1]
