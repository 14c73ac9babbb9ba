"""Users and items as a trunk that spreads over the graph of who chose what makes them, and where a batch reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from graftrec.batch import Batch, Encoded
from graftrec.nn.encoder import Encoder
from graftrec.trunks.base import Trunk

USER = "user"
Spread = Mapping[str, tuple[Tensor, Tensor]]
"""Stream -> users (U, D) and items (E, D)."""


def spread(encoder: Encoder, trunk: Trunk) -> Spread:
    """All users and items of the streams of which a trunk makes them (`Trunk.spreads`)."""
    if not trunk.spreads:
        return {}
    vectors: dict[str, Tensor] = {}
    tables = {}
    for name in trunk.spreads:
        stream = encoder.schema.streams[name]
        tables[name] = next(f.table for f in stream.features if f.name == USER), stream.candidate
        vectors |= {table: encoder.items(table) for table in tables[name] if table not in vectors}
    return trunk.spread({name: (vectors[users], vectors[items]) for name, (users, items) in tables.items()})


def into(encoded: Encoded, batch: Batch, encoder: Encoder, known: Spread) -> Encoded:
    """The rows of one batch with their users and candidates taken from what is ``known`` of all."""
    if encoded.stream not in known:
        return encoded
    users, items = known[encoded.stream]
    at = encoder.field_names(encoder.schema.streams[encoded.stream]).index(USER)
    made = users[batch[USER]][:, None]
    given = encoded.fields if encoded.plain is None else encoded.plain
    fields, plain = (torch.cat([each[:, :at], made, each[:, at + 1 :]], 1) for each in (encoded.fields, given))
    encoded = replace(encoded, fields=fields, plain=plain)
    if "candidate" not in batch:
        return encoded
    return replace(encoded, candidate=items[batch["candidate"]], cross=batch.get("cross"))


def candidates(encoder: Encoder, stream: str, ids: Tensor, known: Spread) -> Tensor:
    """Vectors (..., D) of a stream's items ``ids`` (...), as a head compares them."""
    return known[stream][1][ids] if stream in known else encoder.rows(encoder.schema.streams[stream].candidate, ids)
