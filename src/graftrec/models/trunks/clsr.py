"""Contrastive learning of long and short-term interests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftrec.data.batch import Aside, Encoded
from graftrec.models.layers.mlp import last_linear, mlp
from graftrec.models.layers.pooling import (
    Attention,
    asked,
    from_start,
    items_from_start,
    last,
    must_have_history,
    places,
)
from graftrec.models.trunks.base import Trunk, masked_mean


class CLSR(Trunk):
    """z = f([fields; alpha l + (1 - alpha) s]), alpha = sigmoid(MLP([g; e_a; l; s])), each interest with its own query.

    long:   l = attention over e with the query q_l, the user's own, which does not change with time
    short:  s = attention over GRU(e) with the query q_s, the last state of another GRU(e) that starts at the user's own
    fusion: g the last state of a third GRU(e), e_a the item asked about
    attention(x, q) = sum_j softmax_j(MLP([k_j; q; k_j - q; k_j * q])) x_j, k_j = W x_j

    Its own losses, with p_l the mean of the history's items and p_s that of its newest, which stand for the interests
    (both without the events' age, behaviour and dropout):
    contrast:     b(l, p_l, p_s) + b(p_l, l, s) + b(s, p_s, p_l) + b(p_s, s, l), b(a, p, q) = softplus(a . q - a . p)
    discrepancy:  cos(q_l, the start of q_s)

    Y. Zheng et al., Disentangling Long and Short-Term Interests for Recommendation, WWW 2022,
    https://arxiv.org/abs/2202.13090. Of fields (B, F, D) and events e (B, L, D) z is
    (B, hidden[-1]), the same for all tasks.

    Where we differ: of the paper's two forms of b only BPR is here, as its logarithm, with which the authors' code
    trains. Histories without more events than p_s is the mean of have one proxy and stay out (there: a threshold of its
    own). The discrepancy is that code's -|q_l - q_s|^2, but on unit vectors: the square has no lower bound. Both
    queries are linear maps of the user's one vector, with a bias (there: two tables): at the start those of two users
    are much alike, and the biases alone, the same for all users, can lower the discrepancy. That code gives the short
    attention [q_s; e_a] as its query and alpha the time from the newest event to now; here s does not know the item,
    as in the paper, and time enters by the event vectors, to which the encoder adds a learned map of the age.

    Args:
        item: the field e_a, which alpha reads. user: the field of the queries. Every stream has both.
        attention: widths of the MLPs of l, s and alpha before their last layer, at least one, each at least 1.
        contrast, discrepancy: weights of its own losses, at least 0; 0 leaves one out.
        newest: events that p_s is the mean of, at least 1.
        hidden: widths of f, at least one, each at least 1. dropout: behind each of them, in [0, 1).

    Raises:
        ValueError: streams without a history, a stream without the item or the user, or numbers outside these ranges.
    """

    by_name = True

    def __init__(
        self,
        fields: int,
        width: int,
        history: bool,
        streams: Mapping[str, Sequence[str]],
        item: str = "item",
        user: str = "user",
        attention: Sequence[int] = (36,),
        contrast: float = 0.1,
        discrepancy: float = 0.01,
        newest: int = 3,
        hidden: Sequence[int] = (128, 64),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        must_have_history("CLSR", history)
        if min(contrast, discrepancy) < 0 or newest < 1:
            raise ValueError(
                "contrast and discrepancy should be at least 0, and newest at least 1. "
                f"Found {contrast}, {discrepancy} and {newest}."
            )
        self.contrast, self.discrepancy, self.newest = contrast, discrepancy, newest
        self.item, self.user = places("item", item, streams), places("user", user, streams)
        self.queries = nn.Linear(width, 2 * width)
        self.long, self.short = Attention(width, attention), Attention(width, attention)
        self.intention = nn.GRU(width, width, batch_first=True)
        self.evolution = nn.GRU(width, width, batch_first=True)
        self.context = nn.GRU(width, width, batch_first=True)
        self.alpha = nn.Sequential(*mlp(4 * width, attention), nn.Linear(attention[-1], 1))
        self.fuse = mlp((fields + 1) * width, hidden, dropout)
        self.out_dim = hidden[-1]

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        events, there = from_start(encoded)
        lasting, first = self.queries(asked(encoded, self.user)).chunk(2, 1)
        long = self.long(events, lasting, there)
        intention = last(self.intention(events, first[None].contiguous())[0], there)
        short = self.short(self.evolution(events)[0], intention, there)
        context = last(self.context(events)[0], there)
        alpha = torch.sigmoid(self.alpha(torch.cat([context, asked(encoded, self.item), long, short], 1)))
        if encoded.aside is not None and self.contrast:
            encoded.aside.append(self._contrast(long, short, items_from_start(encoded), there))
        if encoded.aside is not None and self.discrepancy:
            alike = F.cosine_similarity(lasting, first)
            encoded.aside.append(Aside(self.discrepancy * alike.sum(), there.new_tensor(len(alike), dtype=torch.int64)))
        z = self.fuse(torch.cat([encoded.fields.flatten(1), alpha * long + (1 - alpha) * short], 1))
        return dict.fromkeys(tasks, z)

    def _contrast(self, long: Tensor, short: Tensor, items: Tensor, there: Tensor) -> Aside:
        """Each interest (B, D) is nearer to its proxy than to the other's, and each proxy to its own interest."""
        count = there.sum(1)
        newest = there & (torch.arange(there.shape[1], device=there.device) >= (count - self.newest)[:, None])
        lasting, recent = masked_mean(items, there), masked_mean(items, newest)
        apart, between = lasting - recent, long - short
        pairs = torch.stack([-long * apart, short * apart, -lasting * between, recent * between])
        loss = F.softplus(pairs.sum(2)).sum(0)
        several = count > self.newest
        return Aside(self.contrast * torch.where(several, loss, 0.0).sum(), several.sum())

    def meeting(self) -> nn.Module:
        return last_linear(self.fuse)
