"""Star topology over domains."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftrec.data.batch import Encoded
from graftrec.models.layers.mlp import check_layers
from graftrec.models.layers.stream_norm import StreamNorm
from graftrec.models.trunks.base import Trunk, flat, place_of


class STAR(Trunk):
    """x' = relu((W_shared * W_p) x + b_shared + b_p) for the domain p, products element by element.

    X.-R. Sheng et al., One Model to Serve All: Star Topology Adaptive Recommender for Multi-Domain CTR Prediction,
    CIKM 2021, https://arxiv.org/abs/2101.11427, equations 5 and 6, on an input with partitioned normalisation
    (equations 3 and 4). Domains are the streams. W_p is kept as 1 + V_p and the norm's gamma_p as 1 + g_p: all domains
    start alike (V_p, g_p and biases 0), and weight decay pulls V_p and g_p to what the domains share.

    x is all fields side by side and the mean of the history, (B, F * D) or (B, (F + 1) * D); z (B, hidden[-1]).

    Where we differ: the auxiliary network, whose logit of the domain indicator is added, is left out, as trunks give no
    logits; all tasks of a stream share its z.

    Args:
        hidden: widths of the layers, at least one, each at least 1. dropout: behind every layer, in [0, 1).
    """

    def __init__(
        self,
        fields: int,
        width: int,
        history: bool,
        streams: Mapping[str, Sequence[str]],
        hidden: Sequence[int] = (128, 64),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_layers(hidden, dropout)
        sizes = [(fields + history) * width, *hidden]
        self.streams, self.out_dim, count = list(streams), hidden[-1], len(streams)
        self.norm = PartitionedNorm(count, sizes[0])
        self.shared = nn.ModuleList(Centre(i, o) for i, o in itertools.pairwise(sizes))
        self.domains = nn.ModuleList(Domains(count, i, o) for i, o in itertools.pairwise(sizes))
        self.dropout = nn.Dropout(dropout)

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        domain = place_of(encoded.stream, self.streams)
        x = self.norm(flat(encoded), domain)
        for centre, own in zip(self.shared, self.domains, strict=True):
            x = self.dropout(F.relu(centre(x, *own(domain))))
        return dict.fromkeys(tasks, x)

    def meeting(self) -> nn.Module:
        return self.shared[-1]


class Centre(nn.Module):
    """The shared part of a layer, which takes a domain's part: x (B, in_dim) -> (B, out_dim)."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        bound = in_dim**-0.5  # as nn.Linear starts
        self.weight = nn.Parameter(torch.empty(out_dim, in_dim).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(out_dim).uniform_(-bound, bound))

    def forward(self, x: Tensor, offset: Tensor, bias: Tensor) -> Tensor:
        return F.linear(x, self.weight * (1 + offset), self.bias + bias)


class Domains(nn.Module):
    """What each domain changes of a layer: V_p (out_dim, in_dim) and b_p (out_dim,)."""

    def __init__(self, count: int, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(count, out_dim, in_dim))
        self.bias = nn.Parameter(torch.zeros(count, out_dim))

    def forward(self, domain: int) -> tuple[Tensor, Tensor]:
        return self.offset[domain], self.bias[domain]


class PartitionedNorm(StreamNorm):
    """gamma (1 + g_p) (x - mean_p) / sqrt(var_p + eps) + beta + beta_p of the domain p: (B, dim) -> (B, dim)."""

    def __init__(self, domains: int, dim: int) -> None:
        super().__init__(domains, dim)
        self.domains = Domains(domains, 1, dim)

    def forward(self, x: Tensor, stream: int) -> Tensor:
        """Rows x (B, dim) of the domain of this number -> (B, dim)."""
        offset, bias = self.domains(stream)
        return self.normed(x, stream, self.weight * (1 + offset.squeeze(1)), self.bias + bias)
