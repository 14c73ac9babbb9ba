"""The best of a row of scores, in one order whatever the blocks are that they come in."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Best(NamedTuple):
    """The best scores (B, K) of each row, highest first, and where they stand; of tied ones the first place leads."""

    scores: Tensor
    places: Tensor


def best_of(scores: Tensor, k: int) -> Best:
    """The ``k`` best of scores (B, N), or all N, as a stable sort would have them.

    Where more tie for the last place than there is room for, `topk` takes any: those rows alone are sorted in full. So
    are none for scores of minus infinity, of which any will do.
    """
    width = scores.shape[1]
    if k >= width:
        return Best(*torch.sort(scores, dim=1, descending=True, stable=True))
    places = scores.topk(k + 1, 1, sorted=False).indices.sort(1).values
    found = _sorted(scores.gather(1, places), places)
    last = found.scores[:, k - 1]
    tied = ((last == found.scores[:, k]) & (last > -torch.inf)).nonzero().squeeze(1)
    if len(tied):
        whole = torch.sort(scores[tied], dim=1, descending=True, stable=True)
        found.scores[tied], found.places[tied] = whole.values[:, : k + 1], whole.indices[:, : k + 1]
    return Best(found.scores[:, :k], found.places[:, :k])


def merged(first: Best, second: Best, k: int) -> Best:
    """The ``k`` best of two blocks, where every place of the first comes before those of the second."""
    both = _sorted(torch.cat((first.scores, second.scores), 1), torch.cat((first.places, second.places), 1))
    return Best(both.scores[:, :k], both.places[:, :k])


def _sorted(scores: Tensor, places: Tensor) -> Best:
    ordered = torch.sort(scores, dim=1, descending=True, stable=True)
    return Best(ordered.values, places.gather(1, ordered.indices))
