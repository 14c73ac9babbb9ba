"""Inner product with the candidate."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftrec.models.heads.base import Head

COSINE_TEMPERATURE = 0.1


class Dot(Head):
    """logits = exp(s) <z, c> / t + b for each candidate; z is projected where its width is not the candidate's.

    Matrix factorisation where z is a user, the similarity of two items where z is an item.

    Args:
        in_dim, item_dim: see `Head`.
        cosine: <z, c> of vectors of length 1, so that no item wins by the length of its vector alone.
        temperature: t, above 0. None: sqrt(D), which keeps the logits of random vectors near 1; with ``cosine`` 0.1, as
            a cosine is at most 1 and the softmax of logits within 1 / t is the flatter the larger t is.

    Raises:
        ValueError: a stream without candidates, or a temperature that is not above 0.
    """

    def __init__(self, in_dim: int, item_dim: int, cosine: bool = False, temperature: float | None = None) -> None:
        super().__init__()
        if not item_dim:
            raise ValueError(
                "The dot head compares z with a candidate, and this task's stream has none: "
                "use head=linear or head=mlp."
            )
        if temperature is not None and temperature <= 0:
            raise ValueError(f"temperature should be positive. Found {temperature}.")
        if temperature is None:
            temperature = COSINE_TEMPERATURE if cosine else item_dim**0.5
        self.cosine, self.sharp = cosine, 1 / temperature
        self.project: nn.Module = nn.Identity() if in_dim == item_dim else nn.Linear(in_dim, item_dim, bias=False)
        self.scale = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(()))

    def query(self, z: Tensor) -> Tensor:
        """What is compared with `items`: (..., in_dim) -> (..., D); <query, item> is the logit but for b."""
        z = self.project(z)
        if self.cosine:
            z = F.normalize(z, dim=-1)
        scaled: Tensor = z * (self.scale.exp() * self.sharp)
        return scaled

    def items(self, candidate: Tensor) -> Tensor:
        """Candidates (..., D) as a query is compared with them."""
        return F.normalize(candidate, dim=-1) if self.cosine else candidate

    def forward(self, z: Tensor, candidate: Tensor | None = None, cross: Tensor | None = None) -> Tensor:
        if candidate is None:
            raise ValueError("The dot head got no candidate.")
        query, candidate = self.query(z), self.items(candidate)
        if len(candidate) != len(z):  # one catalogue for all rows: a matrix product
            return query @ candidate[0].T + self.bias
        return torch.bmm(candidate, query[..., None])[..., 0] + self.bias
