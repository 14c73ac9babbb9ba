"""Several networks of one shape at once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftrec.models.layers.mlp import check_layers


class BatchedLinear(nn.Module):
    """E linear layers as one matrix product, started as `nn.Linear` starts: weights (E, out_dim, in_dim)."""

    def __init__(self, count: int, in_dim: int, out_dim: int) -> None:
        super().__init__()
        bound = in_dim**-0.5
        self.weight = nn.Parameter(torch.empty(count, out_dim, in_dim).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(count, out_dim).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_dim), read by all, or (G, B, in_dim), one for each block of E / G layers -> (E, B, out_dim)."""
        count, out_dim, in_dim = self.weight.shape
        if x.ndim == 2:
            together = F.linear(x, self.weight.flatten(0, 1), self.bias.flatten())
            return together.view(len(x), count, out_dim).transpose(0, 1)
        blocks, rows, _ = x.shape
        each = count // blocks
        if each > 1 and in_dim < out_dim:  # of what is read and what is given the smaller is copied
            x, each = x.repeat_interleave(each, 0), 1
        if each == 1:
            return torch.baddbmm(self.bias[:, None], x, self.weight.transpose(1, 2))
        weight, bias = self.weight.view(blocks, each * out_dim, in_dim), self.bias.view(blocks, 1, each * out_dim)
        h = torch.baddbmm(bias, x, weight.transpose(1, 2)).view(blocks, rows, each, out_dim)
        return h.transpose(1, 2).reshape(count, rows, out_dim)


class Experts(nn.Module):
    """E multi-layer perceptrons, in every layer linear - ReLU - dropout, as batched matrix products.

    Args:
        count: E, at least 1. in_dim: of what they read. hidden: widths of the layers, at least one, each at least 1.
        dropout: share of a layer's outputs that a training step hides, in [0, 1).

    Raises:
        ValueError: no expert, no layer, a width below 1, or a dropout outside [0, 1).
    """

    def __init__(self, count: int, in_dim: int, hidden: Sequence[int], dropout: float = 0.0) -> None:
        super().__init__()
        if count < 1:
            raise ValueError(f"experts should be at least 1. Found {count}.")
        check_layers(hidden, dropout)
        self.layers = nn.ModuleList(BatchedLinear(count, i, o) for i, o in itertools.pairwise([in_dim, *hidden]))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_dim), read by all, or (G, B, in_dim), one for each block of E / G -> (E, B, hidden[-1])."""
        for layer in self.layers:
            x = self.dropout(F.relu(layer(x)))
        return x
