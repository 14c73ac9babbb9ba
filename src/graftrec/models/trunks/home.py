"""A hierarchy of multi-gate experts."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftrec.data.batch import Encoded
from graftrec.models.layers.experts import BatchedLinear
from graftrec.models.layers.mlp import check_layers
from graftrec.models.layers.stream_norm import StreamNorm
from graftrec.models.trunks.base import Trunk, flat, place_of


class HoME(Trunk):
    """Two levels of normalised experts; a mask says whose experts a gate sees.

    X. Wang et al., HoME: Hierarchy of Multi-Gate Experts for Multi-Task Learning at Kuaishou, 2024,
    https://arxiv.org/abs/2408.05430. Experts come in blocks, all experts of a block read the same:

    * expert(x) = swish(batchnorm(W x + b)) in every layer;
    * feature gate: a block reads v * 2 sigmoid(v B A), B A of low rank, instead of v;
    * meta level, v = x, a block that is shared and one for each group of tasks: the gate of the shared m_0 sees all
      blocks, that of a group's m_g the shared block and its own;
    * task level, a block that is shared and reads m_0, one for each group and each task, which read the group's m_g:
      z_t = sum over the three blocks of t of gate(m_g, m_0) expert;
    * self gate: to m_g and z_t comes what a second gate makes of their own block alone (softmax, or a sigmoid for one
      expert), so that own experts always learn.

    x is all fields side by side and the mean of the history, (B, F * D) or (B, (F + 1) * D); z_t (B, hidden[-1]).

    Where we differ: a feature gate is one low-rank map with biases, not a gated sum of several. The paper has one
    stream of rows; of several each is normalised with its own statistics, in training and in evaluation (`StreamNorm`).

    Args:
        groups: name -> tasks, each task in one group (default: one group of all). Names of tasks that rest are passed
            over.
        experts: of each block, at least 1.
        meta, hidden: widths of the experts' layers on the two levels, each at least 1.
        rank: of the feature gates, at least 1.
        dropout: behind every layer of an expert, in [0, 1).
    """

    def __init__(
        self,
        fields: int,
        width: int,
        history: bool,
        tasks: Sequence[str],
        streams: Mapping[str, Sequence[str]],
        groups: Mapping[str, Sequence[str]] | None = None,
        experts: int = 2,
        meta: Sequence[int] = (128,),
        hidden: Sequence[int] = (64,),
        rank: int = 8,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if experts < 1 or rank < 1:
            raise ValueError(f"experts and rank should be at least 1. Found {experts} and {rank}.")
        self.tasks, self.streams, of_task = list(tasks), list(streams), _group_of_each(list(tasks), groups)
        in_dim, count = (fields + history) * width, len(tasks)
        self.groups = max(of_task, default=-1) + 1
        self.each, blocks = experts, self.groups + 1
        self.meta_features = FeatureGate(blocks, in_dim, rank)
        self.meta = NormedExperts(len(streams), blocks * experts, in_dim, meta, dropout)
        self.meta_gates = BatchedLinear(blocks, in_dim, blocks * experts)
        self.meta_selves = BatchedLinear(blocks, in_dim, experts)
        sees = torch.eye(blocks, dtype=torch.bool)
        sees[0] = sees[:, 0] = True
        self.register_buffer("hides", ~sees.repeat_interleave(experts, 1)[:, None], persistent=False)
        m = meta[-1]
        self.features = FeatureGate(blocks + count, m, rank)
        self.experts = NormedExperts(len(streams), (blocks + count) * experts, m, hidden, dropout)
        self.gates = BatchedLinear(count, 2 * m, 3 * experts)
        self.selves = BatchedLinear(count, m, experts)
        reads = [*range(blocks), *(1 + group for group in of_task)]
        seen = [[0, 1 + group, blocks + at] for at, group in enumerate(of_task)]
        self.register_buffer("reads", torch.tensor(reads), persistent=False)  # meta block of each block
        self.register_buffer("seen", torch.tensor(seen), persistent=False)  # (T, 3) blocks of each task
        self.out_dim = hidden[-1]

    hides: Tensor
    reads: Tensor
    seen: Tensor

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        stream = place_of(encoded.stream, self.streams)
        x, k = flat(encoded), self.each
        h = self.meta(self.meta_features(x), stream)  # (blocks * experts, B, meta)
        gates = self.meta_gates(x).masked_fill(self.hides, -torch.inf).softmax(-1).to(h.dtype)
        m = torch.einsum("gbe,ebm->gbm", gates, h) + _own(self.meta_selves(x), h.unflatten(0, (-1, k)))
        read = m[self.reads]
        h = self.experts(self.features(read), stream).unflatten(0, (-1, k))
        group = read[self.groups + 1 :]  # (T, B, meta)
        gates = self.gates(torch.cat([group, m[:1].expand_as(group)], -1)).softmax(-1).to(h.dtype)
        z = torch.einsum("tbe,tebh->tbh", gates, h[self.seen].flatten(1, 2))
        z = z + _own(self.selves(group), h[self.groups + 1 :])
        return {task: z[self.tasks.index(task)] for task in tasks}

    def meeting(self) -> nn.Module:
        return self.meta.norms[-1]


class NormedExperts(nn.Module):
    """E networks, batch normalisation, Swish and dropout in every layer.

    Args:
        streams: how many have statistics of their own. count: E. in_dim: of what they read.
        hidden: widths of the layers, at least one, each at least 1. dropout: in [0, 1).
    """

    def __init__(self, streams: int, count: int, in_dim: int, hidden: Sequence[int], dropout: float) -> None:
        super().__init__()
        if not hidden or min(hidden) < 1:
            raise ValueError(f"meta and hidden should be lists of widths of at least 1. Found {list(hidden)}.")
        check_layers(hidden, dropout)
        self.layers = nn.ModuleList(BatchedLinear(count, i, o) for i, o in itertools.pairwise([in_dim, *hidden]))
        self.norms = nn.ModuleList(StreamNorm(streams, count * o) for o in hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, stream: int) -> Tensor:
        """(G, B, in_dim) of a stream, one for each block of E / G -> (E, B, hidden[-1])."""
        for layer, norm in zip(self.layers, self.norms, strict=True):
            h = layer(x).transpose(0, 1)  # (B, E, hidden)
            x = self.dropout(F.silu(norm(h.flatten(1), stream).view_as(h).transpose(0, 1)))
        return x


class FeatureGate(nn.Module):
    """v * 2 sigmoid(v B A) for E blocks: (B, dim), read by all, or (E, B, dim) -> (E, B, dim)."""

    def __init__(self, count: int, dim: int, rank: int) -> None:
        super().__init__()
        self.down, self.up = BatchedLinear(count, dim, rank), BatchedLinear(count, rank, dim)

    def forward(self, v: Tensor) -> Tensor:
        return v * 2 * torch.sigmoid(self.up(self.down(v)))


def _own(scores: Tensor, h: Tensor) -> Tensor:
    """Self gate: scores (G, B, K) of each block's own experts (G, K, B, H) -> (G, B, H)."""
    gates = scores.softmax(-1) if scores.shape[-1] > 1 else scores.sigmoid()
    return torch.einsum("gbk,gkbh->gbh", gates.to(h.dtype), h)


def _group_of_each(tasks: list[str], groups: Mapping[str, Sequence[str]] | None) -> list[int]:
    """Number of the group of each of ``tasks``; ValueError unless each is in one."""
    if groups is None:
        return [0] * len(tasks)
    named = [name for names in groups.values() for name in names]
    wrong = [task for task in tasks if named.count(task) != 1]
    if wrong:
        raise ValueError(f"groups should name each of {tasks} once. Found {wrong} missing or twice in {dict(groups)}.")
    # a phase or the twin builds the trunk with some of the tasks, from the same settings: other groups are not built
    present = [names for names in groups.values() if set(names) & set(tasks)]
    return [next(at for at, names in enumerate(present) if task in names) for task in tasks]
