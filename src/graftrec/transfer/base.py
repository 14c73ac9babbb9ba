"""The contract of every transfer strategy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

ROLES = ("source", "target", "shared")


@dataclass(frozen=True)
class Phase:
    """One ``fit``: which roles train, for how many passes over the targets, what is frozen and where weights start.

    Attributes:
        frozen: prefixes of parameter names that do not train.
        start_from: name of an earlier phase whose weights are carried over.
        carry: prefixes of parameter names that are carried over.
    """

    name: str
    roles: tuple[str, ...]
    epochs: int
    frozen: tuple[str, ...] = ()
    start_from: str | None = None
    carry: tuple[str, ...] = ("encoder.", "trunk.")


class Transfer(ABC):
    """An ordered training plan."""

    @abstractmethod
    def phases(self) -> list[Phase]:
        """The phases in order; the last one leaves the model that is evaluated."""
