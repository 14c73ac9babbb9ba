"""Transformer over the history."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from graftrec.batch import Encoded
from graftrec.nn.mlp import mlp
from graftrec.trunks.base import Trunk, masked_mean


class Transformer(Trunk):
    """Self-attention over the history, averaged and fused with the fields: z = f([fields; mean(encoder(history))]).

    A. Vaswani et al., Attention Is All You Need, 2017, https://arxiv.org/abs/1706.03762, with the layer norm first.
    Order enters by each event's age, which the encoder adds, so events of one time are a set: no position is given.
    The encoder already drops parts of what comes in; ``dropout`` here comes on top of it.

    Args:
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
        if width % heads:
            raise ValueError(f"encoder.width should be a multiple of trunk.heads. Found {width} and {heads}.")
        self.attention: nn.TransformerEncoder | None = None
        if history:
            layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, batch_first=True, norm_first=True)
            self.attention = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.fuse = mlp((fields + history) * width, hidden, dropout)
        self.out_dim = hidden[-1]

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        if self.attention is None:
            return dict.fromkeys(tasks, self.fuse(encoded.fields.flatten(1)))
        if encoded.history is None or encoded.mask is None:
            raise ValueError("The transformer trunk got a batch without a history.")
        # an empty history attends to one padding event, which the mean then leaves out
        attend = encoded.mask.clone()
        attend[:, -1] = True
        h = self.attention(encoded.history, src_key_padding_mask=~attend)
        z = self.fuse(torch.cat([encoded.fields.flatten(1), masked_mean(h, encoded.mask)], 1))
        return dict.fromkeys(tasks, z)

    def meeting(self) -> nn.Module:
        return self.fuse[-3]
