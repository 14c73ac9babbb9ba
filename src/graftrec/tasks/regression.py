"""A number for a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from graftrec.data.schema import Label
from graftrec.models.heads.base import Head
from graftrec.tasks.base import Reads
from graftrec.tasks.losses.base import Loss
from graftrec.tasks.metrics.pointwise import Value, numbers
from graftrec.tasks.metrics.row_values import numbers_of_rows
from graftrec.tasks.rows import RowTask

Judge = Literal["rmse", "mae"]


class Regression(RowTask):
    """Learns a ``number``, such as how related two items are: RMSE, MAE, Spearman's rank correlation, R2.

    The head learns a label divided by the ``spread`` that it has in training; predictions and metrics are in its unit,
    and so is a loss in which a unit has a meaning, such as Huber's.

    Args:
        chosen_by: the error that chooses a checkpoint, and the baselines' settings.
    """

    main = "rmse"
    kinds = ("number", "binary")

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
        chosen_by: Judge = "rmse",
        prior: Tensor | None = None,
        spread: Tensor | None = None,
    ) -> None:
        size = torch.ones(()) if spread is None else spread
        prior = None if prior is None else prior / size
        super().__init__(head, loss, stream, column, label, reads, weight, space, row_weight, prior=prior)
        self.register_buffer("spread", size)
        self.spread: Tensor
        if chosen_by not in get_args(Judge):
            raise ValueError(f"chosen_by should be rmse or mae. Found {chosen_by}.")
        self.main = chosen_by

    def predict(self, logits: Tensor) -> Tensor:
        return logits.float() * self.spread

    def scaled(self, values: Tensor) -> Tensor:
        return values if self.criterion.in_unit else values / self.spread

    def metrics(self, seen: Mapping[str, Tensor]) -> dict[str, Value]:
        return numbers(seen["prediction"], seen["label"])

    def per_row(self, seen: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return numbers_of_rows(seen["prediction"], seen["label"])
