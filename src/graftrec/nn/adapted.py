"""Small parts that are put into a trained network: changes of low rank, and bottlenecks."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftrec.nn.experts import BatchedLinear

DENSE = (nn.Linear, BatchedLinear)


def dense_layers(module: nn.Module) -> Iterator[tuple[str, nn.Linear | BatchedLinear]]:
    """Name and layer of every dense layer, also of a batch of experts'."""
    for name, part in module.named_modules():
        if isinstance(part, DENSE):
            yield name, part


class LowRank(nn.Module):
    """A weight W (..., out, in) as W + scale * B A, with A (..., rank, in) and B (..., out, rank) of zeros."""

    def __init__(self, weight: Tensor, rank: int, scale: float) -> None:
        super().__init__()
        *count, out_dim, in_dim = weight.shape
        bound = in_dim**-0.5  # as a dense layer starts
        self.scale = scale
        self.a = nn.Parameter(torch.empty(*count, rank, in_dim, device=weight.device).uniform_(-bound, bound))
        self.b = nn.Parameter(torch.zeros(*count, out_dim, rank, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scale * self.b @ self.a


class Bottleneck(nn.Module):
    """h + up(ReLU(down(h))) of a dense layer's output h, of each expert by itself; up starts at 0."""

    def __init__(self, layer: nn.Linear | BatchedLinear, width: int) -> None:
        super().__init__()
        out_dim = layer.weight.shape[-2]
        self.down: nn.Linear | BatchedLinear
        self.up: nn.Linear | BatchedLinear
        if isinstance(layer, BatchedLinear):
            count = len(layer.weight)
            self.down, self.up = BatchedLinear(count, out_dim, width), BatchedLinear(count, width, out_dim)
        else:
            self.down, self.up = nn.Linear(out_dim, width), nn.Linear(width, out_dim)
        for part in self.up.parameters():
            nn.init.zeros_(part)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.up(F.relu(self.down(h)))  # type: ignore[no-any-return]


def behind(layer: nn.Module, given: object, output: Tensor) -> Tensor:
    """A forward hook: what a layer's bottleneck ``adapter`` makes of its output."""
    found: Tensor = layer.get_submodule("adapter")(output)
    return found
