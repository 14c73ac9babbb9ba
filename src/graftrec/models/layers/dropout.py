"""Dropout whose share is checked when a network is built."""

from __future__ import annotations

from torch import nn


class Dropout(nn.Dropout):
    """`nn.Dropout`, of which 1, that leaves nothing, is refused as well: (...) -> (...).

    Args:
        share: of the numbers that a training step sets to 0, in [0, 1). option: what it is called by who sets it.

    Raises:
        ValueError: a share outside [0, 1).
    """

    def __init__(self, share: float, option: str = "dropout") -> None:
        if not 0 <= share < 1:
            raise ValueError(f"{option} should be in [0, 1). Found {share}.")
        super().__init__(share)
