"""The best of a row, in blocks or not, are the first of a stable sort."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from graftrec.tasks.metrics.top_k import Best, best_of, merged

SCORES = torch.tensor([[1.0, 3.0, 2.0, 3.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]])


def drawn(values: int) -> Tensor:
    """Scores (200, 23) of few distinct ``values``, a tenth of them minus infinity."""
    random = torch.Generator().manual_seed(values)
    scores = torch.randint(values, (200, 23), generator=random).float()
    return scores.masked_fill(torch.rand(scores.shape, generator=random) < 0.1, -torch.inf)


def test_of_tied_scores_the_first_place_leads() -> None:
    found = best_of(SCORES, 4)
    assert found.scores.tolist() == [[3, 3, 2, 2], [0, 0, 0, 0]]
    assert found.places.tolist() == [[1, 3, 2, 4], [0, 1, 2, 3]]
    assert best_of(SCORES, 9).places.tolist() == [[1, 3, 2, 4, 5, 0], [0, 1, 2, 3, 4, 5]]


@pytest.mark.parametrize("values", [1, 2, 5, 1000])
@pytest.mark.parametrize("k", [1, 5, 22, 23, 40])
@pytest.mark.parametrize("width", [1, 4, 10, 23])
def test_blocks_are_a_stable_sort(values: int, k: int, width: int) -> None:
    scores = drawn(values)
    best = Best(torch.zeros(200, 0), torch.zeros(200, 0, dtype=torch.int64))
    for low in range(0, 23, width):
        block = best_of(scores[:, low : low + width], k)
        best = merged(best, Best(block.scores, block.places + low), k)
    ordered = scores.sort(dim=1, descending=True, stable=True)
    assert torch.equal(best.scores, ordered.values[:, :k])
    real = best.scores > -torch.inf
    assert torch.equal(best.places[real], ordered.indices[:, :k][real])


def test_no_row_and_no_column() -> None:
    assert best_of(torch.zeros(0, 5), 2).places.shape == (0, 2)
    assert best_of(torch.zeros(3, 0), 2).places.shape == (3, 0)
