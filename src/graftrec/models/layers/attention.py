"""Self-attention over padded histories."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """Blocks of attention, and a norm of what comes out: events (B, L, D) and a mask (B, L) -> (B, L, D).

    Computes what `nn.TransformerEncoder` computes with ``norm_first=True`` and ``norm=nn.LayerNorm(D)``, and starts as
    it starts; but every weight is one of a `nn.Linear`, whose ``forward`` runs, and any of B and L may be 0.

    Args:
        width: D. layers: blocks. heads: of each, divide D. hidden: width of the feed-forward layers. dropout: in
            [0, 1), of the attention's weights, inside the feed-forward layers and of what each half of a block adds.

    Raises:
        ValueError: a number below 1, heads that do not divide the width.
    """

    def __init__(self, width: int, layers: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        if min(layers, heads, hidden) < 1:
            raise ValueError(f"layers, heads and hidden should be at least 1. Found {layers}, {heads} and {hidden}.")
        if width % heads:
            raise ValueError(f"encoder.width should be a multiple of trunk.heads. Found {width} and {heads}.")
        self.blocks = nn.ModuleList(Block(width, heads, hidden, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, events: Tensor, mask: Tensor) -> Tensor:
        # of nothing a softmax is no number: a history without events attends to its padding, which nobody reads
        attend = (mask | ~mask.any(1, keepdim=True))[:, None, None]
        for block in self.blocks:
            events = block(events, attend)
        return self.norm(events)  # type: ignore[no-any-return]


class Block(nn.Module):
    """x + attention(norm(x)), then x + W_2 relu(W_1 norm(x)): events (B, L, D), what each reads (B, 1, 1, L)."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, nn.Dropout(dropout)
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.inputs, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)  # queries, keys and values
        self.forth, self.back = nn.Linear(width, hidden), nn.Linear(hidden, width)
        nn.init.xavier_uniform_(self.inputs.weight)
        nn.init.zeros_(self.inputs.bias)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, attend: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.inputs(self.before(x)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        chance = self.dropout.p if self.training else 0.0
        read = F.scaled_dot_product_attention(query, key, value, attend, chance)
        x = x + self.dropout(self.out(read.transpose(1, 2).reshape(batch, length, width)))
        return x + self.dropout(self.back(self.dropout(F.relu(self.forth(self.between(x))))))  # type: ignore[no-any-return]
