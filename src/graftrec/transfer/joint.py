"""All roles together."""

from __future__ import annotations

from graftrec.transfer.base import ROLES, Phase, Transfer


class Joint(Transfer):
    """One phase that trains source, target and shared tasks together for ``epochs`` passes over the targets."""

    def __init__(self, epochs: int = 4) -> None:
        if epochs < 1:
            raise ValueError(f"epochs should be at least 1. Found {epochs}.")
        self.epochs = epochs

    def phases(self) -> list[Phase]:
        return [Phase("joint", ROLES, self.epochs)]
