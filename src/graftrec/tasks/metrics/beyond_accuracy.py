"""Metrics of all users' lists together: how much of the catalogue they reach, and how popular it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from graftrec.tasks.metrics.pointwise import Value

NEVER = 1e3  # exp(-NEVER) is 0: infinity would be NaN times 0


class _Totals(NamedTuple):
    """Of what was taken in, for each length."""

    places: Tensor  # (lengths, N): expected places of each item in lists
    missed: Tensor  # (lengths, N): log chance that it is in none
    bias: Tensor  # (lengths, 2): G_r and G_p, each times their users
    popularity: Tensor  # (N,)


class Lists:
    """Totals over the lists of the best k items of every user, from which their metrics follow.

    Of s(i), the share of the users of training who chose item i:

    - ``coverage@k``: share of the catalogue that is in any list (Ge, Delgado-Battenfeld & Jannach 2010,
      https://doi.org/10.1145/1864708.1864761).
    - ``novelty@k``: mean of -log2 s(i) over all places of all lists, in bits (self-information, T. Zhou et al. 2010,
      https://doi.org/10.1073/pnas.1000488107, as popularity-based novelty in Vargas & Castells 2011,
      https://doi.org/10.1145/2043932.2043955).
    - ``popularity_bias@k``: (G_r - G_p) / G_p, where G_r is the mean over users of the mean s(i) of their list, and G_p
      of the items that they chose before: 0 if lists are as popular as what people choose by themselves (change in
      group average popularity, Abdollahpouri et al. 2019, https://arxiv.org/abs/1907.13286, with all users
      as one group). Users who chose nothing before are in neither.

    Tied items are in a random order of each user, and every value is the expectation over it, as in `ranking_metrics`.
    In ``popularity_bias`` and ``novelty`` that is a mean; an item that user u's list has with chance p_u is in any list
    with 1 - prod_u (1 - p_u).

    Where we differ: an item that nobody chose in training is as novel as the rarest of the others, not infinitely so.

    Args:
        lengths: of the lists, each at least 1.
    """

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = tuple(lengths)
        self._totals: _Totals | None = None

    def update(self, scores: Tensor, answers: Mapping[str, Tensor]) -> None:
        """Take in the rankings (B, N) of users; without ``popularity`` among the answers, nothing.

        Args:
            answers: ``popularity`` (N,) is s. ``own_popularity`` (B,): mean s of what each chose before, NaN
                if nothing. ``listed`` (B, N) bool: what is ranked at all.
        """
        rows, width = scores.shape
        if "popularity" not in answers or not width:
            return
        popularity, own = answers["popularity"].double(), answers["own_popularity"].double()
        if self._totals is None:
            zero = popularity.new_zeros(len(self.lengths), width)
            self._totals = _Totals(zero, zero.clone(), popularity.new_zeros(len(self.lengths), 2), popularity)
        if not rows:
            return
        listed, among = answers.get("listed"), torch.full((rows,), width, device=scores.device)
        if listed is not None:
            scores, among = scores.masked_fill(~listed, -torch.inf), listed.float().sum(1).long()
        best = scores.topk(min(max(self.lengths) + 1, width), 1)
        counted = ~own.isnan() & (among > 0)
        for at, k in enumerate(self.lengths):
            length = among.clamp(max=k)[:, None]  # (B, 1): a list is shorter where there is no more
            last = best.values.gather(1, (length - 1).clamp(min=0))
            after = best.values.gather(1, length.clamp(max=best.values.shape[1] - 1))
            # what is not listed looks like the lowest score, and `topk` may have taken it
            tied = (length < among[:, None]) & (after == last) | (last == -torch.inf)
            items, values = best.indices[:, :k], best.values[:, :k]
            sure = (torch.arange(items.shape[1], device=scores.device) < length) & (~tied | (values > last))
            places = torch.bincount(items[sure], minlength=width).double()
            summed = (popularity[items] * sure).sum(1)
            if bool(tied.any()):
                row = tied.squeeze(1).nonzero().squeeze(1)
                even = scores[row] == last[row]
                even = even if listed is None else even & listed[row]
                drawn = even.double()
                chance = (length[row, 0] - sure[row].sum(1)).double() / drawn.sum(1).clamp(min=1)
                more, missed = torch.stack((chance, torch.log1p(-chance).clamp(min=-NEVER))) @ drawn
                summed[row] += chance * (drawn @ popularity)
                self._totals.missed[at].add_(missed)
                self._totals.places[at].add_(more)
            self._totals.places[at].add_(places)
            self._totals.missed[at].sub_(places, alpha=NEVER)
            mean = summed / length.squeeze(1).clamp(min=1)
            self._totals.bias[at].add_(torch.stack((mean[counted].sum(), own[counted].sum())))

    def compute(self, of_all: Callable[[_Totals | None], list[_Totals | None]] = lambda own: [own]) -> dict[str, Value]:
        """Metrics of everything taken in; then start over.

        Args:
            of_all: totals of this process, none where it took nothing in -> those of all processes.
        """
        own = None if self._totals is None else _Totals(*(total.cpu() for total in self._totals))
        self._totals = None
        there = [totals for totals in of_all(own) if totals is not None]
        if not there:
            return {}
        places, missed, bias = (torch.stack(parts).sum(0) for parts in zip(*(each[:3] for each in there), strict=True))
        popularity = there[0].popularity
        rarest = popularity[popularity > 0].min() if bool(popularity.any()) else None
        found = {}
        for at, k in enumerate(self.lengths):
            recommended, own = bias[at].tolist()
            count = places[at].sum()
            found[f"coverage@{k}"] = Value(float(-torch.expm1(missed[at]).mean()))
            found[f"novelty@{k}"] = Value(None, "nobody chose an item in training, or no list has one")
            if rarest is not None and count > 0:
                bits = -torch.log2(popularity.clamp(min=float(rarest)))
                found[f"novelty@{k}"] = Value(float(places[at] @ bits / count))
            none = Value(None, "0 users who chose an item of training before")
            found[f"popularity_bias@{k}"] = Value(recommended / own - 1) if own else none
        return found
