"""Sequences with pointwise attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from graftrec.data.batch import Encoded
from graftrec.models.layers.dropout import Dropout
from graftrec.models.layers.packed_sequences import Packed, run_block
from graftrec.models.trunks.base import Trunk, sequence_of

SCORES = 1 << 24  # of attention that are held at once
TIMES = 64  # buckets of time differences: two for each doubling of the seconds, up to 136 years


class Times:
    """Of pairs of events the bucket that their time apart is in: floor(2 log2(seconds)), 0 for a second or less.

    Args:
        times: (B, M) int64 milliseconds, each sequence from its start.
    """

    def __init__(self, times: Tensor) -> None:
        # a bucket begins at the first millisecond of 2^(k / 2) seconds: whole numbers, so that none is in the wrong one
        starts = [math.isqrt(10**6 * 2**k - 1) + 1 for k in range(1, TIMES)]
        self._times, self._starts = times, torch.tensor(starts, device=times.device)

    def buckets(self, at: Tensor, keys: int) -> Tensor:
        """Of queries at ``at`` (B or 1, q) and the first ``keys`` events: (B, q, keys) int32."""
        every = at.shape[1] == keys == self._times.shape[1]
        return self._every if every else self._of(at, keys)

    @cached_property
    def _every(self) -> Tensor:
        """Of all pairs (B, M, M); all blocks read the same."""
        longest = self._times.shape[1]
        return self._of(torch.arange(longest, device=self._times.device)[None], longest)

    def _of(self, at: Tensor, keys: int) -> Tensor:
        asked = self._times.gather(1, at.expand(len(self._times), -1))
        return torch.bucketize(asked[..., None] - self._times[:, None, :keys], self._starts, right=True, out_int32=True)


class PointwiseBlock(nn.Module):
    """x + f2(dropout(norm(A V) * U)); U, V, Q, K = SiLU(f1(norm(x))); A = SiLU(Q K^T + bias) / n, on events (P, D).

    n is the number of events that a query may see, those before it and itself; bias is learned for their distance in
    places and in time and the same for all heads.

    Args:
        width: D. heads: divide D. positions: distances in places that are told apart. dropout: of what `out` reads.
    """

    def __init__(self, width: int, heads: int, positions: int, dropout: float) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"encoder.width should be a multiple of trunk.heads. Found {width} and {heads}.")
        self.heads, self.dropout = heads, Dropout(dropout)
        # of a mean over many events little is left: a larger epsilon would drown it
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width, eps=1e-6)
        self.inputs, self.out = nn.Linear(width, 4 * width), nn.Linear(width, width)
        # vectors: the backward of an embedding of width 1 takes ten times as long
        self.place, self.time = (nn.Parameter(torch.randn(size) * 0.02) for size in (positions, TIMES))

    def bias(self, at: Tensor, times: Times | None, keys: int) -> Tensor:
        """Of queries at ``at`` (B or 1, q) and the first ``keys`` events: (B or 1, q, keys)."""
        distance = at[..., None] - torch.arange(keys, device=at.device)
        found = _read(self.place, distance.clamp(0, len(self.place) - 1))
        return found if times is None else found + _read(self.time, times.buckets(at, keys))

    def attend(self, query: Tensor, key: Tensor, value: Tensor, at: Tensor, times: Times | None) -> Tensor:
        """A V (B, H, q, d) of queries (B, H, q, d) at ``at`` (B or 1, q), keys and values (B, H, m, d)."""
        keys = key.shape[2]
        scores = F.silu(query @ key.transpose(-1, -2) + self.bias(at, times, keys)[:, None])
        seen = torch.arange(keys, device=at.device) <= at[..., None]
        weights = torch.where(seen[:, None], scores / (at + 1)[:, None, :, None], 0.0)
        return weights.to(value.dtype) @ value

    def forward(self, x: Tensor, packed: Packed, times: Times | None, last: bool = False) -> Tensor:
        """(P, D) -> (P, D), or (B, D) where only the last event of each sequence is asked for."""
        gate, *parts = F.silu(self.inputs(self.before(x))).chunk(4, -1)
        together = packed.padded(torch.cat(parts, -1))
        batch, longest, width = together.shape
        each = width // 3 // self.heads
        value, query, key = together.view(batch, longest, 3, self.heads, each).permute(2, 0, 3, 1, 4)
        if last:
            at = (packed.count - 1).clamp_min(0)[:, None]
            query = query.gather(2, at[:, None, :, None].expand(-1, self.heads, 1, query.shape[-1]))
            found = self.attend(query, key, value, at, times)[:, :, 0].flatten(1)
            x, gate = packed.last(x), packed.last(gate)
        else:
            found = packed.unpadded(self._all(query, key, value, times).transpose(1, 2).flatten(2))
        return x + self.out(self.dropout(self.between(found) * gate))  # type: ignore[no-any-return]

    def _all(self, query: Tensor, key: Tensor, value: Tensor, times: Times | None) -> Tensor:
        """Of all M queries, as many at once as `SCORES` allows; then backward computes their scores once more."""
        batch, heads, longest, _ = query.shape
        step = max(1, SCORES // max(1, batch * heads * longest))
        at = torch.arange(longest, device=query.device)[None]
        if step >= longest:
            return self.attend(query, key, value, at, times)
        found = []
        for start in range(0, longest, step):
            end = min(start + step, longest)  # no query of this block sees a key behind it
            given = query[:, :, start:end], key[:, :, :end], value[:, :, :end], at[:, start:end], times
            found.append(checkpoint(self.attend, *given, use_reentrant=False, preserve_rng_state=False))
        return torch.cat(found, 2)


def _read(vector: Tensor, at: Tensor) -> Tensor:
    """Numbers of a vector (n,) at places (...): (...)."""
    return vector.index_select(0, at.flatten()).view(at.shape)


class HSTU(Trunk):
    """z_i from events 1 to i alone: blocks of attention without a softmax, so that it also says how much there was.

    x_i = dropout(sqrt(D) e_i), block after block, z = norm(x). Of events (B, L, D) and their times (B, L) z is
    (B, L, D), zeros at padding, and (B, 1, D) where the last one is asked.

    J. Zhai et al., Actions Speak Louder than Words: Trillion-Parameter Sequential Transducers for Generative
    Recommendations, ICML 2024, https://arxiv.org/abs/2402.17152, equations 1 to 3: see `PointwiseBlock`.

    Where we differ: A is divided by the number of events that a query may see (the authors' code divides by the
    greatest length, which the norm that follows all but undoes); times are differences to the query's own event (in
    the authors' code to the one that follows); z is layer-normed, and heads are as wide for Q and K as for V. Order
    enters by the relative bias alone, and without times (streams with a ``history``) only by places.

    Args:
        layers: blocks, at least 1. heads: of attention in each, at least 1, divide D.
        positions: distances that are told apart, at least 1; larger ones share the last one's.
        dropout: of events and of what f2 of each block reads, in [0, 1).
        checkpoint: whether a step keeps the blocks' inputs alone and computes the rest once more, see `run_block`.

    Raises:
        ValueError: streams without a history, numbers outside these ranges, or heads that do not divide D.
    """

    sequential = True

    def __init__(
        self,
        width: int,
        history: bool,
        layers: int = 2,
        heads: int = 2,
        positions: int = 200,
        dropout: float = 0.2,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        if not history:
            raise ValueError("The HSTU trunk reads a sequence, and these streams have no history.")
        if min(layers, positions) < 1:
            raise ValueError(f"layers and positions should be at least 1. Found {layers} and {positions}.")
        self.out_dim = width
        self.scale, self.checkpoint = width**0.5, checkpoint  # the tables' first vectors are small
        self.blocks = nn.ModuleList(PointwiseBlock(width, heads, positions, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        history, mask = sequence_of(self, encoded)
        packed = Packed(mask)
        times = None if encoded.times is None else Times(packed.padded(packed.tokens(encoded.times)))
        x = self.dropout(packed.tokens(history) * self.scale)
        for block in self.blocks[:-1]:
            x = run_block(block, self.checkpoint, x, packed, times)
        x = self.norm(run_block(self.blocks[-1], self.checkpoint, x, packed, times, encoded.last))
        z = x[:, None] if encoded.last else packed.sequences(x)
        return dict.fromkeys(tasks, z)

    def meeting(self) -> nn.Module:
        return self.norm
