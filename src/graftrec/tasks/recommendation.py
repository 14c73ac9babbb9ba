"""Which items, out of a whole catalogue."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from graftrec.data.schema import Label
from graftrec.models.heads.base import Head
from graftrec.tasks.losses.base import Loss
from graftrec.tasks.ranking import RankingTask


class Recommendation(RankingTask):
    """Learns a ``binary`` label of each candidate (B, C), and is evaluated by ranking the whole catalogue.

    Args:
        k: length of the list that counts. at: further lengths, with the same metrics over all users.
    """

    kinds = ("binary",)
    forms = ("one", "list")

    def __init__(
        self,
        head: Head,
        loss: Loss,
        stream: str,
        column: str,
        label: Label,
        weight: float = 1.0,
        prior: Tensor | None = None,
        k: int = 10,
        at: Sequence[int] = (),
    ) -> None:
        super().__init__(head, loss, stream, column, label, weight=weight, prior=prior)
        self.judge_at(k, at)

    def predict(self, logits: Tensor) -> Tensor:
        return logits.float().sigmoid()
