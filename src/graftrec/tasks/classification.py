"""One of several classes."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from graftrec.data.schema import Label
from graftrec.models.heads.base import Head
from graftrec.tasks.base import Reads
from graftrec.tasks.losses.base import Loss
from graftrec.tasks.metrics.pointwise import Value, classes
from graftrec.tasks.metrics.row_values import classes_of_rows
from graftrec.tasks.rows import RowTask


class Classification(RowTask):
    """Learns a ``category`` label: logits (B, C), probabilities by softmax; accuracy, macro recall and F1, recall@5."""

    main = "accuracy"
    kinds = ("category",)

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
        if label.kind in self.kinds and label.classes < 2:
            raise ValueError(f"'{column}' should have at least 2 classes in training. Found {label.classes}.")
        super().__init__(head, loss, stream, column, label, reads, weight, space, row_weight, prior=prior)

    def predict(self, logits: Tensor) -> Tensor:
        return logits.float().softmax(-1)

    def metrics(self, seen: Mapping[str, Tensor]) -> dict[str, Value]:
        return classes(seen["prediction"], seen["label"])

    def per_row(self, seen: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return classes_of_rows(seen["prediction"], seen["label"])
