"""One of several classes."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from graftrec.metrics.of_rows import classes_of_rows
from graftrec.metrics.pointwise import Value, classes
from graftrec.tasks.rows import RowTask


class Classification(RowTask):
    """Learns a ``category`` label: logits (B, C), probabilities by softmax; accuracy, macro recall and F1, recall@5."""

    main = "accuracy"
    kinds = ("category",)

    def predict(self, logits: Tensor) -> Tensor:
        return logits.float().softmax(-1)

    def metrics(self, seen: Mapping[str, Tensor]) -> dict[str, Value]:
        return classes(seen["prediction"], seen["label"])

    def per_row(self, seen: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return classes_of_rows(seen["prediction"], seen["label"])
