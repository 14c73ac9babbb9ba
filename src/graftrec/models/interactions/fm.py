"""Factorisation machine."""

from __future__ import annotations

import torch
from torch import Tensor

from graftrec.models.interactions.base import Interaction


class FM(Interaction):
    """One more field: sum_{i<j} v_i * v_j = ((sum_i v_i)^2 - sum_i v_i^2) / 2, element by element.

    S. Rendle, Factorization Machines, ICDM 2010, https://doi.org/10.1109/ICDM.2010.127, lemma 3.1, kept as a vector as
    in the bi-interaction of X. He, T.-S. Chua, Neural Factorization Machines, SIGIR 2017,
    https://arxiv.org/abs/1708.05027, equation 4: a sum over its D elements is the factorisation machine's. Fields v_i
    (B, F, D) stay as they are, and come out with it: (B, F + 1, D).
    """

    keeps_fields = True

    def __init__(self, fields: int, width: int) -> None:
        super().__init__()
        self.fields = fields + 1

    def forward(self, fields: Tensor) -> Tensor:
        pairs = (fields.sum(1).square() - fields.square().sum(1)) / 2
        return torch.cat([fields, pairs[:, None]], 1)
