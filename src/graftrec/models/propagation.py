"""Users and items as a trunk that spreads over the graph of who chose what makes them, and where a batch reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from graftrec.data.batch import Batch, Encoded
from graftrec.models.encoder import Encoder
from graftrec.models.trunks.base import Trunk

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


class Spreading:
    """What `spread` says, made once for as long as no weight changes: an evaluation asks for it batch after batch.

    Where something is learned, in training mode or with gradients, it is made each time and nothing is kept.
    """

    def __init__(self) -> None:
        self._made: Spread | None = None
        self._of: list[tuple[int, int, int]] = []
        self._read: list[Tensor] = []  # held, so that no other tensor can get the place in memory of one of them

    def __call__(self, encoder: Encoder, trunk: Trunk) -> Spread:
        """See `spread`."""
        read = [part for module in (encoder, trunk) for part in (*module.parameters(), *module.buffers())]
        learns = torch.is_grad_enabled() or encoder.training or trunk.training
        if not trunk.spreads or learns or any(part.is_inference() for part in read):  # whose changes nobody counts
            self._made, self._read = None, []
            return spread(encoder, trunk)
        # torch counts what is written into a tensor, but for a fused optimizer's step: that one asks in training mode
        now = [(id(part), part.data_ptr(), part._version) for part in read]
        if self._made is None or self._of != now:
            self._made = None  # there is never room needed for two
            self._made, self._of, self._read = spread(encoder, trunk), now, read
        return self._made


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
