"""A number for a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from torch import Tensor

from graftrec.heads.base import Head
from graftrec.losses.base import Loss
from graftrec.metrics.of_rows import numbers_of_rows
from graftrec.metrics.pointwise import Value, numbers
from graftrec.schema import Label
from graftrec.tasks.base import Reads
from graftrec.tasks.rows import RowTask

Judge = Literal["rmse", "mae"]


class Regression(RowTask):
    """Learns a ``number``, such as how related two items are: RMSE, MAE, Spearman's rank correlation, R2.

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
    ) -> None:
        super().__init__(head, loss, stream, column, label, reads, weight, space, row_weight, prior=prior)
        if chosen_by not in get_args(Judge):
            raise ValueError(f"chosen_by should be rmse or mae. Found {chosen_by}.")
        self.main = chosen_by

    def predict(self, logits: Tensor) -> Tensor:
        return logits.float()

    def metrics(self, seen: Mapping[str, Tensor]) -> dict[str, Value]:
        return numbers(seen["prediction"], seen["label"])

    def per_row(self, seen: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return numbers_of_rows(seen["prediction"], seen["label"])
