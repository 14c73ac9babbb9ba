"""Squared error."""

from __future__ import annotations

from torch import Tensor

from graftrec.tasks.losses.base import Loss


class Squared(Loss):
    """(p - y)^2, where p is what the task predicts: a number, or the probability of a binary label (Brier score)."""

    of = "prediction"
    kinds = ("number", "binary")

    def forward(self, output: Tensor, label: Tensor) -> Tensor:
        return (output.float() - label) ** 2
