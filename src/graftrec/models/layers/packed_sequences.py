"""Sequences without their padding."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from graftrec.models.layers.dropout import Dropout


class Packed:
    """Where the P events of B sequences lie, side by side in (P, D) and each sequence from its start in (B, M, D).

    What works event by event runs on (P, D), so padding costs nothing; attention alone sees the padded form, with M the
    longest sequence of the batch and padding behind, where a causal mask already hides it.

    Args:
        mask: (B, L) bool, True where there is an event.

    Attributes:
        count: (B,) events of each sequence. order: (P,) place of each event in its own, from 0.
    """

    def __init__(self, mask: Tensor) -> None:
        self.shape = mask.shape
        self.kept = mask.flatten().nonzero().squeeze(1)
        self.count = mask.sum(1)
        self.longest = max(1, int(self.count.max())) if len(mask) else 1
        row = self.kept // max(1, mask.shape[1])
        first = self.count.cumsum(0) - self.count
        self.row, self.order = row, torch.arange(len(row), device=mask.device) - first[row]
        self._place = row * self.longest + self.order
        self._last = (first + self.count - 1).clamp_min(0)
        self._full = len(row) == len(mask) * self.longest  # sequences of one length lie as the padded form does

    def tokens(self, x: Tensor) -> Tensor:
        """(B, L, ...) -> (P, ...)."""
        flat = x.flatten(0, 1)
        return flat if len(self.kept) == len(flat) else flat.index_select(0, self.kept)

    def sequences(self, tokens: Tensor) -> Tensor:
        """(P, ...) -> (B, L, ...) as they came, zeros where there is no event."""
        if len(self.kept) == self.shape[0] * self.shape[1]:
            return tokens.reshape(*self.shape, *tokens.shape[1:])
        whole = tokens.new_zeros(self.shape[0] * self.shape[1], *tokens.shape[1:])
        return whole.index_copy(0, self.kept, tokens).view(*self.shape, *tokens.shape[1:])

    def padded(self, tokens: Tensor) -> Tensor:
        """(P, ...) -> (B, M, ...), each sequence from its start."""
        if self._full:
            return tokens.reshape(self.shape[0], self.longest, *tokens.shape[1:])
        whole = tokens.new_zeros(self.shape[0] * self.longest, *tokens.shape[1:])
        return whole.index_copy(0, self._place, tokens).view(self.shape[0], self.longest, *tokens.shape[1:])

    def unpadded(self, x: Tensor) -> Tensor:
        """(B, M, ...) -> (P, ...)."""
        flat = x.flatten(0, 1)
        return flat if self._full else flat.index_select(0, self._place)

    def last(self, tokens: Tensor) -> Tensor:
        """(P, ...) -> (B, ...), the last event of each sequence; zeros for an empty one."""
        if not len(tokens):  # a sum of nothing, so that what tokens were made of has a gradient here as well
            return tokens.sum(0).expand(self.shape[0], *tokens.shape[1:])
        found = tokens.index_select(0, self._last)
        return found * (self.count > 0).view(-1, *[1] * (tokens.ndim - 1))

    def there(self) -> Tensor:
        """(B, M) bool, True where the padded form has an event."""
        return torch.arange(self.longest, device=self.kept.device) < self.count[:, None]

    def seen(self) -> Tensor:
        """(B, M) bool, the same, and all of an empty sequence: a softmax of nothing is no number, nobody reads it."""
        return self.there() | (self.count == 0)[:, None]


class AttentionBlock(nn.Module):
    """y = x + dropout(attention(norm(x))), then y + dropout(W_2 ReLU(W_1 norm(y))), on packed events (P, D).

    attention: softmax(Q K^T / sqrt(D / heads)) V of each head, side by side, times W_O; Q, K and V are linear in x.

    A. Vaswani et al., Attention Is All You Need, NeurIPS 2017, https://arxiv.org/abs/1706.03762, equations 1 and 2;
    norms come first: R. Xiong et al., On Layer Normalization in the Transformer Architecture, ICML 2020,
    https://arxiv.org/abs/2002.04745.

    Args:
        width: D. heads: at least 1, divide D. hidden: width of the feed-forward layer, W_1 x.
        dropout: of what each half adds to x, in [0, 1).
        causal: whether an event sees only those before it and itself; else all of its sequence.
        attention_dropout: of the softmax's weights, in [0, 1). inner_dropout: of ReLU(W_1 x), in [0, 1).

    Raises:
        ValueError: heads that do not divide the width, or a dropout outside [0, 1).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        dropout: float,
        causal: bool = True,
        attention_dropout: float = 0.0,
        inner_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"encoder.width should be a multiple of trunk.heads. Found {width} and {heads}.")
        self.heads, self.causal, self.dropout = heads, causal, Dropout(dropout)
        self.weights = Dropout(attention_dropout, "attention_dropout")
        self.inner = Dropout(inner_dropout, "inner_dropout")
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.inputs, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.forth, self.back = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor, packed: Packed, last: bool = False) -> Tensor:
        """(P, D) -> (P, D), or (B, D) where only the last event of each sequence is asked for."""
        together = packed.padded(self.inputs(self.before(x)))
        batch, longest, width = together.shape
        each = width // 3 // self.heads
        query, key, value = together.view(batch, longest, 3, self.heads, each).permute(2, 0, 3, 1, 4)
        if last:
            at = (packed.count - 1).clamp_min(0)[:, None, None, None].expand(-1, self.heads, 1, each)
            query, x = query.gather(2, at), packed.last(x)
        ordered = self.causal and not last  # no event then sees the padding, which stands behind all of them
        seen = None if ordered else packed.seen()[:, None, None]
        share = self.weights.p if self.training else 0.0
        found = F.scaled_dot_product_attention(query, key, value, seen, share, ordered).transpose(1, 2).flatten(2)
        x = x + self.dropout(self.out(found.squeeze(1) if last else packed.unpadded(found)))
        inner = self.inner(F.relu(self.forth(self.between(x)), inplace=True))
        return x + self.dropout(self.back(inner))  # type: ignore[no-any-return]


class AttentionStack(nn.Module):
    """Blocks of attention over events + positions: packed events (P, D) -> (P, D), or (B, D) where the last is asked.

    Positions are counted from the newest event of each sequence. They start at a twentieth of the events' size (.02
    beside .05 sqrt(D)): started as large, validation NDCG@10 on LastFM is .047 and not .054 (means of three seeds).

    Args:
        width: D. layers: blocks, at least 1. heads: of each, at least 1, divide D.
        expand: width of the feed-forward layers over D, at least 1.
        positions: that are told apart, at least 1; events further back share the last one's.
        dropout: of events + positions and of what each half of a block adds, in [0, 1).
        causal, attention_dropout, inner_dropout: see `AttentionBlock`. checkpoint: see `run_block`.

    Raises:
        ValueError: a number below 1, heads that do not divide the width, or a dropout outside [0, 1).
    """

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        expand: int,
        positions: int,
        dropout: float,
        causal: bool,
        checkpoint: bool = False,
        attention_dropout: float = 0.0,
        inner_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if min(layers, expand, positions) < 1:
            raise ValueError(
                f"layers, expand and positions should be at least 1. Found {layers}, {expand}, {positions}."
            )
        self.scale, self.checkpoint = width**0.5, checkpoint
        self.positions = nn.Embedding(positions, width)
        nn.init.normal_(self.positions.weight, std=0.02)
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(
            AttentionBlock(width, heads, expand * width, dropout, causal, attention_dropout, inner_dropout)
            for _ in range(layers)
        )

    def forward(self, events: Tensor, packed: Packed, last: bool = False) -> Tensor:
        age = (packed.count[packed.row] - 1 - packed.order).clamp_max(self.positions.num_embeddings - 1)
        x = self.dropout(events * self.scale + self.positions(age))
        for block in self.blocks[:-1]:
            x = run_block(block, self.checkpoint, x, packed)
        return run_block(self.blocks[-1], self.checkpoint, x, packed, last)


def run_block(block: nn.Module, checkpointed: bool, *given: Any) -> Tensor:
    """What ``block`` makes of ``given``; checkpointed, a training step keeps its input alone.

    Backward then computes the block once more, with the same dropout: memory for time.
    """
    if checkpointed and torch.is_grad_enabled():
        again: Tensor = checkpoint(block, *given, use_reentrant=False)
        return again
    found: Tensor = block(*given)
    return found
