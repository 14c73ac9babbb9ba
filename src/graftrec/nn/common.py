"""What all users have in common."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Common(nn.Module):
    """Factors (B, D) and their common mean."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(width))

    def forward(self, factors: Tensor) -> Tensor:
        return factors + self.mean
