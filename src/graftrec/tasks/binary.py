"""Yes or no for a row."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from graftrec.data.batch import Batch
from graftrec.data.schema import Label
from graftrec.models.heads.base import Head
from graftrec.tasks.base import Reads, known
from graftrec.tasks.losses.base import Loss
from graftrec.tasks.metrics.pointwise import Value, binary, grouped_auc
from graftrec.tasks.metrics.row_values import binary_of_rows, grouped_auc_of_rows
from graftrec.tasks.rows import RowTask


class Binary(RowTask):
    """Learns a ``binary`` label of a row: a logit (B,), a probability by the sigmoid; see `binary` for its metrics.

    With ``calibration`` c the loss is loss + c mean max(p - p_given, 0), the mean over the rows whose label is known: a
    step that follows another one (a purchase a click) is not likelier than it. D. Xi et al., Modeling the Sequential
    Dependence among Audience Multi-step Conversions with Multi-task Learning in Targeted Display Advertising (AITM),
    KDD 2021, https://arxiv.org/abs/2105.08489, equations 11 and 12. Both probabilities are pulled.

    Args:
        given: the task of the step before, which ``calibration`` needs. calibration: c, at least 0.
    """

    main = "auc"
    kinds = ("binary",)

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
        given: str = "",
        calibration: float = 0.0,
        prior: Tensor | None = None,
    ) -> None:
        super().__init__(head, loss, stream, column, label, reads, weight, space, row_weight, given, prior)
        if calibration < 0:
            raise ValueError(f"calibration should be at least 0. Found {calibration}.")
        if calibration and not given:
            raise ValueError("given should name the task of the step before, which calibration compares with.")
        self.calibration = calibration

    def predict(self, logits: Tensor) -> Tensor:
        return logits.float().sigmoid()

    def loss(self, logits: Tensor, batch: Batch, given: Tensor | None = None) -> Tensor:
        loss = super().loss(logits, batch, given)
        if not self.calibration:
            return loss
        above = (self.predict(logits) - self.predict(self.must(given))).clamp_min(0)
        return loss + self.calibration * self.mean(above, known(self.labels(batch)), batch)

    def metrics(self, seen: Mapping[str, Tensor]) -> dict[str, Value]:
        found = binary(seen["prediction"], seen["label"])
        return found | grouped_auc(seen["prediction"], seen["label"], seen["user"]) if "user" in seen else found

    def per_row(self, seen: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = binary_of_rows(seen["prediction"], seen["label"])
        return found | grouped_auc_of_rows(seen["prediction"], seen["label"], seen["user"]) if "user" in seen else found
