"""Representations that do not say which domain they are of: a classifier that is worked against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftrec.data.batch import View
from graftrec.tasks.alignment import Alignment, Place, Rise
from graftrec.tasks.losses.base import masked_mean
from graftrec.tasks.metrics.pointwise import Value


class AlignAdversarial(Alignment):
    """A classifier learns from z which stream a row is of, and what makes z learns the reverse: DANN.

    Y. Ganin, V. Lempitsky, Unsupervised Domain Adaptation by Backpropagation, ICML 2015,
    https://arxiv.org/abs/1409.7495, equations 4 to 6: the loss is the mean of -log p(stream | R(z)); R(z) = z forwards,
    and backwards its gradient is -strength times what came: ``rise=ramp`` is lambda_p of section 4. The classifier
    itself always learns at full strength.

    Where we differ: each stream counts the same, however many rows it has, so that the classifier cannot win by size;
    there the batch is half of each. An evaluation says ``accuracy`` as well, where 1 / streams is what alignment wants.

    Args:
        hidden: width of the classifier's layer, at least 1. in_dim: of z (completed by the program).
    """

    rises_by_loss = False

    def __init__(
        self,
        across: Sequence[str],
        in_dim: int,
        reads: Place = "trunk",
        weight: float = 1.0,
        rise: Rise = "ramp",
        hidden: int = 64,
    ) -> None:
        super().__init__(across, reads, weight, rise)
        if hidden < 1:
            raise ValueError(f"hidden should be at least 1. Found {hidden}.")
        self.classifier = nn.Sequential(nn.Linear(in_dim, hidden), nn.ReLU(), nn.Linear(hidden, len(across)))

    def compare(self, views: Sequence[View], strength: float = 1.0) -> Tensor:
        each = []
        for number, view in enumerate(views):
            values = F.cross_entropy(self._logits(view, strength), self._stream(view, number), reduction="none")
            each.append(masked_mean(values, torch.ones_like(values, dtype=torch.bool)))
        return torch.stack(each).mean()

    def judged(self, views: Sequence[View]) -> dict[str, Value]:
        right = [(self._logits(v).argmax(1) == self._stream(v, number)).double() for number, v in enumerate(views)]
        return super().judged(views) | {"accuracy": Value(float(torch.stack([part.mean() for part in right]).mean()))}

    def _logits(self, view: View, strength: float = 1.0) -> Tensor:
        found: Tensor = self.classifier(reverse(view.z, strength)).float()
        return found

    @staticmethod
    def _stream(view: View, number: int) -> Tensor:
        return torch.full((len(view.z),), number, device=view.z.device)


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return z.view_as(z)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return -ctx.strength * gradients[0], None


def reverse(z: Tensor, strength: float) -> Tensor:
    """z forwards; backwards -strength times the gradient."""
    found: Tensor = _Reverse.apply(z, strength)  # type: ignore[no-untyped-call]
    return found
