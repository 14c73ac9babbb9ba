"""Pinball loss over several quantiles."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from graftrec.tasks.losses.base import Loss


class Quantile(Loss):
    """Mean over q = 1..Q of max(tau_q (y - t_q), (tau_q - 1) (y - t_q)) for quantiles t (B, Q) of a number y (B,).

    R. Koenker and G. Bassett, Regression Quantiles, 1978, https://doi.org/10.2307/1913643; for watch time Lin et al.,
    Conditional Quantile Estimation for Uncertain Watch Time in Short-Video Recommendation, 2024,
    https://arxiv.org/abs/2407.12223. Where we differ: the levels are by default the middles (q - 1/2) / Q of Q equal
    parts, so that the plain mean of the quantiles is the expectation by the midpoint rule.

    Args:
        quantiles: levels tau in (0, 1), rising, as many as the head has outputs; default: an even grid.
    """

    kinds = ("number",)
    form = "quantiles"

    def __init__(self, quantiles: Sequence[float] | None = None) -> None:
        super().__init__()
        if quantiles is not None:
            levels = list(quantiles)
            if not levels or levels != sorted(set(levels)) or levels[0] <= 0 or levels[-1] >= 1:
                raise ValueError(f"quantiles should be rising numbers in (0, 1). Found {levels}.")
        self.quantiles = None if quantiles is None else tuple(quantiles)

    def levels(self, like: Tensor) -> Tensor:
        """tau (Q,) for outputs ``like`` (B, Q)."""
        count = like.shape[-1]
        if self.quantiles is None:
            return (torch.arange(count, device=like.device, dtype=torch.float32) + 0.5) / count
        if len(self.quantiles) != count:
            raise ValueError(
                f"quantiles should be as many as the head's outputs, {count}: set head.classes. "
                f"Found {len(self.quantiles)}."
            )
        return torch.tensor(self.quantiles, device=like.device)

    def shares(self, like: Tensor) -> Tensor:
        """The part of (0, 1) that is nearest to each level (Q,), of sum 1: weights of the expectation."""
        levels = self.levels(like)
        edges = torch.cat((levels.new_zeros(1), (levels[1:] + levels[:-1]) / 2, levels.new_ones(1)))
        return edges.diff()

    def forward(self, output: Tensor, label: Tensor) -> Tensor:
        if output.ndim != label.ndim + 1:
            raise ValueError(f"output should be {(*label.shape, 'Q')}. Found {tuple(output.shape)}.")
        tau = self.levels(output)
        error = label[..., None] - output.float()
        return torch.maximum(tau * error, (tau - 1) * error).mean(-1)
