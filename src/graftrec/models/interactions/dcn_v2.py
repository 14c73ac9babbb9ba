"""Cross network of DCN-V2."""

from __future__ import annotations

from torch import Tensor, nn

from graftrec.models.interactions.base import Interaction


class DcnV2(Interaction):
    """x_{l+1} = x_0 * (W_l x_l + b_l) + x_l over all fields side by side, x (B, F * D).

    R. Wang et al., DCN V2: Improved Deep & Cross Network and Practical Lessons for Web-scale Learning to Rank Systems,
    WWW 2021, https://arxiv.org/abs/2008.13535, equation 1; with ``rank`` equation 2, W_l = U_l V_l. The trunk is the
    deep network on top: the paper's stacked structure. What comes out is cut into fields of the old form, (B, F, D),
    in each of which are all the fields.

    Args:
        layers: how many, at least 1. rank: of W_l, at least 1, or 0 for a full matrix.
    """

    def __init__(self, fields: int, width: int, layers: int = 2, rank: int = 0) -> None:
        super().__init__()
        if layers < 1 or rank < 0:
            raise ValueError(f"layers should be at least 1 and rank at least 0. Found {layers} and {rank}.")
        self.fields, size = fields, fields * width
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(size, rank, bias=False), nn.Linear(rank, size)) if rank else nn.Linear(size, size)
            for _ in range(layers)
        )

    def forward(self, fields: Tensor) -> Tensor:
        first = x = fields.flatten(1)
        for layer in self.layers:
            x = first * layer(x) + x
        return x.view_as(fields)
