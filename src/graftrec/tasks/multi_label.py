"""Several labels of a row by one head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from graftrec.data.batch import Batch
from graftrec.data.schema import Label
from graftrec.models.heads.base import Head
from graftrec.tasks.base import Reads
from graftrec.tasks.losses.base import Loss
from graftrec.tasks.metrics.pointwise import Value, binary
from graftrec.tasks.metrics.row_values import answers_of_rows, auc_of_rows, mean_auc_of_rows, ratio_of_rows
from graftrec.tasks.rows import RowTask


class MultiLabel(RowTask):
    """Learns M ``binary`` labels of a row at once: logits (B, M), each known label of each row counts equally.

    ``auc/<column>`` is each label's own and ``auc`` their mean, over those that have both classes; ``log_loss``,
    ``accuracy`` and ``ece`` are over all known labels of all rows. A task for each label has heads of its own and a
    balancer between them; here they share all but the last layer.

    Args:
        columns: at least two labels of the stream. label: their joint label (completed by the program).
    """

    main = "auc"
    kinds = ("binary",)

    def __init__(
        self,
        head: Head,
        loss: Loss,
        stream: str,
        columns: Sequence[str],
        label: Label,
        reads: Reads = "trunk",
        weight: float = 1.0,
        space: str = "",
        row_weight: str = "",
        prior: Tensor | None = None,
    ) -> None:
        if len(set(columns)) != len(columns) or len(columns) < 2:
            raise ValueError(f"columns should be at least 2, each once. Found {list(columns)}.")
        super().__init__(head, loss, stream, columns[0], label, reads, weight, space, row_weight, prior=prior)
        self._columns = tuple(columns)

    @property
    def columns(self) -> tuple[str, ...]:
        return self._columns

    def predict(self, logits: Tensor) -> Tensor:
        return logits.float().sigmoid()

    def labels(self, batch: Batch) -> Tensor:
        return self._inside(torch.stack([batch[column] for column in self.columns], -1), batch)

    def metrics(self, seen: Mapping[str, Tensor]) -> dict[str, Value]:
        prediction, label = seen["prediction"], seen["label"]  # (n, M)
        pooled = binary(prediction.flatten(), label.flatten())
        each = {
            column: binary(p, y)["auc"]
            for column, p, y in zip(self.columns, prediction.unbind(1), label.unbind(1), strict=True)
        }
        defined = [value.value for value in each.values() if value.value is not None]
        mean = Value(sum(defined) / len(defined)) if defined else Value(None, "no label with both classes")
        found = {"auc": mean} | {name: pooled[name] for name in ("log_loss", "accuracy", "ece")}
        return found | {f"auc/{column}": value for column, value in each.items()}

    def per_row(self, seen: Mapping[str, Tensor]) -> dict[str, Tensor]:
        prediction, label = seen["prediction"], seen["label"]
        each = torch.stack([auc_of_rows(p, y) for p, y in zip(prediction.unbind(1), label.unbind(1), strict=True)], 1)
        known = (~label.isnan()).double().sum(1)
        known = known.masked_fill(known == 0, torch.nan)
        found = {"auc": mean_auc_of_rows(each)}
        for name, values in answers_of_rows(prediction, label).items():
            found[name] = ratio_of_rows(values.nansum(1), known)
        return found | {f"auc/{column}": own for column, own in zip(self.columns, each.unbind(1), strict=True)}
