"""The contract of every feature interaction."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Interaction(nn.Module, ABC):
    """From the fields of the encoder to fields that know of each other, under any trunk.

    Args (completed by the program): ``fields`` F, ``width`` D. The attribute ``fields`` is the number that comes out.
    """

    fields: int
    keeps_fields: bool = False  # True: the first F fields that come out are those that came in, as `Trunk.by_name` asks

    @abstractmethod
    def forward(self, fields: Tensor) -> Tensor:
        """(B, F, D) -> (B, self.fields, D)."""
