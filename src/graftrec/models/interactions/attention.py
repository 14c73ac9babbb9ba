"""Self-attention over fields."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from graftrec.models.interactions.base import Interaction


class Attention(Interaction):
    """e'_m = relu(concat_h sum_k a_h(m, k) V_h e_k + W_res e_m), a_h(m, .) = softmax_k <Q_h e_m, K_h e_k>.

    W. Song et al., AutoInt: Automatic Feature Interaction Learning via Self-Attentive Neural Networks, CIKM 2019,
    https://arxiv.org/abs/1810.11921, equations 5 to 8. From (B, F, D) to (B, F, D): a field is then what all of them
    are to it. Where we differ: scores are divided by the square root of the heads' width, and the width stays D.

    Args:
        layers, heads: how many, each at least 1; heads divide the encoder's width.
    """

    def __init__(self, fields: int, width: int, layers: int = 1, heads: int = 2) -> None:
        super().__init__()
        if layers < 1 or heads < 1:
            raise ValueError(f"layers and heads should be at least 1. Found {layers} and {heads}.")
        if width % heads:
            raise ValueError(f"encoder.width should be a multiple of interaction.heads. Found {width} and {heads}.")
        self.fields, self.heads = fields, heads
        self.inputs = nn.ModuleList(nn.Linear(width, 3 * width, bias=False) for _ in range(layers))
        self.residuals = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(layers))

    def forward(self, fields: Tensor) -> Tensor:
        for project, residual in zip(self.inputs, self.residuals, strict=True):
            rows, count, width = fields.shape
            parts = project(fields).view(rows, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
            found = F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
            fields = F.relu(found + residual(fields))
        return fields
