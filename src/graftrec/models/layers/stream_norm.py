"""Batch normalisation with statistics of each stream."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn


class StreamNorm(nn.Module):
    """weight * (x - mean_p) / sqrt(var_p + eps) + bias, statistics of the stream p alone.

    S. Ioffe, C. Szegedy, Batch Normalization, ICML 2015, https://arxiv.org/abs/1502.03167, with statistics of each
    domain as in X.-R. Sheng et al., https://arxiv.org/abs/2101.11427, equations 3 and 4: training takes those of the
    stream's batch, with the rows of all processes, evaluation their moving means.

    Where we differ: a training batch of fewer than two rows, which has no variance, takes the moving means; and a batch
    that is not finite is left out of these, where it would stay for ever.

    Args:
        streams: how many there are. dim: of x. momentum: the share of a batch in the moving means, in (0, 1].
        eps: what a variance is increased by, above 0.
    """

    def __init__(self, streams: int, dim: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))
        self.register_buffer("mean", torch.zeros(streams, dim))
        self.register_buffer("var", torch.ones(streams, dim))

    mean: Tensor
    var: Tensor

    def forward(self, x: Tensor, stream: int) -> Tensor:
        """Rows x (B, dim) of the stream of this number -> (B, dim)."""
        return self.normed(x, stream, self.weight, self.bias)

    def normed(self, x: Tensor, stream: int, weight: Tensor, bias: Tensor) -> Tensor:
        """As `forward`, with a weight and a bias (dim,) of the stream's."""
        # copies: backward keeps them, and another stream's batch of this step may move its own before that
        mean, var = self.mean[stream].clone(), self.var[stream].clone()
        if self.training and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            return self._of_processes(x, stream, (mean, var), weight, bias)
        known = self.training and len(x) > 1
        found = F.batch_norm(x, mean, var, weight, bias, known, self.momentum, self.eps)
        if known:
            self._move(stream, mean, var)
        return found

    def _of_processes(self, x: Tensor, stream: int, old: tuple[Tensor, Tensor], weight: Tensor, bias: Tensor) -> Tensor:
        """Training with the rows of all processes; each of them comes here, be it without a row."""
        rows = x.to(self.mean.dtype)
        total = _summed(torch.cat([rows.sum(0), rows.new_full((1,), len(x))]))
        count = total[-1:]
        mean = total[:-1] / count.clamp_min(1)
        var = _summed((rows - mean).square().sum(0)) / count.clamp_min(1)
        with torch.no_grad():
            share, unbiased = self.momentum * (count > 1).to(count), var * count / (count - 1).clamp_min(1)
            self._move(stream, old[0].lerp(mean, share), old[1].lerp(unbiased, share))
        mean, var = torch.where(count > 1, mean, old[0]), torch.where(count > 1, var, old[1])
        return ((rows - mean) * (var + self.eps).rsqrt() * weight + bias).to(x.dtype)

    def _move(self, stream: int, mean: Tensor, var: Tensor) -> None:
        """Take new moving means, both or none."""
        well = mean.isfinite().all() & var.isfinite().all()
        self.mean[stream] = torch.where(well, mean, self.mean[stream])
        self.var[stream] = torch.where(well, var, self.var[stream])


class _Sum(torch.autograd.Function):
    """The sum over processes; what each of their losses says of it is summed as well."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        values = values.clone()
        dist.all_reduce(values)
        return values

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].clone()
        dist.all_reduce(gradient)
        return gradient


def _summed(values: Tensor) -> Tensor:
    found: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return found
