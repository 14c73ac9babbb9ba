"""Bi-directional transfer graph collaborative filtering."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftrec.data.batch import Encoded
from graftrec.data.schema import Edges
from graftrec.models.layers.dropout import Dropout
from graftrec.models.layers.global_mean import Common
from graftrec.models.layers.graph import Bipartite
from graftrec.models.layers.pooling import places
from graftrec.models.trunks.base import Trunk


class BiTGCF(Trunk):
    """Vectors are spread over each domain's graph of who chose what, and after each layer users of both are mixed.

    M. Liu, J. Li, G. Li, P. Pan, Cross Domain Recommendation via Bi-directional Transfer Graph Collaborative Filtering
    Networks, CIKM 2020, https://doi.org/10.1145/3340531.3412012. Layer k of domain a, for users u and items i alike:

      u' = u + s + u * s,   s = sum_{i in N_u} i / sqrt(|N_u| |N_i|)                       (feature propagation)
      u_a = (c + r_a) / 2,  c = (n_a u'_a + n_b u'_b) / (n_a + n_b)                         (common features)
                            r_a = lambda u'_a + (1 - lambda) u'_b                           (domain-specific ones)

    for users of both domains, n being how many items they chose there; those of one keep u'. A user and an item are
    the mean of their vectors before the first layer and of those after each, which are scaled to length 1; the head
    ``dot`` compares them. Edges are the training rows' alone, also where later rows are asked about.

    Of fields (B, F, D), of which the user's is what the graph made of it, z is (B, D).

    Where we differ: both domains start from one vector of a user (two that agree at first would have to be kept apart);
    the mean of the layers stands for their concatenation, so that z is as wide as an item; z = u + m, with m (D,) what
    all users have in common, as in `CMF`; of more than two domains u'_b in r_a is the mean of the others'. Dropout is
    this trunk's own: the encoder's does not reach what is spread.

    Args:
        layers: of propagation, at least 1. retain: lambda in [0, 1], how much of its own a domain keeps.
        dropout: of what a layer of propagation gives, in [0, 1).
        edges: stream -> who chose what in training (completed by the program).

    Raises:
        ValueError: a stream without a user, or numbers outside these ranges.
    """

    by_name = True
    reads_events = False
    reads_fields = False

    def __init__(
        self,
        width: int,
        streams: Mapping[str, Sequence[str]],
        edges: Mapping[str, Edges],
        layers: int = 2,
        retain: float = 0.8,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"layers should be at least 1. Found {layers}.")
        if not 0 <= retain <= 1:
            raise ValueError(f"retain should be in [0, 1]. Found {retain}.")
        self.user, self.layers, self.retain = places("user", "user", streams), layers, retain
        self.graphs = nn.ModuleList(Bipartite(edges[name]) for name in streams)
        self.spreads, self.people = tuple(streams), [edges[name].people for name in streams]
        self.dropout, self.common = Dropout(dropout), Common(width)
        self.out_dim = width

    def spread(self, known: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, tuple[Tensor, Tensor]]:
        users = [known[name][0] for name in self.spreads]
        items = [known[name][1][graph.chosen] for name, graph in zip(self.spreads, self._all, strict=True)]
        rest = [known[name][1][graph.other] for name, graph in zip(self.spreads, self._all, strict=True)]
        all_users, all_items = list(users), list(items)  # sums over the layers
        for _ in range(self.layers):
            told = [self._layer(graph, *pair) for graph, *pair in zip(self._all, users, items, strict=True)]
            users, items = self._transferred([u for u, _ in told]), [i for _, i in told]
            all_users = [total + F.normalize(each, dim=1) for total, each in zip(all_users, users, strict=True)]
            all_items = [total + F.normalize(each, dim=1) for total, each in zip(all_items, items, strict=True)]
        share = 1 / (self.layers + 1)
        whole = [
            graph.whole(chosen, other + self.layers * F.normalize(other, dim=1))  # nothing is told to these
            for graph, chosen, other in zip(self._all, all_items, rest, strict=True)
        ]
        pairs = [(u * share, i * share) for u, i in zip(all_users, whole, strict=True)]
        return dict(zip(self.spreads, pairs, strict=True))

    @property
    def _all(self) -> list[Bipartite]:
        return [graph for graph in self.graphs if isinstance(graph, Bipartite)]

    def _layer(self, graph: Bipartite, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """u' and i' of one domain."""
        of_users, of_items = graph.to_users(items), graph.to_items(users)
        return self.dropout(users + of_users + users * of_users), self.dropout(items + of_items + items * of_items)

    def _transferred(self, users: list[Tensor]) -> list[Tensor]:
        """Users of each domain with what others with the same people told; those of one domain as they were."""
        degrees = [graph.degree for graph in self._all]
        found = []
        for at, own in enumerate(users):
            others = [b for b, people in enumerate(self.people) if b != at and people == self.people[at]]
            if not others:
                found.append(own)
                continue
            count = torch.stack([degrees[b] for b in others])  # (domains, U)
            there = (count > 0).to(own.dtype)[..., None]
            theirs = torch.stack([users[b] for b in others])
            mean = (theirs * there).sum(0) / there.sum(0).clamp_min(1)
            weight = (count.sum(0) + degrees[at]).clamp_min(1)[:, None]
            common = ((theirs * count[..., None]).sum(0) + own * degrees[at][:, None]) / weight
            mixed = (common + self.retain * own + (1 - self.retain) * mean) / 2
            both = (degrees[at] > 0) & (count.sum(0) > 0)
            found.append(torch.where(both[:, None], mixed, own))
        return found

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        z = self.common(encoded.fields[:, self.user[encoded.stream]])
        return dict.fromkeys(tasks, z)

    def meeting(self) -> nn.Module:
        return self.common
