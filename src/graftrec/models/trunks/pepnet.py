"""Embeddings and hidden units scaled by what is known beforehand."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftrec.data.batch import Encoded
from graftrec.models.layers.experts import BatchedLinear
from graftrec.models.layers.mlp import check_layers
from graftrec.models.trunks.base import Trunk, flat, place_of


class PEPNet(Trunk):
    """O = gate([e_p; sg(E)]) * E, then for each task and layer H' = gate([prior; sg(O)]) * relu(W H + b), H = O first.

    J. Chang et al., PEPNet: Parameter and Embedding Personalized Network for Infusing with Personalized Prior
    Information, KDD 2023, https://arxiv.org/abs/2302.01115. E is all fields side by side and the mean of the history,
    e_p a learned vector of the domain p, which is the stream, and sg stops the gradient: gates do not train what they
    judge. A gate is gamma sigmoid(W' relu(W x + b) + b'), its hidden layer as wide as what it gives; one gate per layer
    serves all tasks. Products are element by element.

    E is (B, F * D) or (B, (F + 1) * D); z_t is (B, hidden[-1]), what the last layer of a task gives.

    Where we differ: the domain's prior is its vector alone, without statistics of it; users, items and authors are
    the fields named as prior. Here, as in FuxiCTR, a gate scales what a layer gives; as we read the paper's
    equations, it scales what a layer reads, O by a second gate included.

    Args:
        prior: fields that every stream has and the hidden units are scaled by, at least one.
        gamma: the largest scale, above 0.
        hidden: widths of a task's layers, at least one, each at least 1. dropout: behind each of them, in [0, 1).
    """

    by_name = True

    def __init__(
        self,
        fields: int,
        width: int,
        history: bool,
        tasks: Sequence[str],
        streams: Mapping[str, Sequence[str]],
        prior: Sequence[str] = ("user",),
        gamma: float = 2.0,
        hidden: Sequence[int] = (128, 64),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not prior:
            raise ValueError("prior should name at least one field. Found none.")
        for stream, names in streams.items():
            if not set(prior) <= set(names):
                raise ValueError(f"prior should name fields of stream '{stream}', {list(names)}. Found {list(prior)}.")
        check_layers(hidden, dropout)
        if gamma <= 0:
            raise ValueError(f"gamma should be above 0. Found {gamma}.")
        in_dim, count = (fields + history) * width, len(tasks)
        self.tasks, self.streams, self.out_dim = list(tasks), list(streams), hidden[-1]
        # an interaction in front, which keeps fields, adds others behind them: these places stay right
        self.prior = [[list(names).index(name) for name in prior] for names in streams.values()]
        self.embedding = EPNet(len(streams), width, in_dim, gamma)
        self.towers = nn.ModuleList(BatchedLinear(count, i, o) for i, o in itertools.pairwise([in_dim, *hidden]))
        self.gates = nn.ModuleList(Gate(len(prior) * width + in_dim, count * o, gamma) for o in hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        domain = place_of(encoded.stream, self.streams)
        h = self.embedding(flat(encoded), domain)
        given = torch.cat([encoded.fields[:, self.prior[domain]].flatten(1), h.detach()], 1)
        for layer, gate in zip(self.towers, self.gates, strict=True):
            new = F.relu(layer(h))  # (T, B, hidden)
            scale = gate(given).view(len(given), len(new), new.shape[2]).transpose(0, 1)
            h = self.dropout(scale * new)
        return {task: h[self.tasks.index(task)] for task in tasks}

    def meeting(self) -> nn.Module:
        return self.embedding


class EPNet(nn.Module):
    """Embeddings (B, in_dim) scaled by a gate of their domain's vector and of themselves, without a gradient there."""

    def __init__(self, domains: int, width: int, in_dim: int, gamma: float) -> None:
        super().__init__()
        self.domains = nn.Parameter(torch.randn(domains, width) * 0.05)  # as the encoder's tables start
        self.gate = Gate(width + in_dim, in_dim, gamma)

    def forward(self, x: Tensor, domain: int) -> Tensor:
        scale: Tensor = self.gate(torch.cat([self.domains[domain].expand(len(x), -1), x.detach()], 1))
        return scale * x


class Gate(nn.Module):
    """gamma sigmoid(W' relu(W x + b) + b'): (B, in_dim) -> (B, out_dim) in (0, gamma)."""

    def __init__(self, in_dim: int, out_dim: int, gamma: float) -> None:
        super().__init__()
        self.gamma, self.inner, self.outer = gamma, nn.Linear(in_dim, out_dim), nn.Linear(out_dim, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.gamma * torch.sigmoid(self.outer(F.relu(self.inner(x))))
