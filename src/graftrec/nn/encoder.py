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
        """Vectors (..., D) of ``ids`` (...): one gather of the distinct rows, a step costs what its rows cost."""
        if not self.schema.tables[table].content:
            vectors: Tensor = self.tables[table](ids)
            return vectors
        unique, inverse = torch.unique(ids, return_inverse=True)
        return F.embedding(inverse, self._fused(table, unique))

    def pooled(self, table: str, ids: Tensor) -> Tensor:
        """Mean vector (B, D) of the known ids of each row (B, L), zeros where there is none.

        One fused sum: gathering (B, L, D) vectors and scattering their gradients back takes 2 to 2.4 times as long.
        """
        unique, inverse = torch.unique(ids, return_inverse=True)
        keep = (ids > 0).to(self._table(table).weight.dtype)
        total = F.embedding_bag(inverse, self._fused(table, unique), mode="sum", per_sample_weights=keep)
        return total / keep.sum(1, keepdim=True).clamp_min(1)

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

    def forward(self, batch: Batch, stream: Stream, with_candidate: bool = True) -> Encoded:
        """Encode one stream's batch of B rows; see `Encoded` for the shapes."""
        fields: list[Tensor] = []
        history = mask = None
        for feature in stream.features:
            if feature.kind == "number":
                continue
            ids = batch[feature.name]
            if feature.kind == "id":
                if self.training and self.id_dropout and not feature.keep:
                    ids = ids.masked_fill(torch.rand(ids.shape, device=ids.device) < self.id_dropout, 0)
                fields.append(self.rows(feature.table, ids))
            elif feature.kind == "ids":
                fields.append(self.pooled(feature.table, ids))
            else:
                mask = ids > 0
                history = self.rows(feature.table, ids) + self.age[feature.table](
                    batch[f"{feature.name}_age"][..., None]
                )
                history = self.dropout(history)
        numbers = [batch[f.name] for f in stream.features if f.kind == "number"]
        if numbers:
            fields.append(self.numbers[_key(stream)](torch.stack(numbers, -1)))
        candidate = cross = None
        if stream.candidate and with_candidate:
            candidate, cross = self.rows(stream.candidate, batch["candidate"]), batch.get("cross")
        return Encoded(self.dropout(torch.stack(fields, 1)), history, mask, candidate, cross)


def _key(stream: Stream) -> str:
    return stream.name.replace(".", "_")
