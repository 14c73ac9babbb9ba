"""Random loss weighting."""

from __future__ import annotations

import torch
from torch import Tensor

from graftrec.training.balancers.base import Balancer, generator, shares


class Rlw(Balancer):
    """sum_t w_t L_t, w = T softmax(z), z_t ~ N(0, 1), drawn in every step.

    B. Lin, F. Ye, Y. Zhang, I. Tsang, Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task
    Learning, TMLR 2022, https://arxiv.org/abs/2111.10603, algorithm 2. Where we differ: weights add up to T, not to 1.
    torchjd's Random is not taken, as it draws from the global generator.

    Args:
        seed: of the weights that are drawn (completed by the program).
    """

    permutation_equivariant = False

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.steps: Tensor

    def forward(self, losses: Tensor, gramian: Tensor | None = None) -> Tensor:
        z = torch.randn(len(losses), generator=generator(self.seed, int(self.steps)))
        if self.training:
            self.steps += 1
        return (shares(z.to(losses), losses != 0) * losses).sum()
