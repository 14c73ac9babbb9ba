"""Representations of domains that have the same distribution: maximum mean discrepancy."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from graftrec.data.batch import View
from graftrec.tasks.alignment import Alignment, Place, Rise, everybodys, nothing


class AlignMmd(Alignment):
    """MMD^2 = mean k(a, a') + mean k(b, b') - 2 mean k(a, b), over all pairs of rows of two streams.

    A. Gretton et al., A Kernel Two-Sample Test, JMLR 13, 2012, https://jmlr.org/papers/v13/gretton12a.html, equation 5
    (the biased estimate, which is never below 0); M. Long et al., Learning Transferable Features with Deep Adaptation
    Networks, ICML 2015, https://arxiv.org/abs/1502.02791, section 3, several kernels: k(x, y) = mean over s in
    ``scales`` of exp(-|x - y|^2 / (s m)), where m is the median squared distance of different rows of both streams,
    which no gradient changes.

    Where we differ from the second: kernels weigh the same (there: a quadratic program), all pairs count (there: every
    second row once, for time linear in the rows). More than two streams: the sum over pairs of streams.

    Args:
        scales: s, above 0.
    """

    additive = False

    def __init__(
        self,
        across: Sequence[str],
        reads: Place = "trunk",
        weight: float = 1.0,
        rise: Rise = "constant",
        scales: Sequence[float] = (0.25, 0.5, 1.0, 2.0, 4.0),
    ) -> None:
        super().__init__(across, reads, weight, rise)
        if not scales or min(scales) <= 0:
            raise ValueError(f"scales should be numbers above 0. Found {list(scales)}.")
        self.scales = tuple(scales)

    def compare(self, views: Sequence[View], strength: float = 1.0) -> Tensor:
        parts = [everybodys(view.z.float()) for view in views]
        if min(map(len, parts)) < 1:
            return nothing(views)
        pairs = [mmd(a, b, self.scales) for a, b in itertools.combinations(parts, 2)]
        return strength * torch.stack(pairs).sum()


def mmd(a: Tensor, b: Tensor, scales: Sequence[float]) -> Tensor:
    """MMD^2 of rows (n, D) and (m, D) with the kernels of these scales; a scalar."""
    rows = torch.cat([a, b])
    square = rows.pow(2).sum(1)
    distance = (square[:, None] + square - 2 * rows @ rows.T).clamp_min(0)  # cdist has no gradient at 0
    with torch.no_grad():
        above = torch.triu_indices(len(rows), len(rows), 1, device=rows.device)
        median = distance[above[0], above[1]].median().clamp_min(torch.finfo(rows.dtype).tiny)
    kernel = torch.stack([torch.exp(-distance / (scale * median)) for scale in scales]).mean(0)
    n = len(a)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()
