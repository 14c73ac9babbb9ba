"""Absolute error."""

from __future__ import annotations

from torch import Tensor

from graftrec.tasks.losses.base import Loss


class Absolute(Loss):
    """|p - y|, whose best constant is the median: rare large numbers do not pull it, as they do the squared error."""

    of = "prediction"
    kinds = ("number",)

    def forward(self, output: Tensor, label: Tensor) -> Tensor:
        return (output.float() - label).abs()
