"""What columns mean: features, labels, tables and streams. The data side writes it, the network side reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

FeatureKind = Literal["id", "ids", "number", "history"]
LabelKind = Literal["binary", "number", "category"]


@dataclass(frozen=True)
class Feature:
    """A named column of a batch.

    ``id`` is (B,) int64, ``ids`` (multi-value) and ``history`` (newest last) are (B, L) int64 rows of ``table``
    where 0 is unknown or padding; ``number`` is (B,) float, standardised on training rows. A history may carry the age
    of each event in a column of its own, named ``<name>_age``: (B, L) float, log(1 + days). An ``id`` with ``keep`` is
    never hidden by the encoder's id dropout.
    """

    name: str
    kind: FeatureKind
    table: str = ""
    keep: bool = False


@dataclass(frozen=True)
class Label:
    """What a task learns: ``binary`` 0/1 or NaN, ``number`` or NaN, ``category`` 0..classes-1 or -1 (missing)."""

    name: str
    kind: LabelKind
    classes: int = 1


@dataclass(frozen=True, eq=False)
class Table:
    """One embedding table, shared by every feature that names it; row 0 is the unknown id.

    ``content`` maps the name of another table to a (size,) int64 tensor: an item's row is the sum of its own vector and
    of its category's, brand's, ... vector, so that an item nobody bought still has a place.
    """

    name: str
    size: int
    content: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Stream:
    """One domain's rows of one kind: what batches are drawn from.

    ``candidate`` names the table of the candidates (B, C) a row asks about (column ``candidate``), if any; ``cross``
    names the columns of ``cross`` (B, C, K), what is known of each user x candidate pair, such as past counts.
    """

    name: str
    features: tuple[Feature, ...]
    labels: tuple[Label, ...]
    candidate: str = ""
    cross: tuple[str, ...] = ()

    def label(self, name: str) -> Label:
        """The label called ``name``; KeyError if this stream has none."""
        for label in self.labels:
            if label.name == name:
                return label
        raise KeyError(name)


@dataclass(frozen=True)
class Schema:
    """All tables and streams of a protocol, by name."""

    tables: dict[str, Table]
    streams: dict[str, Stream]
