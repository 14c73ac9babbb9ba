"""The smallest parts: a mean and a scale that are learnt."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Common(nn.Module):
    """Factors (B, D) and their common mean, 0 at the start: (B, D) -> (B, D).

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(width))

    def forward(self, factors: Tensor) -> Tensor:
        return factors + self.mean


class Scale(nn.Module):
    """One factor per element, 1 at the start: (B, dim) -> (B, dim).

    Args:
        dim: how many elements.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight
