"""The distribution of a number for a row, by its quantiles."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from graftrec.data.schema import Label
from graftrec.models.heads.base import Head
from graftrec.tasks.base import Reads
from graftrec.tasks.losses.base import Loss
from graftrec.tasks.losses.quantile import Quantile
from graftrec.tasks.metrics.pointwise import Value, numbers, xauc
from graftrec.tasks.metrics.row_values import numbers_of_rows, xauc_of_rows
from graftrec.tasks.rows import RowTask

COUNT = 20


class Quantiles(RowTask):
    """Learns Q quantiles (B, Q) of a ``number``, and predicts their mean, which is the conditional expectation.

    Lin et al., Conditional Quantile Estimation for Uncertain Watch Time in Short-Video Recommendation, 2024,
    https://arxiv.org/abs/2407.12223, its strategy "conditional expectation". Each quantile stands for the part of
    (0, 1) that is nearest to its level. Where we differ: nothing keeps quantiles from crossing, which no expectation
    notices, and the head starts at the mean of the label. It learns a label divided by the ``spread`` that it has in
    training; predictions and metrics are in its unit.

    Q is 20; ``head.classes`` sets another number.
    """

    main = "mae"
    kinds = ("number",)
    forms = ("quantiles",)

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
        spread: Tensor | None = None,
    ) -> None:
        size = torch.ones(()) if spread is None else spread
        prior = None if prior is None else prior / size
        super().__init__(head, loss, stream, column, label, reads, weight, space, row_weight, prior=prior)
        self.register_buffer("spread", size)
        self.spread: Tensor
        if not isinstance(loss, Quantile):
            raise ValueError(f"loss should be losses.quantile.Quantile. Found {type(loss).__name__}.")
        self.levels = loss

    @classmethod
    def outputs(cls, label: Label) -> int:
        """Q."""
        return COUNT

    def predict(self, logits: Tensor) -> Tensor:
        return (logits.float() * self.levels.shares(logits)).sum(-1) * self.spread

    def scaled(self, values: Tensor) -> Tensor:
        return values / self.spread

    def metrics(self, seen: Mapping[str, Tensor]) -> dict[str, Value]:
        prediction, label = seen["prediction"], seen["label"]
        return numbers(prediction, label) | {"xauc": xauc(prediction, label)}

    def per_row(self, seen: Mapping[str, Tensor]) -> dict[str, Tensor]:
        prediction, label = seen["prediction"], seen["label"]
        return numbers_of_rows(prediction, label) | {"xauc": xauc_of_rows(prediction, label)}
