"""Cross-entropy over classes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from graftrec.losses.base import Loss


class CrossEntropy(Loss):
    """-log softmax(logits)_y for logits (B, C) and labels (B,); ``smoothing`` in [0, 1) is shared by all classes."""

    kinds = ("category",)

    def __init__(self, smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0 <= smoothing < 1:
            raise ValueError(f"smoothing should be in [0, 1). Found {smoothing}.")
        self.smoothing = smoothing

    def forward(self, output: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(output.float(), label, reduction="none", label_smoothing=self.smoothing)
