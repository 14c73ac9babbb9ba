"""Short-term and long-term integrated recommender."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from graftrec.data.batch import Encoded
from graftrec.models.layers.mlp import last_linear, mlp
from graftrec.models.layers.pooling import Attention, asked, from_start, must_have_history, places, softmax, weighted
from graftrec.models.trunks.base import Trunk


class SLiRec(Trunk):
    """z = f([fields; alpha l + (1 - alpha) s]), alpha = sigmoid(MLP([fields; l; s])): long and short interest fused.

    long:   l = sum_j softmax_j(w W e_j) e_j, the same for every item asked about (attentive asymmetric SVD)
    short:  s = sum_j softmax_j(MLP([k_j; e_a; k_j - e_a; k_j * e_a])) h_j, k_j = W' h_j, h = LSTM(e)

    Z. Yu et al., Adaptive User Modeling with Long and Short-Term Preferences for Personalized Recommendation,
    IJCAI 2019, https://doi.org/10.24963/ijcai.2019/585. As in the paper it learns from what is asked alone: it has no
    loss of its own. Of fields (B, F, D) and events e (B, L, D) z is (B, hidden[-1]), the same for all tasks.

    Where we differ: the LSTM has no gates of its own for the time since the event before and until now, as a trunk does
    not see ages; time enters by the event vectors, to which the encoder adds a learned map of the age, and so reaches
    the ordinary gates. The context of alpha is all fields, the item among them.

    Args:
        item: the field that states are compared with; every stream has it.
        attention: widths of the MLPs of s and alpha before their last layer, at least one, each at least 1.
        hidden: widths of f, at least one, each at least 1. dropout: behind each of them, in [0, 1).

    Raises:
        ValueError: streams without a history, a stream without the item, or numbers outside these ranges.
    """

    by_name = True

    def __init__(
        self,
        fields: int,
        width: int,
        history: bool,
        streams: Mapping[str, Sequence[str]],
        item: str = "item",
        attention: Sequence[int] = (36,),
        hidden: Sequence[int] = (128, 64),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        must_have_history("SLi-Rec", history)
        self.item = places("item", item, streams)
        self.key, self.query = nn.Linear(width, width, bias=False), nn.Linear(width, 1, bias=False)
        self.rnn = nn.LSTM(width, width, batch_first=True)
        self.short = Attention(width, attention)
        self.alpha = nn.Sequential(*mlp((fields + 2) * width, attention), nn.Linear(attention[-1], 1))
        self.fuse = mlp((fields + 1) * width, hidden, dropout)
        self.out_dim = hidden[-1]

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        events, there = from_start(encoded)
        x = encoded.fields.flatten(1)
        long = weighted(softmax(self.query(self.key(events)).squeeze(2), there), events)
        # oneDNN has no LSTM of no row in half precision
        states = self.rnn(events if len(events) else events.new_zeros(1, *events.shape[1:]))[0][: len(events)]
        short = self.short(states, asked(encoded, self.item), there)
        alpha = torch.sigmoid(self.alpha(torch.cat([x, long, short], 1)))
        z = self.fuse(torch.cat([x, alpha * long + (1 - alpha) * short], 1))
        return dict.fromkeys(tasks, z)

    def meeting(self) -> nn.Module:
        return last_linear(self.fuse)
