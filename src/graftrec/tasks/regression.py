"""A number for a row."""

from __future__ import annotations

from torch import Tensor

from graftrec.metrics.pointwise import Value, numbers
from graftrec.tasks.rows import RowTask


class Regression(RowTask):
    """Learns a ``number``, such as how related two items are: RMSE, MAE, Spearman's rank correlation."""

    main = "rmse"
    kinds = ("number", "binary")

    def predict(self, logits: Tensor) -> Tensor:
        return logits.float()

    def metrics(self, prediction: Tensor, label: Tensor) -> dict[str, Value]:
        return numbers(prediction, label)
