"""The shared embedding layer: from a batch's columns to vectors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftrec.batch import Batch, Encoded
from graftrec.schema import Schema, Stream


class Encoder(nn.Module):
    """Features -> vectors of width D. Tables are shared by name over features, streams and domains.

    A row of a table is its own vector plus the vectors of its content (category, brand, ...), so items are fused with
    what is known of them. Multi-value features are averaged; all numbers of a stream become one field.

    Args:
        schema: tables and streams (completed by the program).
        width: D, of every vector.
        dropout: on fields and history, in [0, 1).
        id_dropout: share of the rows whose ``id`` features are replaced by the unknown id in training, which teaches
            row 0 and the content to serve new users (DropoutNet, Volkovs et al., NeurIPS 2017, in its simplest form).
    """

    def __init__(self, schema: Schema, width: int = 32, dropout: float = 0.2, id_dropout: float = 0.0) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width should be at least 1. Found {width}.")
        self.schema, self.width, self.id_dropout = schema, width, id_dropout
        self.tables = nn.ModuleDict({name: nn.Embedding(t.size, width) for name, t in schema.tables.items()})
        for name in schema.tables:
            nn.init.normal_(self._table(name).weight, std=0.05)
        for name, table in schema.tables.items():
            for other, ids in table.content.items():
                self.register_buffer(f"content_{name}_{other}", ids, persistent=False)
        self.numbers = nn.ModuleDict()
        self.age = nn.ModuleDict()
        for stream in schema.streams.values():
            numbers = [f.name for f in stream.features if f.kind == "number"]
            if numbers:
                self.numbers[_key(stream)] = nn.Linear(len(numbers), width)
            for feature in stream.features:
                if feature.kind == "history" and feature.table not in self.age:
                    self.age[feature.table] = nn.Linear(1, width)
        self.dropout = nn.Dropout(dropout)

    def rows(self, table: str, ids: Tensor) -> Tensor:
        """Vectors (..., D) of ``ids`` (...)."""
        vectors, (at,) = self._distinct(table, [ids])
        return F.embedding(at, vectors)

    def items(self, table: str) -> Tensor:
        """Vectors (N + 1, D) of a whole table, row 0 the unknown id: what a ranking scores."""
        return self._fused(table, torch.arange(self.schema.tables[table].size, device=self._table(table).weight.device))

    def _table(self, name: str) -> nn.Embedding:
        table = self.tables[name]
        if not isinstance(table, nn.Embedding):
            raise TypeError(f"{name} should be an embedding. Found {type(table).__name__}.")
        return table

    def _fused(self, table: str, ids: Tensor) -> Tensor:
        vectors: Tensor = self.tables[table](ids)
        for other in self.schema.tables[table].content:
            vectors = vectors + self.tables[other](getattr(self, f"content_{table}_{other}")[ids])
        return vectors

    def _distinct(self, table: str, ids: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Vectors (U, D) that hold all of ``ids``, and where each of them is: content is fused once per distinct id."""
        count = sum(part.numel() for part in ids)
        if not self.schema.tables[table].content:
            return self._table(table).weight, ids
        if self.schema.tables[table].size <= count:  # sorting the ids would take longer
            return self.items(table), ids
        distinct, at = torch.unique(torch.cat([part.flatten() for part in ids]), return_inverse=True)
        places = torch.split(at, [part.numel() for part in ids])
        return self._fused(table, distinct), [place.view_as(part) for place, part in zip(places, ids, strict=True)]

    def _lookup(self, batch: Batch, stream: Stream, with_candidate: bool) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        """Column -> ids, vectors of its table, places in them; columns of one table are looked up together."""
        columns: dict[str, dict[str, Tensor]] = {}
        for feature in stream.features:
            if feature.kind == "number":
                continue
            ids = batch[feature.name]
            if feature.kind == "id" and self.training and self.id_dropout and not feature.keep:
                ids = ids.masked_fill(torch.rand(ids.shape, device=ids.device) < self.id_dropout, 0)
            columns.setdefault(feature.table, {})[feature.name] = ids
        if stream.candidate and with_candidate:
            columns.setdefault(stream.candidate, {})["candidate"] = batch["candidate"]
        found: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        for table, asked in columns.items():
            vectors, places = self._distinct(table, list(asked.values()))
            found |= {name: (ids, vectors, at) for (name, ids), at in zip(asked.items(), places, strict=True)}
        return found

    def forward(self, batch: Batch, stream: Stream, with_candidate: bool = True) -> Encoded:
        """Encode one stream's batch of B rows; see `Encoded` for the shapes."""
        found = self._lookup(batch, stream, with_candidate)
        fields: list[Tensor] = []
        history = mask = None
        for feature in stream.features:
            if feature.kind == "number":
                continue
            ids, vectors, at = found[feature.name]
            if feature.kind == "id":
                fields.append(F.embedding(at, vectors))
            elif feature.kind == "ids":
                fields.append(_mean_of_known(ids, vectors, at))
            else:
                mask = ids > 0
                age = self.age[feature.table](batch[f"{feature.name}_age"][..., None])
                history = self.dropout(F.embedding(at, vectors) + age)
        numbers = [batch[f.name] for f in stream.features if f.kind == "number"]
        if numbers:
            fields.append(self.numbers[_key(stream)](torch.stack(numbers, -1)))
        candidate = cross = None
        if "candidate" in found:
            _, vectors, at = found["candidate"]
            candidate, cross = F.embedding(at, vectors), batch.get("cross")
        return Encoded(self.dropout(torch.stack(fields, 1)), history, mask, candidate, cross)


def _mean_of_known(ids: Tensor, vectors: Tensor, at: Tensor) -> Tensor:
    """Mean vector (B, D) of the known ids of each row (B, L), zeros where there is none.

    One fused sum: gathering (B, L, D) vectors and scattering their gradients back takes about twice as long.
    """
    keep = (ids > 0).to(vectors.dtype)
    total = F.embedding_bag(at, vectors, mode="sum", per_sample_weights=keep)
    return total / keep.sum(1, keepdim=True).clamp_min(1)


def _key(stream: Stream) -> str:
    return stream.name.replace(".", "_")
