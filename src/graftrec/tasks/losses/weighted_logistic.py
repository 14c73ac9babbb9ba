"""Weighted logistic regression for a time."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from graftrec.tasks.losses.base import Loss


class WeightedLogistic(Loss):
    """-y log p - [y = 0] log(1 - p), with p = sigmoid(logit): what was watched is a positive that weighs its time y.

    P. Covington et al., Deep Neural Networks for YouTube Recommendations, RecSys 2016,
    https://doi.org/10.1145/2959100.2959190, section 4.2: the odds exp(logit) that are learnt are the sum of times over
    the number of rows with none, E[y] / P(y = 0), which is near E[y] as long as few rows are watched at all.

    Args:
        every_row: every row counts once as a negative too, -y log p - log(1 - p), and the odds are E[y] exactly. To be
            chosen where most rows have a time, as in a feed that plays by itself: there the paper's odds know no bound.
    """

    kinds = ("number",)
    form = "odds"

    def __init__(self, every_row: bool = False) -> None:
        super().__init__()
        self.every_row = every_row

    def forward(self, output: Tensor, label: Tensor) -> Tensor:
        logit, time = output.float(), label.clamp_min(0)
        negative = 1.0 if self.every_row else (time == 0).to(logit.dtype)
        return time * F.softplus(-logit) + negative * F.softplus(logit)
