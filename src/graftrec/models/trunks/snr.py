"""Sub-network routing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftrec.data.batch import Encoded
from graftrec.models.layers.experts import Experts
from graftrec.models.trunks.base import Trunk, flat

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1  # temperature and ends of the hard concrete distribution, as Louizos et al. chose
OPEN = 2.0  # log alpha at the start: a route is closed in 3 % of the batches


class Routes(nn.Module):
    """From all sub-networks below to each one above: v_j = sum_i z_ji W_ji u_i, or without W; z is in [0, 1].

    Args:
        sources, targets: I below and J above. width: d, of what each gives and reads.
        transform: whether there are W.
    """

    no_decay: ClassVar[tuple[str, ...]] = ("log_alpha",)  # decay would pull every gate to half open

    def __init__(self, sources: int, targets: int, width: int, transform: bool) -> None:
        super().__init__()
        self.log_alpha = nn.Parameter(torch.full((targets, sources), OPEN))
        self.weight: nn.Parameter | None = None  # (J, out, I, in)
        if transform:
            bound = (sources * width) ** -0.5
            self.weight = nn.Parameter(torch.empty(targets, width, sources, width).uniform_(-bound, bound))

    def gates(self) -> Tensor:
        """z (J, I): a draw of the hard concrete distribution for a whole batch, and no noise in evaluation."""
        if self.training:
            noise = torch.rand_like(self.log_alpha).clamp(1e-6, 1 - 1e-6).logit()
            s = ((noise + self.log_alpha) / BETA).sigmoid()
        else:
            s = self.log_alpha.sigmoid()
        return (s * (ZETA - GAMMA) + GAMMA).clamp(0, 1)

    def open(self) -> Tensor:
        """How many routes are expected to be open, P(z > 0) of each summed: a scalar in (0, J * I)."""
        return (self.log_alpha - BETA * math.log(-GAMMA / ZETA)).sigmoid().sum()

    def forward(self, u: Tensor) -> Tensor:
        """(I, B, d) -> (J, B, d)."""
        z = self.gates()
        if self.weight is None:
            return torch.einsum("ji,ibd->jbd", z, u)
        weight = (z[:, None, :, None] * self.weight).flatten(2).flatten(0, 1)  # (J * d, I * d)
        v = F.linear(u.transpose(0, 1).flatten(1), weight)
        return v.view(len(v), len(z), u.shape[2]).transpose(0, 1)


class SNR(Trunk):
    """Levels of sub-networks with learnt routes from level to level, and from the last level to the tasks.

        SNR-Trans: v_j = sum_i z_ji W_ji u_i;  SNR-Aver: v_j = sum_i z_ji u_i
        z = min(1, max(0, s (zeta - gamma) + gamma)), s = sigmoid((log u - log(1 - u) + log alpha) / beta), u uniform

    where u_i comes out of sub-network i, v_j goes into sub-network j or is the z of task j. In evaluation
    s = sigmoid(log alpha). To the loss comes sparsity * sum_ji P(z_ji > 0), the expected number of open routes:

        P(z > 0) = sigmoid(log alpha - beta log(-gamma / zeta))

    u reads all fields side by side and the mean of the history, (B, F * D) or (B, (F + 1) * D); a task's z is
    (B, hidden[-1]).

    J. Ma et al., SNR: Sub-Network Routing for Flexible Parameter Sharing in Multi-Task Learning, AAAI 2019,
    https://doi.org/10.1609/aaai.v33i01.3301216, with the gates of C. Louizos et al., Learning Sparse Neural Networks
    through L0 Regularization, ICLR 2018, https://arxiv.org/abs/1712.01312, equations 10 to 12. Where we differ: gates
    start mostly open; the paper tunes the penalty's weight for each data set, and the default here is a weak one.

    Args:
        levels: of sub-networks, at least 1. experts: sub-networks of each level, at least 1.
        hidden: widths of a sub-network's layers, at each level, at least one, each at least 1.
        transform: True for SNR-Trans, False for SNR-Aver.
        sparsity: lambda, what an open route costs, at least 0; 0 leaves it to the tasks' losses to close one.
        dropout: behind every layer of a sub-network, in [0, 1).
    """

    def __init__(
        self,
        fields: int,
        width: int,
        history: bool,
        tasks: Sequence[str],
        levels: int = 2,
        experts: int = 4,
        hidden: Sequence[int] = (64,),
        transform: bool = True,
        sparsity: float = 1e-4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if levels < 1:
            raise ValueError(f"levels should be at least 1. Found {levels}.")
        if sparsity < 0:
            raise ValueError(f"sparsity should be at least 0. Found {sparsity}.")
        self.sparsity = sparsity
        self.tasks, in_dim = list(tasks), (fields + history) * width
        below: list[nn.Module] = []
        for _ in range(levels - 1):
            below += [Experts(experts, in_dim, hidden, dropout), Routes(experts, experts, hidden[-1], transform)]
            in_dim = hidden[-1]
        self.below = nn.Sequential(*below)
        self.last = Experts(experts, in_dim, hidden, dropout)
        self.out_dim = hidden[-1]
        self.routes = Routes(experts, len(self.tasks), self.out_dim, transform)

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        z = self.routes(self.last(self.below(flat(encoded))))
        return {task: z[self.tasks.index(task)] for task in tasks}

    def penalty(self) -> Tensor | None:
        """``sparsity`` times the number of routes that are expected to be open."""
        if not self.sparsity:
            return None
        routes = [module for module in self.modules() if isinstance(module, Routes)]
        return self.sparsity * torch.stack([module.open() for module in routes]).sum()

    def meeting(self) -> nn.Module:
        return self.last.layers[-1]
