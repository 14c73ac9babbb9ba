"""One of several classes that have an order."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from graftrec.data.schema import Label
from graftrec.models.heads.base import Head
from graftrec.tasks.base import WHOLE, Reads
from graftrec.tasks.losses.base import Loss
from graftrec.tasks.metrics.pointwise import Value, ordered
from graftrec.tasks.metrics.row_values import ordered_of_rows
from graftrec.tasks.rows import RowTask


class Ordinal(RowTask):
    """Learns a ``category`` with an order, such as stars: P(y > k) = sigmoid(g + b_k), k = 0..C-2, one g for a row.

    W. Cao et al., Rank Consistent Ordinal Regression for Neural Networks with Application to Age Estimation (CORAL),
    2020, https://arxiv.org/abs/1901.07884, section 3.2: the head gives g, the biases are the task's, and a class's
    probability is the difference of its two cumulative ones. The class that is predicted is the median, as there.
    Where we differ: b_k = b_0 - sum of softplus gaps falls by construction, which the paper proves for the optimum
    alone, so that no probability is ever below 0; biases start at the training shares.

    The order is that of the raw values, sorted: numbers by size, texts by alphabet.
    """

    main = "mae"
    kinds = ("category",)
    forms = ("cumulative",)

    def __init__(
        self,
        head: Head,
        loss: Loss,
        stream: str,
        column: str,
        label: Label,
        reads: Reads = "trunk",
        weight: float = 1.0,
        space: str = "",
        row_weight: str = "",
        prior: Tensor | None = None,
    ) -> None:
        super().__init__(head, loss, stream, column, label, reads, weight, space, row_weight, prior=prior)
        if label.classes < 2:
            raise ValueError(f"'{column}' should have at least 2 classes. Found {label.classes}.")
        share = self.prior.expand(label.classes).softmax(-1).double()
        above = (1 - share.cumsum(-1)[:-1]).logit()  # (C - 1,), falling
        gaps = -above.diff()
        self.first = nn.Parameter(above[0].float())
        self.gaps = nn.Parameter(gaps.expm1().log().float())  # softplus gives the gap

    @classmethod
    def outputs(cls, label: Label) -> int:
        """1: the biases make it C - 1."""
        return 1

    @property
    def biases(self) -> Tensor:
        """b (C - 1,)."""
        down = nn.functional.softplus(self.gaps).cumsum(-1)
        return self.first - torch.cat((down.new_zeros(1), down))

    def forward(
        self, z: Tensor, candidate: Tensor | None = None, cross: Tensor | None = None, part: slice = WHOLE
    ) -> Tensor:
        g: Tensor = self.head(z)  # (B,)
        return g[:, None] + self.biases

    def predict(self, logits: Tensor) -> Tensor:
        above = logits.float().sigmoid()  # (B, C - 1)
        edge = torch.ones_like(above[..., :1])
        return -torch.cat((edge, above, edge - 1), -1).diff(dim=-1)

    def metrics(self, seen: Mapping[str, Tensor]) -> dict[str, Value]:
        return ordered(seen["prediction"], seen["label"])

    def per_row(self, seen: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return ordered_of_rows(seen["prediction"], seen["label"])
