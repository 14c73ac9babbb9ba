"""A time of at least 0 for a row."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from graftrec.data.schema import Label
from graftrec.models.heads.base import Head
from graftrec.tasks.base import Reads
from graftrec.tasks.losses.base import Loss
from graftrec.tasks.metrics.pointwise import Value, numbers, xauc
from graftrec.tasks.metrics.row_values import numbers_of_rows, xauc_of_rows
from graftrec.tasks.rows import RowTask

LONGEST = 30.0  # e^30 s are 300,000 years; above it a metric would become infinite


class WatchTime(RowTask):
    """Learns a ``number`` of at least 0, such as the time that was watched: exp(logit) is what is predicted.

    With the loss weighted_logistic, exp(logit) are the odds that it learns (P. Covington et al., RecSys 2016,
    https://doi.org/10.1145/2959100.2959190, section 4.2); with any other loss on numbers the head learns the logarithm.
    RMSE and MAE in the label's unit, Spearman's rank correlation, and XAUC, the share of pairs that are in order.
    """

    main = "rmse"
    kinds = ("number",)
    forms = ("one", "odds")

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
        if prior is not None:
            if float(prior) < 0:
                raise ValueError(f"'{column}' should be at least 0. Found a mean of {float(prior):g}.")
            prior = prior.clamp_min(1e-3).log()  # the mean of the label, as a logit
        super().__init__(head, loss, stream, column, label, reads, weight, space, row_weight, prior=prior)

    def predict(self, logits: Tensor) -> Tensor:
        return logits.float().clamp_max(LONGEST).exp()

    def metrics(self, seen: Mapping[str, Tensor]) -> dict[str, Value]:
        prediction, label = seen["prediction"], seen["label"]
        return numbers(prediction, label) | {"xauc": xauc(prediction, label)}

    def per_row(self, seen: Mapping[str, Tensor]) -> dict[str, Tensor]:
        prediction, label = seen["prediction"], seen["label"]
        return numbers_of_rows(prediction, label) | {"xauc": xauc_of_rows(prediction, label)}
