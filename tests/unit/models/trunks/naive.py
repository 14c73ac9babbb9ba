"""One expert, one gate at a time: what the trunks' tests work out their equations with."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from graftrec.data.batch import Encoded

FIELDS, WIDTH, ROWS = 3, 4, 6


def rows(seed: int = 0) -> Encoded:
    """B rows in float64, so that a wrong term cannot hide in rounding."""
    generator = torch.Generator().manual_seed(seed)
    return Encoded(torch.randn(ROWS, FIELDS, WIDTH, generator=generator, dtype=torch.float64))


def expert(experts: nn.Module, number: int, x: Tensor) -> Tensor:
    for layer in experts.layers:
        x = (x @ layer.weight[number].T + layer.bias[number]).clamp_min(0)
    return x


def gate(weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    e = (x @ weight.T + bias).exp()
    return e / e.sum(1, keepdim=True)


def mix(weights: Tensor, values: Iterable[Tensor]) -> Tensor:
    """Sum of values (B, D), each times its column of weights (B, E)."""
    return torch.stack([w[:, None] * v for w, v in zip(weights.T, values, strict=True)]).sum(0)


def reached(z: Tensor, parameter: Tensor) -> list[bool]:
    """Which experts of a batched parameter (E, ...) the gradient of z reaches."""
    (gradient,) = torch.autograd.grad(z.pow(2).sum(), parameter, retain_graph=True, allow_unused=True)
    if gradient is None:
        return [False] * len(parameter)
    return gradient.flatten(1).any(1).tolist()
