"""The contract of every head."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Head(nn.Module, ABC):
    """A task's own network.

    Args (completed by the program, as far as a head takes them): ``in_dim`` of z, ``item_dim`` of a candidate (0 if
    there is none), ``cross_dim`` K, ``classes`` C.
    """

    @abstractmethod
    def forward(self, z: Tensor, candidate: Tensor | None = None, cross: Tensor | None = None) -> Tensor:
        """Logits: (B,) or (B, classes) without candidates; (B, C) for candidates (B, C, D) or (1, C, D).

        Ranking is the same call with the whole catalogue, or a block of it, as candidates (1, N, D) and their cross
        columns (B, N, K): what is trained is what is served.
        """
