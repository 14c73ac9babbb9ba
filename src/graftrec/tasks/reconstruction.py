"""Representations that still know what they were made from: an autoencoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from graftrec.data.batch import View
from graftrec.tasks.alignment import Alignment, Rise
from graftrec.tasks.losses.base import masked_mean


class Reconstruction(Alignment):
    """|x - g(z)|^2 / (F * D), where x are the fields of a row before the trunk, content and all, and g is an MLP.

    M. Ghifary et al., Deep Reconstruction-Classification Networks for Unsupervised Domain Adaptation, ECCV 2016,
    https://arxiv.org/abs/1607.03516, equation 3: one decoder for all domains keeps in z what the target's rows say,
    also where the sources' labels do not ask for it. The mean over rows is taken of each stream, and then of streams.

    Where we differ: x are learned vectors, which do not move towards what is easy to rebuild: no gradient goes into
    them as an answer; the paper rebuilds the target's pixels, we the streams that are named.

    Args:
        hidden: width of g's layer, at least 1. in_dim, fields, width: of z and of x (completed by the program).
    """

    least = 1

    def __init__(
        self,
        across: Sequence[str],
        in_dim: int,
        fields: int,
        width: int,
        weight: float = 1.0,
        rise: Rise = "constant",
        hidden: int = 64,
    ) -> None:
        super().__init__(across, "trunk", weight, rise)
        if hidden < 1:
            raise ValueError(f"hidden should be at least 1. Found {hidden}.")
        self.decoder = nn.Sequential(nn.Linear(in_dim, hidden), nn.ReLU(), nn.Linear(hidden, fields * width))

    def compare(self, views: Sequence[View], strength: float = 1.0) -> Tensor:
        each = []
        for view in views:
            error = (self.decoder(view.z).float() - view.fields.detach().float().flatten(1)).pow(2).mean(1)
            each.append(masked_mean(error, torch.ones_like(error, dtype=torch.bool)))
        return strength * torch.stack(each).mean()
