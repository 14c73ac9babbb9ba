"""Entire space counterfactual multi-task model."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from graftrec.data.batch import Batch
from graftrec.data.schema import Label
from graftrec.models.heads.base import Head
from graftrec.tasks.base import Reads, known
from graftrec.tasks.entire_space import EntireSpace, product
from graftrec.tasks.losses.base import Loss


class ESCM2(EntireSpace):
    """L = L_cvr + c L_ctcvr, where rows that were clicked (o = 1) stand for those that were not, by 1 / p_click.

    With e = l(conversion, p_cvr) and means over all rows:
    ips: L_cvr = mean(o e / p_click).
    dr: L_cvr = mean(e_hat + o (e - e_hat) / p_click) + mean(o (e - e_hat)^2 / p_click), e_hat = softplus of the head's
    second output, the error that is imputed. L_ctcvr is ESMM's loss, the paper's global risk.
    H. Wang et al., ESCM2: Entire Space Counterfactual Multi-Task Model for Post-Click Conversion Rate Estimation, SIGIR
    2022, https://arxiv.org/abs/2204.05125, section 3. The loss of the click is the given task's own.

    Gradients: none through the weights 1 / p_click, else a larger p_click would be a way to a smaller loss; L_ctcvr
    reaches both tasks; e and e_hat are both learnt in both terms of dr. Where we differ: p_click is clipped from below,
    e_hat is at least 0 as every loss is, and with ips the second output rests.

    Args:
        estimator: ips or dr. clip: the smallest p_click that is divided by. global_weight: c, at least 0.
    """

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
        estimator: Literal["ips", "dr"] = "dr",
        clip: float = 0.05,
        global_weight: float = 1.0,
    ) -> None:
        prior = torch.zeros(()) if prior is None else prior
        both = torch.stack((prior, torch.zeros_like(prior)))
        super().__init__(head, loss, stream, column, label, space, given, reads, weight, row_weight, both)
        if estimator not in ("ips", "dr"):
            raise ValueError(f"estimator should be ips or dr. Found {estimator}.")
        if not 0 < clip <= 1:
            raise ValueError(f"clip should be in (0, 1]. Found {clip}.")
        if global_weight < 0:
            raise ValueError(f"global_weight should be at least 0. Found {global_weight}.")
        self.estimator, self.clip, self.global_weight = estimator, clip, global_weight

    @classmethod
    def outputs(cls, label: Label) -> int:
        """2: the conversion's logit and the imputed error's."""
        return 2

    def predict(self, logits: Tensor) -> Tensor:
        return logits[..., 0].float().sigmoid()

    def loss(self, logits: Tensor, batch: Batch, given: Tensor | None = None) -> Tensor:
        click, both = self.must(given), self.both(batch)
        clicked = (batch[self.space] == 1) & known(both)
        weight = clicked / click.detach().float().sigmoid().clamp_min(self.clip)  # o / p_click
        error = self.each(logits[..., 0], both)
        values = weight * error
        if self.estimator == "dr":
            imputed = F.softplus(logits[..., 1].float())
            values = imputed + weight * (error - imputed) + weight * (error - imputed) ** 2
        loss = self.mean(values, known(both), batch)
        return loss + self.global_weight * self.risk(product(click, logits[..., 0]), both, batch)
