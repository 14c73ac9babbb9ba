"""Huber's loss."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from graftrec.tasks.losses.base import Loss


class Huber(Loss):
    """e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2), with e = p - y.

    P. J. Huber, Robust Estimation of a Location Parameter, 1964, https://doi.org/10.1214/aoms/1177703732.

    Args:
        delta: above 0, the error, in the label's unit, from which on the loss grows no faster than its absolute value.
    """

    of = "prediction"
    kinds = ("number",)
    in_unit = True

    def __init__(self, delta: float = 1.0) -> None:
        super().__init__()
        if delta <= 0:
            raise ValueError(f"delta should be positive. Found {delta}.")
        self.delta = delta

    def forward(self, output: Tensor, label: Tensor) -> Tensor:
        return F.huber_loss(output.float(), label, reduction="none", delta=self.delta)
