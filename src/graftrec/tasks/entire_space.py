"""What follows a click, learnt over all rows that were shown."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from graftrec.data.batch import Batch
from graftrec.data.schema import Label
from graftrec.models.heads.base import Head
from graftrec.tasks.base import Reads, known
from graftrec.tasks.losses.base import Loss
from graftrec.tasks.metrics.pointwise import Value, binary, grouped_auc
from graftrec.tasks.metrics.row_values import auc_of_rows, binary_of_rows, grouped_auc_of_rows
from graftrec.tasks.rows import RowTask


class EntireSpace(RowTask):
    """A conversion (CVR) that only a click can bring; the click is another task's, which it is ``given``.

    What is predicted is P(conversion | click), judged on clicked rows; ``ctcvr_auc`` judges P(click) P(conversion |
    click) against "clicked and converted" on all rows.

    Args:
        column: the conversion. space: the label of the click. given: the task that learns the click.
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
        space: str,
        given: str,
        reads: Reads = "trunk",
        weight: float = 1.0,
        row_weight: str = "",
        prior: Tensor | None = None,
    ) -> None:
        super().__init__(head, loss, stream, column, label, reads, weight, space, row_weight, given, prior)
        for name, value in (("space", space), ("given", given)):
            if not value:
                raise ValueError(f"{name} should name the {'label' if name == 'space' else 'task'} of the click.")

    @abstractmethod
    def loss(self, logits: Tensor, batch: Batch, given: Tensor | None = None) -> Tensor:
        """The risk over all rows; ``given`` are the click's logits (B,)."""

    def predict(self, logits: Tensor) -> Tensor:
        return logits.float().sigmoid()

    def risk(self, logits: Tensor, label: Tensor, batch: Batch) -> Tensor:
        """Mean loss of logits (B,) of a binary label (B,) over the rows where it is known."""
        return self.mean(self.each(logits, label), known(label), batch)

    def each(self, logits: Tensor, label: Tensor) -> Tensor:
        """Loss (B,) of logits (B,); a missing label counts as 0."""
        output = logits if self.criterion.of == "logits" else logits.float().sigmoid()
        values: Tensor = self.criterion(output, label.nan_to_num(0.0))
        return values

    def both(self, batch: Batch) -> Tensor:
        """Clicked and converted (B,): 0 where there was no click, NaN where that, or what came of it, is not known."""
        click = batch[self.space]
        return torch.where(click == 1, batch[self.column], torch.where(click == 0, 0.0, torch.nan))

    def seen(self, logits: Tensor, batch: Batch, given: Tensor | None) -> dict[str, Tensor]:
        found = super().seen(logits, batch, given)
        click = self.must(given).float().sigmoid()
        return found | {"both": self.both(batch), "both_prediction": click * self.predict(logits)}

    def metrics(self, seen: Mapping[str, Tensor]) -> dict[str, Value]:
        found = binary(seen["prediction"], seen["label"])
        if "user" in seen:
            found |= grouped_auc(seen["prediction"], seen["label"], seen["user"])
        if "both" in seen:
            found["ctcvr_auc"] = binary(seen["both_prediction"], seen["both"])["auc"]
        return found

    def per_row(self, seen: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = binary_of_rows(seen["prediction"], seen["label"])
        if "user" in seen:
            found |= grouped_auc_of_rows(seen["prediction"], seen["label"], seen["user"])
        if "both" in seen:
            found["ctcvr_auc"] = auc_of_rows(seen["both_prediction"], seen["both"])
        return found


def product(a: Tensor, b: Tensor) -> Tensor:
    """The logit (B,) of p = sigmoid(a) sigmoid(b): log p - log(1 - p), which neither overflows nor loses digits.

    1 - p = sigmoid(-a) + sigmoid(a) sigmoid(-b) is a sum of positive terms, so its logarithm needs no clamp.
    """
    a, b = a.float(), b.float()
    yes = F.logsigmoid(a) + F.logsigmoid(b)
    no = torch.logaddexp(F.logsigmoid(-a), F.logsigmoid(a) + F.logsigmoid(-b))
    return yes - no
