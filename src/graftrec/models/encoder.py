"""The shared embedding layer: from a batch's columns to vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from graftrec.data.batch import Batch, Encoded
from graftrec.data.schema import Schema, Stream
from graftrec.models.layers.embedding_tables import Tables
from graftrec.models.layers.generators import FromAttributes, Generator
from graftrec.models.layers.numeric_embeddings import START, Age, Periodic, Together


class Encoder(nn.Module):
    """Features -> vectors of width D. Tables are shared by name over features, streams and domains.

    A row of a table is its own vector plus the vectors of its content (category, brand, ...), so items are fused with
    what is known of them. Multi-value features are averaged.

    Args:
        schema: tables and streams (completed by the program).
        width: D, of every vector.
        dropout: on fields and history, in [0, 1).
        vectors: ``linear`` learns a map of a vector to D; ``as_is`` hands over a vector of D numbers.
        numbers: ``together`` makes all numbers of a stream one field; ``periodic`` makes each its own, see `Periodic`.
        sigma: of its first frequencies, above 0: the larger, the finer what it can tell apart.
        shrink: table -> how it is made smaller than its vocabulary; see `Tables`.
        sparse: whether the tables' gradients hold only the rows that were read (completed by the program).
        id_dropout: share of the rows whose ``id`` features are hidden in training, each on its own, as those of new
            users and new items will be (M. Volkovs, G. Yu, T. Poutanen, DropoutNet: Addressing Cold Start in
            Recommender Systems, NeurIPS 2017, section 4). Where we differ: the paper hides preference vectors that
            another model found, and puts the mean of what a user chose in their place for a further share; we hide rows
            that train here, and what a user chose is the history, which is never hidden.
        hides: what that takes away: ``all``, an id becomes the unknown one; ``id``, its own vector becomes the unknown
            one's, and what is known of it stays, as in the paper, and so it is for candidates too. (With ``all`` these
            are never hidden: one that nothing is known of is no candidate.)
        content_dropout: share of the rows whose ``id`` features lose what is known of them in training, and keep their
            own vector; together with ``id_dropout`` at most 1, as no id loses both.
        generated: tables whose unknown ids get an own vector from what is known of them, tanh(W mean of the vectors of
            its attributes + b), in place of the unknown id's (the generator of Meta-Embedding: F. Pan et al., Warm Up
            Cold-start Advertisements, SIGIR 2019, https://arxiv.org/abs/1904.11547, section 4.1).
        content_only: tables without vectors of ids: an entity is what is known of it (text, vectors, attributes), which
            is all that platforms without shared ids have in common; ``item`` means each platform's as well.
    """

    def __init__(
        self,
        schema: Schema,
        width: int = 32,
        dropout: float = 0.2,
        id_dropout: float = 0.0,
        hides: Literal["all", "id"] = "all",
        content_dropout: float = 0.0,
        generated: Sequence[str] = (),
        content_only: Sequence[str] = (),
        vectors: Literal["linear", "as_is"] = "linear",
        numbers: Literal["together", "periodic"] = "together",
        sigma: float = 0.1,
        shrink: Mapping[str, Mapping[str, int]] | None = None,
        sparse: bool = False,
    ) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width should be at least 1. Found {width}.")
        if numbers not in ("together", "periodic"):
            raise ValueError(f"numbers should be together or periodic. Found {numbers}.")
        if vectors not in ("linear", "as_is"):
            raise ValueError(f"vectors should be linear or as_is. Found {vectors}.")
        if sigma <= 0:
            raise ValueError(f"sigma should be above 0. Found {sigma}.")
        if min(id_dropout, content_dropout) < 0 or id_dropout + content_dropout > 1:
            raise ValueError(
                "id_dropout and content_dropout should be at least 0, and together at most 1. Found "
                f"{id_dropout} and {content_dropout}."
            )
        if hides not in ("all", "id"):
            raise ValueError(f"hides should be all or id. Found {hides}.")
        self.schema, self.width, self.id_dropout = schema, width, id_dropout
        self.hides, self.content_dropout = hides, content_dropout
        for name in generated:
            known = schema.tables.get(name)
            if known is None or not (known.content or known.vectors):
                having = ", ".join(table for table, one in schema.tables.items() if one.content or one.vectors)
                raise ValueError(
                    f"generated should be of the tables with attributes, {having or 'none'}. Found '{name}'."
                )
        self.as_is, self.apart = vectors == "as_is", numbers == "periodic"
        self.content_only = _without_ids(schema, content_only)
        sizes = {name: table.size for name, table in schema.tables.items() if name not in self.content_only}
        self.tables = Tables(sizes, width, shrink, sparse)
        self.generated = tuple(generated)
        self.hidden = ""  # the only table of which ids are hidden; empty: all
        self.generators = nn.ModuleDict({_key(name): FromAttributes(width) for name in generated})
        self.vectors = nn.ModuleDict()
        for name, table in schema.tables.items():
            if table.rows is not None:
                self.register_buffer(f"rows_{_key(name)}", table.rows, persistent=False)
            for other, ids in table.content.items():
                self.register_buffer(f"content_{_key(name)}_{_key(other)}", ids, persistent=False)
            for vector, values in table.vectors.items():
                self.register_buffer(f"vector_{_key(name)}_{_key(vector)}", values, persistent=False)
                self._add_vector(vector, values.shape[1])
                self._start_vector(vector, values)
        self.numbers = nn.ModuleDict()
        self.age = nn.ModuleDict()
        self.behaviours = nn.ModuleDict()
        for stream in schema.streams.values():
            count = sum(feature.kind == "number" for feature in stream.features)
            if count:
                made = Periodic(count, width, sigma) if self.apart else Together(count, width)
                self.numbers[_key(stream.name)] = made
            for feature in stream.features:
                if feature.kind == "history" and _key(feature.table) not in self.age:
                    self.age[_key(feature.table)] = Age(width)
                if feature.behaviours and _key(feature.table) not in self.behaviours:
                    kinds = max(f.behaviours for other in schema.streams.values() for f in other.features
                                if f.table == feature.table)  # fmt: skip
                    behaviours = nn.Embedding(kinds, width, padding_idx=0)
                    self.behaviours[_key(feature.table)] = behaviours
                    nn.init.normal_(behaviours.weight[1:].detach(), std=START)
                if feature.kind == "vector":
                    self._add_vector(feature.name, feature.size)
        self.dropout = nn.Dropout(dropout)

    def _add_vector(self, name: str, size: int) -> None:
        """The weights of a vector, shared by all that have one of this name."""
        if self.as_is and size != self.width:
            raise ValueError(f"encoder.width should be that of the vector '{name}', {size}. Found {self.width}.")
        if _key(name) not in self.vectors:
            self.vectors[_key(name)] = nn.Identity() if self.as_is else nn.Linear(size, self.width)
        weights = self.vectors[_key(name)]
        if isinstance(weights, nn.Linear) and weights.in_features != size:
            raise ValueError(f"the vector '{name}' should have one length everywhere. Found {size} and another.")

    def _start_vector(self, name: str, values: Tensor) -> None:
        """What a vector adds to its entities starts as large as their own vectors: `START` in every number of D."""
        weights = self.vectors[_key(name)]
        if isinstance(weights, nn.Linear):
            known = values[values.any(1)].double()  # the unknown have none
            length = float(known.square().sum(1).mean().sqrt()) if len(known) else 1.0
            nn.init.normal_(weights.weight, std=START / max(length, 1e-6))
            nn.init.zeros_(weights.bias)

    def rest(self, streams: Sequence[str], events: bool, fields: bool) -> None:
        """Let rest what nothing reads of ``streams``, since several processes wait for every gradient of what trains.

        Args:
            events: whether what an event's age and kind add is read. fields: whether fields other than ids are.
        """
        resting: list[nn.Module] = []
        if not events:
            resting += [self.age, self.behaviours]
        if not fields:
            known = {_key(name) for table in self.schema.tables.values() for name in table.vectors}
            own = {_key(f.name) for name in streams for f in self.schema.streams[name].features if f.kind == "vector"}
            resting += [self.vectors[name] for name in own - known]
            resting += [self.numbers[_key(name)] for name in streams if _key(name) in self.numbers]
        for part in resting:
            part.requires_grad_(False)

    def field_names(self, stream: Stream) -> list[str]:
        """Of the F fields of a stream, in their order: ids, multi-value features and vectors, then numbers.

        All numbers together are called ``numbers``; a history is no field.
        """
        names = [feature.name for feature in stream.features if feature.kind in ("id", "ids", "vector")]
        numbers = [feature.name for feature in stream.features if feature.kind == "number"]
        return names + (numbers if self.apart else ["numbers"] * bool(numbers))

    def rows(self, table: str, ids: Tensor) -> Tensor:
        """Vectors (..., D) of the candidates ``ids`` (...)."""
        vectors, (at,) = self._distinct(
            table, [self._hidden(table, ids) if self._hiding and self.hides == "id" else ids]
        )
        return self.tables.gather(at, vectors)

    def items(self, table: str) -> Tensor:
        """Vectors (E, D) of all entities of a table, 0 the unknown one."""
        return self._fused(table, torch.arange(self.schema.tables[table].entities, device=self.tables.block.device))

    def _own(self, table: str, ids: Tensor) -> Tensor:
        """Rows of the embedding that are these entities' own."""
        return ids if self.schema.tables[table].rows is None else self._buffer(f"rows_{_key(table)}")[ids]

    def _buffer(self, name: str) -> Tensor:
        found: Tensor = getattr(self, name)
        return found

    def _fused(self, table: str, ids: Tensor) -> Tensor:
        """Vectors (n, D) of entities (n,): their own, and those of all that is known of them; see `_hidden`."""
        meaning = self.schema.tables[table]
        own, ids = self._told_apart(table, ids)
        made: list[Tensor] = []
        for other in meaning.content:
            known = self._buffer(f"content_{_key(table)}_{_key(other)}")[ids]
            if known.ndim == 1:
                made.append(self.tables(other, known))
            else:
                rows, (at,) = self._distinct(other, [known])
                made.append(self.tables.bag(at, known > 0, rows))
        for vector in meaning.vectors:
            made.append(self.vectors[_key(vector)](self._buffer(f"vector_{_key(table)}_{_key(vector)}")[ids]))
        if table in self.content_only:
            return torch.stack(made).sum(0)
        vectors: Tensor = self.tables(table, own)
        generator = dict(self.generators.items()).get(_key(table))
        if isinstance(generator, Generator):
            new = generator.new(own, ids)[:, None]
            vectors = torch.where(new, generator(torch.stack(made).mean(0), ids), vectors)
        for part in made:
            vectors = vectors + part
        return vectors

    def _told_apart(self, table: str, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of the embedding (n,) that are these ids' own, and entities (n,) of which something is known."""
        if not self._hiding:
            return self._own(table, ids), ids
        entities = self.schema.tables[table].entities
        hidden, ids = ids // entities, ids % entities
        return self._own(table, ids).masked_fill(hidden == 1, 0), ids.masked_fill(hidden == 2, 0)

    @property
    def _hiding(self) -> bool:
        """Whether ids may have parts that are hidden."""
        return self.training and bool(self.content_dropout or (self.id_dropout and self.hides == "id"))

    def shows_new(self, table: str) -> bool:
        """Whether a stream has ids of a table that may be hidden in training, as those of new entities will be."""
        for stream in self.schema.streams.values():
            named = [feature for feature in stream.features if feature.table == table and feature.kind == "id"]
            kept = any(feature.keep for feature in named)
            if (named or stream.candidate == table) and not kept:
                return True
        return False

    def _hidden(self, table: str, ids: Tensor) -> Tensor:
        """Ids (...), of which some are the unknown one; or have the number of entities E added, if their own vector is
        hidden, or 2 E, if what is known of them is."""
        if self.hidden not in ("", table):
            return ids
        drawn = torch.rand(ids.shape, device=ids.device)
        share, entities = self.id_dropout, self.schema.tables[table].entities
        if self.content_dropout:
            ids = ids + 2 * entities * (drawn > 1 - self.content_dropout)
        if self.hides == "id":
            return ids + entities * (drawn < share)
        return ids.masked_fill(drawn < share, 0)

    def _distinct(self, table: str, ids: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Vectors (U, D) that hold all of ``ids``, and where each of them is: content is fused once per distinct id."""
        meaning = self.schema.tables[table]
        alone = not meaning.content and not meaning.vectors
        if alone and self.tables.whole(table):
            return self.tables.block, [self.tables.rows(table, self._told_apart(table, part)[0]) for part in ids]
        if not self._hiding and meaning.entities <= sum(
            part.numel() for part in ids
        ):  # sorting the ids would take longer
            return self.items(table), ids
        distinct, at = torch.unique(torch.cat([part.flatten() for part in ids]), return_inverse=True)
        places = torch.split(at, [part.numel() for part in ids])
        return self._fused(table, distinct), [place.view_as(part) for place, part in zip(places, ids, strict=True)]

    def _lookup(self, batch: Batch, stream: Stream, with_candidate: bool) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        """Column -> ids, vectors of its table, places in them; columns of one table are looked up together."""
        columns: dict[str, dict[str, Tensor]] = {}
        for feature in stream.features:
            if feature.kind in ("number", "vector"):
                continue
            ids = batch[feature.name]
            if (
                feature.kind == "id"
                and self.training
                and not feature.keep
                and (self.id_dropout or self.content_dropout)
            ):
                ids = self._hidden(feature.table, ids)
            columns.setdefault(feature.table, {})[feature.name] = ids
        if stream.candidate and with_candidate:
            ids = batch["candidate"]
            kept = any(feature.keep and feature.table == stream.candidate for feature in stream.features)
            if self._hiding and self.hides == "id" and not kept:
                ids = self._hidden(stream.candidate, ids)
            columns.setdefault(stream.candidate, {})["candidate"] = ids
        found: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        for table, asked in columns.items():
            vectors, places = self._distinct(table, list(asked.values()))
            found |= {name: (ids, vectors, at) for (name, ids), at in zip(asked.items(), places, strict=True)}
        return found

    def _attributes(self, batch: Batch, stream: Stream, by: str) -> tuple[Tensor, dict[str, Tensor]] | None:
        """See `Encoded.attributes`; ids that dropout hides from the fields are there, as they are no input."""
        for events in stream.features:
            if events.kind in ("history", "sequence"):
                known = self._buffer(f"content_{_key(events.table)}_{_key(by)}")
                asked = [f.name for f in stream.features if f.kind == "id" and f.table == events.table]
                return known[batch[events.name]], {name: known[batch[name]] for name in asked}
        return None

    def forward(self, batch: Batch, stream: Stream, with_candidate: bool = True, by: str = "") -> Encoded:
        """Encode one stream's batch of B rows; see `Encoded` for the shapes, and `Trunk.by`."""
        found = self._lookup(batch, stream, with_candidate)
        fields: list[Tensor] = []  # (B, 1, D), or (B, n, D) for n columns in a row that one gather reads
        waiting: list[Tensor] = []
        history = mask = times = hidden = items = kinds = None

        def read() -> None:
            if waiting:
                fields.append(self.tables.gather(torch.stack(waiting, 1)))
                waiting.clear()

        for feature in stream.features:
            if feature.kind == "number":
                continue
            if feature.kind == "vector":
                read()
                fields.append(self.vectors[_key(feature.name)](batch[feature.name])[:, None])
                continue
            ids, vectors, at = found[feature.name]
            if feature.kind == "id" and vectors is self.tables.block:
                waiting.append(at)
            elif feature.kind == "id":
                read()
                fields.append(self.tables.gather(at, vectors)[:, None])
            elif feature.kind == "ids":
                read()
                fields.append(self.tables.bag(at, ids > 0, vectors)[:, None])
            else:
                mask = ids > 0
                events = items = self.tables.gather(at, vectors)
                kinds = batch.get(f"{feature.name}_behaviour")
                if feature.kind == "history":
                    events = events + self.age[_key(feature.table)](batch[f"{feature.name}_age"])
                else:
                    times, hidden = batch[f"{feature.name}_time"], batch.get(f"{feature.name}_masked")
                    mask = mask if hidden is None else mask | hidden
                if feature.behaviours:
                    events = events + self.behaviours[_key(feature.table)](batch[f"{feature.name}_behaviour"])
                history = self.dropout(events)
        read()
        numbers = [batch[f.name] for f in stream.features if f.kind == "number"]
        if numbers:
            fields.append(self.numbers[_key(stream.name)](torch.stack(numbers, -1)))
        candidate = cross = None
        if "candidate" in found:
            _, vectors, at = found["candidate"]
            candidate, cross = self.tables.gather(at, vectors), batch.get("cross")
        together = (
            torch.cat(fields, 1)
            if fields
            else self.tables.block.new_zeros(len(batch[stream.features[0].name]), 0, self.width)
        )
        attributes = self._attributes(batch, stream, by) if by else None
        return Encoded(
            self.dropout(together), history, mask, candidate, cross, stream.name, times, hidden,
            attributes=attributes, items=items, kinds=kinds, plain=together,
        )  # fmt: skip


def _without_ids(schema: Schema, asked: Sequence[str]) -> set[str]:
    """Tables called one of ``asked``, with or without a platform in front.

    Raises:
        ValueError: a name without a table, or a table of which nothing is known.
    """
    found = {name for name in schema.tables if name in asked or name.rpartition("/")[2] in asked}
    missing = [name for name in asked if not any(name in (own, own.rpartition("/")[2]) for own in found)]
    if missing:
        raise ValueError(f"content_only should be of the tables {', '.join(schema.tables)}. Found '{missing[0]}'.")
    bare = sorted(name for name in found if not (schema.tables[name].content or schema.tables[name].vectors))
    if bare:
        raise ValueError(f"content_only should be of tables with attributes. Found '{bare[0]}', which has none.")
    return found


def _key(name: str) -> str:
    """A name that torch takes for a part of a module."""
    return name.replace(".", "_")
