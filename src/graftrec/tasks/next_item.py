"""What comes next in a sequence, out of a whole catalogue."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftrec.data.batch import Batch, Read
from graftrec.data.schema import Label
from graftrec.models.heads.base import Head
from graftrec.models.heads.dot import Dot
from graftrec.tasks.base import WHOLE, known
from graftrec.tasks.losses.base import Loss, everywhere
from graftrec.tasks.losses.catalogue import catalogue_softmax, loss_on_lists
from graftrec.tasks.losses.info_nce import InfoNce
from graftrec.tasks.ranking import RankingTask

Drawn = Literal["uniform", "popularity", "batch"]


class NextItem(RankingTask):
    """Learns at every position of a sequence which item of the catalogue follows, by comparing z with item vectors.

    Item vectors are the encoder's own (tied), content and all. With ``negatives=0`` and the loss ``cross_entropy`` it
    is the softmax over all N items, in blocks; else ``negatives`` items are drawn, and a loss on lists learns the one
    that follows against them: ``info_nce`` (the sampled softmax), ``gbce`` or ``bpr``.

    What is drawn with chances q that differ has log q taken off its logit, the target's as well (Y. Bengio, J. Senecal,
    Adaptive Importance Sampling, 2008, https://doi.org/10.1109/TNN.2007.912312; X. Yi et al., Sampling-Bias-Corrected
    Neural Modeling, RecSys 2019, https://doi.org/10.1145/3298689.3346996, equation 5), so that the best logits are
    log p whatever q is. Where we differ: q is the share of an item in a sample of training labels, one of each kind
    added (Yi et al. keep a running estimate); where the item that follows was drawn, it is no negative. The bias starts
    where a loss that feels it wants negatives to be, log q included.

    A column ``next_<behaviour>`` learns what follows only where it was chosen in that way, and is judged by what was.

    Args:
        head: ``dot``. loss: ``cross_entropy``, or one on lists. negatives: items drawn for each step, 0 for all.
        drawn: ``uniform``; ``popularity``, by the share in training labels; ``batch``, from what follows elsewhere in
            the batch, which is popularity as well. own: whether each position has negatives of its own; else all have
            the same.
        item_bias: whether a number of each item is learned that is added to its logit, from 0 (b^O of BERT4Rec's
            equation 7): how often an item follows then need not be told by the length of its vector.
        k: length of the list that counts, at least 1. at: further lengths, with the same metrics over all users.
    """

    kinds = ("category",)
    forms = ("one", "list")
    over_catalogue = True

    def __init__(
        self,
        head: Head,
        loss: Loss,
        stream: str,
        column: str,
        label: Label,
        weight: float = 1.0,
        negatives: int = 0,
        drawn: Drawn = "uniform",
        own: bool = False,
        item_bias: bool = False,
        prior: Tensor | None = None,
        k: int = 10,
        at: Sequence[int] = (),
    ) -> None:
        super().__init__(head, loss, stream, column, label, "positions", weight, prior=prior)
        if not isinstance(head, Dot):
            raise ValueError(f"head should be dot, which compares z with items. Found {type(head).__name__}.")
        if negatives < 0:
            raise ValueError(f"negatives should be at least 0. Found {negatives}.")
        if (loss.form == "list") != (negatives > 0):
            raise ValueError(
                f"loss and negatives should fit: cross_entropy with negatives=0, or a loss on lists with more. Found "
                f"{type(loss).__name__} with negatives={negatives}."
            )
        if drawn not in get_args(Drawn):
            raise ValueError(f"drawn should be one of {', '.join(get_args(Drawn))}. Found {drawn}.")
        if not negatives and (drawn != "uniform" or own):
            raise ValueError(f"drawn and own are of use with negatives. Found drawn={drawn}, own={own} without.")
        if drawn != "uniform" and self.prior.shape != (label.classes,):
            raise ValueError(f"prior should be ({label.classes},), log shares. Found {tuple(self.prior.shape)}.")
        if drawn != "uniform" and isinstance(loss, InfoNce) and loss.temperature != 1:
            raise ValueError(  # it would divide log q as well
                f"temperature should be the head's where log q is taken off. Found loss.temperature={loss.temperature}."
            )
        self.dot, self.negatives, self.drawn, self.own = head, negatives, drawn, own
        self.item_bias = nn.Parameter(torch.zeros(label.classes)) if item_bias else None
        loss.sampled(negatives / max(1, label.classes - 1))
        if not negatives:  # one number for all items, which a softmax over all of them does not feel
            head.bias.requires_grad_(False)
        else:
            start = loss.start(negatives)
            nn.init.constant_(head.bias, start if drawn == "uniform" else less_log_q(start, self.prior))
        self.register_buffer("_below", self.prior.double().exp().flatten().cumsum(0), persistent=False)
        self._below: Tensor
        self.relevant = "relevant" if column == "next" else f"{column}_relevant"
        self.judge_at(k, at)

    def forward(
        self, z: Tensor, candidate: Tensor | None = None, cross: Tensor | None = None, part: slice = WHOLE
    ) -> Tensor:
        """Logits (B, N) of z (B, D) and the catalogue (1, N, D), or of a ``part`` of it."""
        logits: Tensor = self.dot(z, candidate)
        return logits if self.item_bias is None else logits + self.item_bias[part]

    def predict(self, logits: Tensor) -> Tensor:
        return logits.float().softmax(-1)

    def learn(self, read: Read, batch: Batch) -> Tensor:
        if read.candidate is None:
            raise ValueError(f"'{self.column}' should come with a catalogue. Found none in stream '{self.stream}'.")
        label = self.labels(batch)
        kept = known(label)
        queries, target, items = self.dot.query(read.z[kept]), label[kept], self.dot.items(read.candidate[0])
        if self.item_bias is not None:  # <[q, 1], [e, b]> = <q, e> + b
            queries, items = F.pad(queries, (0, 1), value=1.0), torch.cat([items, self.item_bias[:, None]], 1)
        weight = self.row_weights(label, batch)[kept]
        if not self.negatives:
            return catalogue_softmax(queries, items, target, weight * everywhere(kept.sum()))
        log_q = None if self.drawn == "uniform" else self.prior
        chosen, bias = self.draw(target), self.dot.bias
        total, count = loss_on_lists(self.criterion, queries, items, target, chosen, weight, log_q, bias)
        return total * everywhere(count)

    def draw(self, target: Tensor) -> Tensor:
        """Places of negatives for targets (P,) in the catalogue: (K,), or (P, K) where each has its own."""
        shape = (len(target), self.negatives) if self.own else (self.negatives,)
        if self.drawn == "batch" and len(target):
            return target[torch.randint(len(target), shape, device=target.device)]
        if self.drawn == "popularity":
            at = torch.rand(shape, device=target.device, dtype=torch.float64) * self._below[-1]
            return torch.searchsorted(self._below, at).clamp_max(len(self._below) - 1)
        return torch.randint(self.label.classes, shape, device=target.device)

    def update(self, logits: Tensor, batch: Batch, given: Tensor | None = None) -> None:
        super().update(logits, batch | {"relevant": batch[self.relevant]}, given)


def less_log_q(start: float, log_q: Tensor) -> float:
    """The bias b for which logits b - log q of items (N,), drawn with chances q, are on average as likely as ``start``.

    That is sum_n q_n sigmoid(b - log q_n) = sigmoid(start), which rises with b: halved until it is met.
    """
    log_q = log_q.double().flatten()
    q, wanted = log_q.exp(), 1 / (1 + math.exp(-start))
    low, high = start + float(log_q.min()), start + float(log_q.max())  # at these all are below, and above
    for _ in range(60):
        middle = (low + high) / 2
        if float(q @ (middle - log_q).sigmoid()) < wanted:
            low = middle
        else:
            high = middle
    return middle
