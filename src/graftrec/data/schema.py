"""What columns mean: features, labels, tables and streams. The data side writes it, the network side reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from torch import Tensor

FeatureKind = Literal["id", "ids", "number", "history", "sequence", "vector"]
LabelKind = Literal["binary", "number", "category"]

UNSEEN = -2  # the label of a class that training never saw: right for nobody, where -1 is missing


@dataclass(frozen=True)
class Feature:
    """A named column of a batch.

    ``id`` is (B,) int64, ``ids`` (multi-value) and ``history`` (newest last) are (B, L) int64 rows of ``table``
    where 0 is unknown or padding; ``number`` is (B,) float, standardised on training rows. A history may carry the age
    of each event in a column of its own, named ``<name>_age``: (B, L) float, log(1 + days), and what each event was in
    ``<name>_behaviour``: (B, L) int64 in [0, behaviours), 0 is padding. A ``vector`` is (B, size) float. An ``id`` with
    ``keep`` is never hidden by the encoder's id dropout. A ``sequence`` is a history with times in ``<name>_time``:
    (B, L) int64 milliseconds.
    """

    name: str
    kind: FeatureKind
    table: str = ""
    keep: bool = False
    behaviours: int = 0
    size: int = 0


@dataclass(frozen=True)
class Label:
    """What a task learns: ``binary`` 0/1 or NaN, ``number`` or NaN, ``category`` 0..classes-1 or -1 (missing)."""

    name: str
    kind: LabelKind
    classes: int = 1


@dataclass(frozen=True, eq=False)
class Table:
    """One embedding table, shared by every feature that names it; row 0 is the unknown id.

    An id of the table is an entity: a user, an item, a category. ``rows`` says which row of the embedding is an
    entity's own, (E,) int64, 0 for those that training never saw; without it entities and rows are the same. What is
    known of an entity is added to its own vector, so that an item nobody bought still has a place.

    Attributes:
        size: rows of the embedding.
        content: name of another table -> its entities, (E,) int64, or several of them (E, L), 0 where there are fewer.
        vectors: name -> numbers (E, V) float32; tables with a vector of the same name read it through the same weights.
    """

    name: str
    size: int
    rows: Tensor | None = None
    content: dict[str, Tensor] = field(default_factory=dict)
    vectors: dict[str, Tensor] = field(default_factory=dict)

    @property
    def entities(self) -> int:
        """E."""
        return self.size if self.rows is None else len(self.rows)


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


class Edges(NamedTuple):
    """Who chose what in a stream's training rows, each pair once: entities of its tables of users and items."""

    user: Tensor  # (n,) int64
    item: Tensor  # (n,) int64
    users: int  # entities of the table of users, U
    items: int  # of the table of items, E
    people: str  # name of the table of users: streams with the same one have the same people


@dataclass(frozen=True)
class Schema:
    """All tables and streams of a protocol, by name."""

    tables: dict[str, Table]
    streams: dict[str, Stream]
