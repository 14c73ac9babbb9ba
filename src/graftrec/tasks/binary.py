"""Yes or no for a row."""

from __future__ import annotations

from torch import Tensor

from graftrec.metrics.pointwise import Value, binary
from graftrec.tasks.rows import RowTask


class Binary(RowTask):
    """Learns a ``binary`` label of a row: a logit (B,), a probability by the sigmoid; AUC, log loss, accuracy, ECE."""

    main = "auc"
    kinds = ("binary",)

    def predict(self, logits: Tensor) -> Tensor:
        return logits.float().sigmoid()

    def metrics(self, prediction: Tensor, label: Tensor) -> dict[str, Value]:
        return binary(prediction, label)
