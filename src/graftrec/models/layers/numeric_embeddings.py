"""From numbers to fields."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftrec.models.layers.experts import BatchedLinear

START = 0.05  # standard deviation of what vectors are made of, when training begins
MONTH = math.log1p(30.0)


class Together(nn.Module):
    """One field for all numbers, a linear map: (B, N) -> (B, 1, D)."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.fields, self.linear = 1, nn.Linear(count, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)[:, None]  # type: ignore[no-any-return]


class Age(nn.Module):
    """What an event's age adds to its vector: w a / log(1 + 30), of ages a = log(1 + days) (B, L) -> (B, L, D).

    A month is 1 and a year 1.7, so w (D,), which starts as the vectors of items do, begins with the say of an item and
    takes steps of the same size. There is no bias: it would be the same vector in every event.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, 1).normal_(std=START))

    def forward(self, age: Tensor) -> Tensor:
        return F.linear((age / MONTH)[..., None], self.weight)


class Periodic(nn.Module):
    """A field for each number: relu(W_i [sin v_i; cos v_i] + b_i), v_i = 2 pi c_i x_i: (B, N) -> (B, N, D).

    Y. Gorishniy et al., On Embeddings for Numerical Features in Tabular Deep Learning, NeurIPS 2022,
    https://arxiv.org/abs/2203.05556, sections 3.3 and 3.4 ("PLR"). The frequencies c_i (K,) are learned, from N(0,
    sigma). A linear map of a number bends nowhere; this bends where the label does.
    """

    def __init__(self, count: int, width: int, sigma: float = 0.1, frequencies: int = 24) -> None:
        super().__init__()
        self.fields = count
        self.frequencies = nn.Parameter(torch.randn(count, frequencies) * sigma)
        self.linear = BatchedLinear(count, 2 * frequencies, width)

    def forward(self, x: Tensor) -> Tensor:
        v = 2 * math.pi * self.frequencies[:, None] * x.T[..., None]  # (N, B, K)
        return F.relu(self.linear(torch.cat([v.sin(), v.cos()], -1))).transpose(0, 1)
