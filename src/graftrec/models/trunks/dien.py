"""Deep interest evolution network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftrec.data.batch import Aside, Encoded
from graftrec.models.layers.mlp import last_linear, mlp
from graftrec.models.layers.pooling import asked, from_start, items_from_start, must_have_history, places, softmax
from graftrec.models.trunks.base import Trunk


class DIEN(Trunk):
    """z = f([fields; last of AUGRU(h, a)]), h = GRU(e), a_t = softmax_t(h_t W e_a): how the interest in a evolved.

    Its own loss: alpha mean_t [-log sigmoid(h_t . i_{t+1}) - log(1 - sigmoid(h_t . i'))]: h_t tells the item i of
    the event that follows from a drawn one i', both without the event's age, its behaviour and dropout.

    G. Zhou et al., Deep Interest Evolution Network for Click-Through Rate Prediction, AAAI 2019,
    https://arxiv.org/abs/1809.03672, equations 2 to 7 and 12 to 15. Of fields (B, F, D) and events e (B, L, D) z is
    (B, hidden[-1]), the same for all tasks.

    Where we differ: i' is that of another event of the batch, any but the one that follows, so what is popular is drawn
    often (the paper: an item that was not clicked); the mean is over all events that have one behind them (equation 6
    sums those of one history); the paper's e, which h_t is compared with, is item and category, ours the item with all
    that is known of it. Recurrent layers have the two biases of `nn.GRU`. The AUGRU is a loop over the longest history
    of a batch.

    Args:
        item: the field that interests are compared with; every stream has it.
        auxiliary: alpha, at least 0; 0 leaves its own loss out.
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
        auxiliary: float = 1.0,
        hidden: Sequence[int] = (128, 64),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        must_have_history("DIEN", history)
        if auxiliary < 0:
            raise ValueError(f"auxiliary should be at least 0. Found {auxiliary}.")
        self.item, self.auxiliary = places("item", item, streams), auxiliary
        self.extractor = nn.GRU(width, width, batch_first=True)
        self.attention = nn.Linear(width, width, bias=False)
        self.evolution = AUGRU(width)
        self.fuse = mlp((fields + 1) * width, hidden, dropout)
        self.out_dim = hidden[-1]

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        events, there = from_start(encoded)
        interests, _ = self.extractor(events)
        if encoded.aside is not None and self.auxiliary:
            encoded.aside.append(self._follows(interests, items_from_start(encoded), there))
        query = self.attention(asked(encoded, self.item))
        scores = torch.bmm(interests, query[:, :, None]).squeeze(2)
        evolved = self.evolution(interests, softmax(scores, there))
        z = self.fuse(torch.cat([encoded.fields.flatten(1), evolved], 1))
        return dict.fromkeys(tasks, z)

    def _follows(self, interests: Tensor, items: Tensor, there: Tensor) -> Aside:
        """The loss of states (B, M, D), by which each tells the next of the items (B, M, D) from a drawn one."""
        behind = there[:, 1:]
        states, others = interests[:, :-1][behind], items[there]
        own = (there.flatten().cumsum(0).view(there.shape) - 1)[:, 1:][behind]  # where the next one is among others
        further = torch.randint(1, max(2, len(others)), own.shape, device=own.device)
        drawn = others[(own + further) % max(1, len(others))]
        right, wrong = (states * others[own]).sum(1), (states * drawn).sum(1)
        loss = F.softplus(-right) + F.softplus(wrong)
        return Aside(self.auxiliary * loss.sum(), behind.sum())

    def meeting(self) -> nn.Module:
        return last_linear(self.fuse)


class AUGRU(nn.Module):
    """h_t = (1 - a_t u_t) * h_{t-1} + a_t u_t * n_t, with u_t, n_t a GRU's update gate and new state.

    The paper's "GRU with attentional update gate", see `DIEN`. A step with a_t = 0 leaves the state as it is: padding,
    which has no attention, is not read.

    Args:
        width: D, of what comes in and of the state.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inputs, self.states = nn.Linear(width, 3 * width), nn.Linear(width, 3 * width)

    def forward(self, x: Tensor, attention: Tensor) -> Tensor:
        """(B, M, D) and (B, M) -> the last state (B, D)."""
        h = torch.zeros_like(x[:, 0])
        for given, a in zip(self.inputs(x).unbind(1), attention[:, :, None].unbind(1), strict=True):
            gates, new = given.tensor_split([2 * h.shape[1]], 1)
            state, old = self.states(h).tensor_split([2 * h.shape[1]], 1)
            reset, update = torch.sigmoid(gates + state).chunk(2, 1)
            h = torch.lerp(h, F.tanh(new + reset * old).to(h.dtype), (a * update).to(h.dtype))
        return h
