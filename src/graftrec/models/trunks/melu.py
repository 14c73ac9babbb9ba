"""A user's own layers, from a few gradient steps on the user's own rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from graftrec.data.batch import Encoded
from graftrec.models.layers.global_mean import Scale
from graftrec.models.layers.mlp import mlp
from graftrec.models.layers.pooling import events_of, must_have_history, places
from graftrec.models.trunks.base import Trunk, place_of

Weights = dict[str, Tensor]


class MeLU(Trunk):
    """z = f(x; theta_u), theta_u = theta - rate * gradient of mean_j (f(x_j; theta) - r_j)^2, ``steps`` times.

    H. Lee et al., MeLU: Meta-Learned User Preference Estimator for Cold-Start Recommendation, KDD 2019,
    https://arxiv.org/abs/1908.00413, equations 1 to 5 and algorithm 1. f are the decision layers with the output, x the
    fields of a row side by side, and x_j the same with the item of an event j of the user's history in the place of the
    row's, whose behaviour is worth r_j. The gradient goes on through the steps (second order) to theta and the encoder:
    theta is learnt to be a good start for users with few rows. All rows of a batch take their steps at once.

    x is (B, F * D), x_j (B, L, F * D), and z (B, 1), the same for all tasks.

    Where we differ: the history before a row is its support set, so that every row of training is a query after a
    support of another size (there: all but ten rows of a user, and the ten); r_j is taken less the mean of ``values``,
    and z is one number with a scale that is learnt, which a linear head brings to the label's unit; no history, no
    step. An event of several behaviours at once is worth what the last of them in their order is.

    Args:
        values: what each behaviour of a history is worth, in the order of the dataset's: as many as it has, at least 2.
        item: the field that events take the place of; every stream has it.
        hidden: widths of the decision layers, at least one, each at least 1.
        rate: of the steps, above 0. steps: at least 1.
    """

    out_dim = 1
    by_name = True
    reads_events = False
    steps_inside = True

    def __init__(
        self,
        fields: int,
        width: int,
        history: bool,
        streams: Mapping[str, Sequence[str]],
        behaviours: Mapping[str, int],
        values: Sequence[float] = (1.0, 2.0, 3.0, 4.0, 5.0),
        item: str = "item",
        hidden: Sequence[int] = (64, 64),
        rate: float = 0.1,
        steps: int = 1,
    ) -> None:
        super().__init__()
        must_have_history("MeLU", history)
        for stream, names in streams.items():
            _check(stream, fields - len(names), behaviours.get(stream, 0), values)
        if rate <= 0 or steps < 1:
            raise ValueError(f"rate should be above 0, and steps at least 1. Found {rate} and {steps}.")
        self.item, self.rate, self.steps = places("item", item, streams), rate, steps
        worth = torch.tensor([float(value) for value in values])
        self.register_buffer("worth", worth - worth.mean(), persistent=False)
        self.worth: Tensor
        self.decide = nn.Sequential(*mlp(fields * width, hidden), nn.Linear(hidden[-1], 1))
        self.last = Scale(1)

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        _, mask = events_of(encoded)
        if encoded.items is None or encoded.kinds is None:
            raise ValueError(f"The MeLU trunk got a batch of stream '{encoded.stream}' without the events' behaviours.")
        place_of(encoded.stream, list(self.item))
        support = self._support(encoded.fields, encoded.items, self.item[encoded.stream])
        own = self._adapted(support, self._worth(encoded.kinds), mask)
        z = vmap(self._decide, randomness="different")(own, encoded.fields.flatten(1))  # (B, 1)
        return dict.fromkeys(tasks, self.last(z))

    def meeting(self) -> nn.Module:
        return self.last

    def _support(self, fields: Tensor, items: Tensor, at: int) -> Tensor:
        """Rows (B, L, F * D) that have each event's item as theirs."""
        each = fields[:, None].expand(-1, items.shape[1], -1, -1)
        return torch.cat([each[:, :, :at], items[:, :, None], each[:, :, at + 1 :]], 2).flatten(2)

    def _worth(self, kinds: Tensor) -> Tensor:
        """What behaviours (B, L) are worth; of several bits the highest."""
        return self.worth[torch.log2(kinds.clamp_min(1).float()).floor().long()]

    def _decide(self, weights: Weights, x: Tensor) -> Tensor:
        """f (..., 1) of x (..., F * D) with ``weights``."""
        found: Tensor = functional_call(self.decide, weights, (x,))
        return found

    def _adapted(self, support: Tensor, answers: Tensor, mask: Tensor) -> Weights:
        """Weights of each row (B, ...) after its steps."""

        def loss(weights: Weights, x: Tensor, r: Tensor, there: Tensor) -> Tensor:
            error = (self._decide(weights, x).squeeze(-1) - r) ** 2
            return (error * there).sum() / there.sum().clamp_min(1)

        there = mask.to(support.dtype)
        weights = {name: part.expand(len(support), *part.shape) for name, part in self.decide.named_parameters()}
        with torch.enable_grad():  # an evaluation takes steps as well
            for _ in range(self.steps):
                slopes = vmap(grad(loss), randomness="different")(weights, support, answers, there)
                weights = {name: part - self.rate * slopes[name] for name, part in weights.items()}
        return weights


def _check(stream: str, more: int, behaviours: int, values: Sequence[float]) -> None:
    """ValueError for a stream whose rows cannot be a support set, or whose behaviours are not those of ``values``.

    Args:
        stream: its name. more: fields that come to the stream's own. behaviours: how many its history tells apart.
    """
    if more:
        raise ValueError(
            "The MeLU trunk puts an event's item in the place of a row's, which an interaction in front would keep: "
            "set interaction=none."
        )
    if behaviours < 2:
        raise ValueError(
            f"The MeLU trunk learns from what each event of a history was, and stream '{stream}' does not say: the "
            "dataset should have several behaviours (dataset.events)."
        )
    if len(values) != behaviours:
        raise ValueError(
            f"values should be one number for each of the {behaviours} behaviours of stream '{stream}'. "
            f"Found {list(values)}."
        )
