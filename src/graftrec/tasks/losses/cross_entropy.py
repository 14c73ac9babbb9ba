"""Cross-entropy over classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from graftrec.data.schema import Label
from graftrec.tasks.losses.base import Loss


class CrossEntropy(Loss):
    """-w_y log softmax(logits)_y for logits (B, C) and labels (B,).

    Args:
        smoothing: in [0, 1), the part of the label that is shared by all classes.
        class_weights: w of each class, in their order, at least 0 and not all 0; default: all 1.
    """

    kinds = ("category",)

    def __init__(self, smoothing: float = 0.0, class_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if not 0 <= smoothing < 1:
            raise ValueError(f"smoothing should be in [0, 1). Found {smoothing}.")
        if class_weights is not None and (not class_weights or min(class_weights) < 0 or max(class_weights) == 0):
            raise ValueError(f"class_weights should be at least 0 and not all 0. Found {list(class_weights)}.")
        self.smoothing = smoothing
        weights = None if class_weights is None else torch.tensor(list(class_weights), dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)
        self.class_weights: Tensor | None

    def check(self, label: Label) -> None:
        if self.class_weights is not None and len(self.class_weights) != label.classes:
            raise ValueError(
                f"class_weights should be {label.classes}, one for each class of '{label.name}'. "
                f"Found {len(self.class_weights)}."
            )

    def forward(self, output: Tensor, label: Tensor) -> Tensor:
        values = F.cross_entropy(output.float(), label, reduction="none", label_smoothing=self.smoothing)
        if self.class_weights is None:
            return values
        return values * self.class_weights[label]
