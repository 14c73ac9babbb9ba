"""Sequences read in both directions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from graftrec.batch import Encoded
from graftrec.nn.packed import AttentionStack, Packed
from graftrec.trunks.base import Trunk, sequence_of


class BERT4Rec(Trunk):
    """z_i from all events of its sequence, of which the hidden ones are one learned vector: z_i says what was hidden.

    x = events or the mask's vector, + positions; blocks of self-attention without a causal mask and a feed-forward
    network; z = GELU(W x + b). F. Sun et al., BERT4Rec: Sequential Recommendation with Bidirectional Encoder
    Representations from Transformer, CIKM 2019, https://arxiv.org/abs/1904.06690, equations 1 to 7.
    Where we differ: the layer norm comes before attention and feed-forward network and once at the end, in the paper
    after each; the feed-forward network has a ReLU for the paper's GELU; positions are counted from the newest event.

    Args:
        layers, heads: of attention. positions: that are told apart; events further back share the last one's.
        checkpoint: whether a step keeps the blocks' inputs alone and computes the rest once more, see `run_block`.
    """

    sequential = True
    cloze = True

    def __init__(
        self,
        width: int,
        history: bool,
        layers: int = 2,
        heads: int = 2,
        expand: int = 4,
        positions: int = 50,
        dropout: float = 0.2,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        if not history:
            raise ValueError("The BERT4Rec trunk reads a sequence, and these streams have no history.")
        self.out_dim = width
        self.hidden = nn.Parameter(torch.randn(width) * 0.02)
        self.stack = AttentionStack(width, layers, heads, expand, positions, dropout, False, checkpoint)
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU())

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        history, mask = sequence_of(self, encoded)
        packed = Packed(mask)
        events = packed.tokens(history)
        if encoded.hidden is not None:
            hidden = packed.tokens(encoded.hidden)[:, None]
            events = torch.where(hidden, self.hidden.to(events.dtype), events)
        x = self.out(self.stack(events, packed, encoded.last))
        z = x[:, None] if encoded.last else packed.sequences(x)
        return dict.fromkeys(tasks, z)

    def meeting(self) -> nn.Module:
        return self.out
