"""Transformer over the history."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from graftrec.data.batch import Encoded
from graftrec.models.layers.attention import SelfAttention
from graftrec.models.layers.mlp import last_linear, mlp
from graftrec.models.trunks.base import Trunk, masked_mean


class Transformer(Trunk):
    """Self-attention over the history, averaged and fused with the fields: z = f([fields; mean(encoder(history))]).

    A. Vaswani et al., Attention Is All You Need, 2017, https://arxiv.org/abs/1706.03762. z is (B, hidden[-1]), of
    fields (B, F, D), a history (B, L, D) and its mask (B, L); the mean of an empty history is 0. f has ReLU after every
    layer. Where we differ: layer norms come first, and one more in front of the mean. Order enters by each event's
    age, which the encoder adds, so events of one time are a set: no position is given.

    Args:
        fields, width, history: F, D and whether there is a history.
        layers: blocks of attention, at least 1. heads: of each block, at least 1; they divide D. The feed-forward layer
            of a block is 4 D wide.
        hidden: widths of the layers of f.
        dropout: in [0, 1), in all blocks (see `SelfAttention`) and after each layer of f; that of the encoder, of
            what comes in, is another one.
        optional: whether the history may be missing, as where its worth is measured: z = f(fields). Else that is an
            error.
    """

    def __init__(
        self,
        fields: int,
        width: int,
        history: bool,
        layers: int = 1,
        heads: int = 2,
        hidden: Sequence[int] = (64, 32),
        dropout: float = 0.0,
        optional: bool = False,
    ) -> None:
        super().__init__()
        if not history and not optional:
            raise ValueError(
                "The transformer trunk reads a history, and these streams have none: "
                "use protocol=long_short_term, or trunk=shared_bottom."
            )
        self.fuse = mlp((fields + history) * width, hidden, dropout)
        self.attention = SelfAttention(width, layers, heads, 4 * width, dropout) if history else None
        self.out_dim = hidden[-1]

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        if self.attention is None:
            return dict.fromkeys(tasks, self.fuse(encoded.fields.flatten(1)))
        if encoded.history is None or encoded.mask is None:
            raise ValueError("The transformer trunk got a batch without a history.")
        mean = masked_mean(self.attention(encoded.history, encoded.mask), encoded.mask)
        return dict.fromkeys(tasks, self.fuse(torch.cat([encoded.fields.flatten(1), mean], 1)))

    def meeting(self) -> nn.Module:
        return last_linear(self.fuse)
