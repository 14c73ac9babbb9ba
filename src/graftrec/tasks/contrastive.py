"""A user's representations in two domains are nearer to each other than to other users'."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from graftrec.data.batch import View
from graftrec.tasks.alignment import Alignment, Place, Rise, everybodys, nothing
from graftrec.tasks.losses.base import masked_mean


class Contrastive(Alignment):
    """-log (exp(s_uu / t) / sum over users v of the other stream of exp(s_uv / t)), mean over users u in both streams.

    s_uv is the cosine of u's z in one stream and v's in the other; both directions count. A. van den Oord et al.,
    Representation Learning with Contrastive Predictive Coding, 2018, https://arxiv.org/abs/1807.03748, equation 4, on
    two views of one thing as in Y. Tian et al., Contrastive Multiview Coding, ECCV 2020,
    https://arxiv.org/abs/1906.05849, section 3.1, and between the domains of a user as in R. Xie et al., Contrastive
    Cross-domain Recommendation in Matching, KDD 2022, https://arxiv.org/abs/2112.00999.

    Where we differ: a user with several rows in a batch is their mean; the other users are those of the batch, over all
    processes, of which only the ones in both streams are pulled, so that large batches of few users teach most; no
    projection before the cosine. More than two streams: the mean over pairs of streams.

    Args:
        temperature: t, above 0.
    """

    additive = False

    def __init__(
        self,
        across: Sequence[str],
        reads: Place = "trunk",
        weight: float = 1.0,
        rise: Rise = "constant",
        temperature: float = 0.1,
    ) -> None:
        super().__init__(across, reads, weight, rise)
        if temperature <= 0:
            raise ValueError(f"temperature should be positive. Found {temperature}.")
        self.temperature = temperature

    def compare(self, views: Sequence[View], strength: float = 1.0) -> Tensor:
        for view in views:
            if "user" not in view.batch:
                raise ValueError(f"across should be streams with a user. Found '{view.stream}' without.")
        people = [users_of(view) for view in views]
        pairs = [self._pair(a, b) for a, b in itertools.combinations(people, 2)]
        return strength * torch.stack(pairs).mean() + nothing(views)

    def _pair(self, a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> Tensor:
        same = a[0][:, None] == b[0]  # (U, V)
        logits = F.normalize(a[1], dim=1) @ F.normalize(b[1], dim=1).T / self.temperature
        sides = []
        for match, scores in ((same, logits), (same.T, logits.T)):
            counted = match.any(1)
            own = scores.masked_fill(~match, 0.0).sum(1)  # at most one matches
            values = torch.where(counted, scores.logsumexp(1) - own, torch.zeros_like(own))
            sides.append(masked_mean(values, counted))
        return torch.stack(sides).mean()


def users_of(view: View) -> tuple[Tensor, Tensor]:
    """The known users (U,) of a batch of all processes, each once, and the mean of their z: (U, D)."""
    people, rows = everybodys(view.batch["user"]), everybodys(view.z.float())
    known = people > 0  # 0 is somebody, nobody knows who
    users, at = torch.unique(people[known], return_inverse=True)
    total = rows.new_zeros(len(users), rows.shape[1]).index_add(0, at, rows[known])
    return users, total / torch.bincount(at, minlength=len(users))[:, None].clamp_min(1)
