"""Small parts that are put into a trained network: changes of low rank, and bottlenecks."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftrec.models.layers.experts import BatchedLinear
from graftrec.models.layers.weight_decay import undecayed


def matrices(module: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Every matrix of ``module`` or stack of matrices: its name, the module that holds it, and its name there.

    That is every parameter of two axes or more but those that `undecayed` tells from matrices: biases, norms, gates.
    It may be a dense layer's, an expert's, a recurrent layer's, an embedding's or a bare one.
    """
    others = {id(parameter) for parameter in undecayed(module)}
    for prefix, part in module.named_modules():
        for name, parameter in part.named_parameters(recurse=False):
            if parameter.ndim > 1 and id(parameter) not in others:
                yield f"{prefix}.{name}".lstrip("."), part, name


def dense_layers(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Name and module of every dense layer: its ``weight`` is a matrix or a stack (count, out, ...), as of experts, and
    its output is (..., out) or (count, ..., out).

    An embedding has no dense output, and `nn.MultiheadAttention` never calls its output projection: it reads the
    weights.
    """
    unused = {id(part.out_proj) for part in module.modules() if isinstance(part, nn.MultiheadAttention)}
    for name, part, weight in matrices(module):
        if weight == "weight" and not isinstance(part, nn.Embedding) and id(part) not in unused:
            yield name.removesuffix(".weight"), part


class LowRank(nn.Module):
    """A weight W (..., out, in) as W + scale * B A, with A (..., rank, in) and B (..., out, rank) of zeros.

    A weight (count, out, n, in) is read as ``count`` matrices (out, n * in).

    Args:
        weight: W. rank: of the change, at most that of a matrix. scale: of the change.
    """

    def __init__(self, weight: Tensor, rank: int, scale: float) -> None:
        super().__init__()
        *count, out_dim, in_dim = (weight.flatten(2) if weight.ndim > 3 else weight).shape
        rank, bound = min(rank, out_dim, in_dim), in_dim**-0.5  # A starts as a dense layer does
        self.scale = scale
        self.a = nn.Parameter(torch.empty(*count, rank, in_dim, device=weight.device).uniform_(-bound, bound))
        self.b = nn.Parameter(torch.zeros(*count, out_dim, rank, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.scale * self.b @ self.a).view_as(weight)


class Bottleneck(nn.Module):
    """h + up(ReLU(down(h))) of the output h of a `dense_layers` one, of each expert by itself; up starts at 0.

    Args:
        weight: the layer's, (out, in) or (count, out, ...). width: of what is between down and up.
    """

    def __init__(self, weight: Tensor, width: int) -> None:
        super().__init__()
        self.down: nn.Linear | BatchedLinear
        self.up: nn.Linear | BatchedLinear
        if weight.ndim > 2:
            count, out_dim = weight.shape[:2]
            self.down, self.up = BatchedLinear(count, out_dim, width), BatchedLinear(count, width, out_dim)
        else:
            out_dim = len(weight)
            self.down, self.up = nn.Linear(out_dim, width), nn.Linear(width, out_dim)
        for part in self.up.parameters():
            nn.init.zeros_(part)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.up(F.relu(self.down(h)))  # type: ignore[no-any-return]


def behind(layer: nn.Module, given: object, output: Tensor) -> Tensor:
    """A forward hook: what a layer's bottleneck ``adapter`` makes of its output."""
    found: Tensor = layer.get_submodule("adapter")(output)
    return found
