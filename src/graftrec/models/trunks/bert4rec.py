"""Sequences read in both directions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from graftrec.data.batch import Encoded
from graftrec.models.layers.packed_sequences import AttentionStack, Packed
from graftrec.models.trunks.base import Trunk, sequence_of


class BERT4Rec(Trunk):
    """z_i reads all events of its sequence, of which the hidden ones are one learned vector, and says what was hidden.

    x = sqrt(D) e_i, or the mask's vector, + positions; blocks of self-attention without a causal mask and a
    feed-forward network (`AttentionBlock`); z = GELU(W norm(x) + b). Of events (B, L, D) z is (B, L, D), zeros at
    padding, and (B, 1, D) where the last one is asked.

    F. Sun et al., BERT4Rec: Sequential Recommendation with Bidirectional Encoder Representations from Transformer, CIKM
    2019, https://arxiv.org/abs/1904.06690, equations 1 to 7.

    Where we differ: the layer norm comes before attention and feed-forward network and once at the end, in the paper
    after each; the feed-forward network has a ReLU for the paper's GELU; positions are counted from the newest event.
    Equation 7's bias b^O of each item is the task's: ``target.next_item.item_bias=true``, off by default. The authors'
    code drops attention's weights at .2: here that is an option, 0 by default; inside the feed-forward network
    it drops nothing, as is the default here.

    Args:
        layers: blocks, at least 1. heads: of attention in each, at least 1, divide D.
        expand: width of the feed-forward layers over D, at least 1.
        positions: that are told apart, at least 1; events further back share the last one's.
        dropout: of events + positions and of what each half of a block adds, in [0, 1).
        attention_dropout: of attention's weights, in [0, 1). inner_dropout: inside the feed-forward layers, in [0, 1).
        checkpoint: whether a step keeps the blocks' inputs alone and computes the rest once more, see `run_block`.

    Raises:
        ValueError: streams without a history, numbers outside these ranges, or heads that do not divide D.
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
        attention_dropout: float = 0.0,
        inner_dropout: float = 0.0,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        if not history:
            raise ValueError("The BERT4Rec trunk reads a sequence, and these streams have no history.")
        self.out_dim = width
        self.hidden = nn.Parameter(torch.randn(width) * 0.02)
        self.stack = AttentionStack(
            width, layers, heads, expand, positions, dropout, False, checkpoint, attention_dropout, inner_dropout
        )
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
