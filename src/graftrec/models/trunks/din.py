"""Deep interest network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from graftrec.data.batch import Encoded
from graftrec.models.layers.mlp import last_linear, mlp
from graftrec.models.layers.pooling import Activation, asked, from_start, must_have_history, places, weighted
from graftrec.models.trunks.base import Trunk


class DIN(Trunk):
    """z = f([fields; sum_j w_j e_j]), w_j = MLP([e_j; e_a; e_j - e_a; e_j * e_a]): what counts is up to the item a.

    G. Zhou et al., Deep Interest Network for Click-Through Rate Prediction, KDD 2018, https://arxiv.org/abs/1706.06978,
    equation 3. Weights are not normalised, so that their sum says how strong the interest is. Of fields (B, F, D) and
    events e (B, L, D) z is (B, hidden[-1]), the same for all tasks.

    Where we differ: ReLU in place of PReLU or Dice; between event and item stand their difference and their product
    element by element (the paper: an outer product); no regularisation by the batch, which is the optimizer's. Events
    have a learned map of their age, which comes from the encoder.

    Args:
        item: the field that events are compared with; every stream has it.
        attention: widths of the MLP of w before its last layer, at least one, each at least 1.
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
        must_have_history("DIN", history)
        self.item = places("item", item, streams)
        self.activation = Activation(width, attention)
        self.fuse = mlp((fields + 1) * width, hidden, dropout)
        self.out_dim = hidden[-1]

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        events, there = from_start(encoded)
        weights = self.activation(events, asked(encoded, self.item)) * there
        z = self.fuse(torch.cat([encoded.fields.flatten(1), weighted(weights, events)], 1))
        return dict.fromkeys(tasks, z)

    def meeting(self) -> nn.Module:
        return last_linear(self.fuse)
