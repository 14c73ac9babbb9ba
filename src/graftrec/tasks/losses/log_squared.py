"""Squared error of logarithms."""

from __future__ import annotations

import torch
from torch import Tensor

from graftrec.tasks.losses.base import Loss


class LogSquared(Loss):
    """(s(p) - s(y))^2 with s(x) = sign(x) log(1 + |x|): a relative error, for counts, prices and times.

    Where both are at least 0 this is the squared logarithmic error. Where we differ: that one is not defined below 0,
    where a head may start; s is (D. Hafner et al., Mastering Diverse Domains through World Models, 2023,
    https://arxiv.org/abs/2301.04104, equation 9), and its slope is nowhere 0.
    """

    of = "prediction"
    kinds = ("number",)
    in_unit = True

    def forward(self, output: Tensor, label: Tensor) -> Tensor:
        return (symlog(output.float()) - symlog(label)) ** 2


def symlog(x: Tensor) -> Tensor:
    """sign(x) log(1 + |x|), with slope 1 at 0, where autograd's sign and absolute value have slope 0."""
    size = torch.where(x < 0, -x, x).log1p()
    return torch.where(x < 0, -size, size)
