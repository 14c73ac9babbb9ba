"""Modules under names that somebody else has chosen."""

from __future__ import annotations

from torch import nn


class ByName(nn.ModuleDict):
    """Modules by name, of which ``type``, ``keys`` or ``train`` are names like any other.

    torch refuses what a module has as an attribute, since it finds parts by attributes; these are found by ``[name]``.
    """

    def __setitem__(self, key: str, module: nn.Module) -> None:
        self._modules[key] = module

    def train(self, mode: bool = True) -> ByName:
        """Put all parts into training or evaluation; ``training`` may be the name of one, and is no attribute then."""
        self.__dict__["training"] = mode
        for part in self.children():
            part.train(mode)
        return self
