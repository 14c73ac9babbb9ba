"""Experts that read in blocks: the same numbers as with a copy of the input for each, and no copy."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from graftrec.models.layers.experts import BatchedLinear, Experts

BLOCKS, ROWS, WIDE, NARROW = 3, 5, 64, 2


def inputs() -> Tensor:
    return torch.randn(BLOCKS, ROWS, WIDE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("first", [NARROW, 2 * WIDE])
@pytest.mark.parametrize("each", [1, 2, 4])
def test_blocks_are_what_copies_are(each: int, first: int) -> None:
    torch.manual_seed(0)
    experts, x = Experts(BLOCKS * each, WIDE, [first, 3]).double(), inputs()
    found, expected = experts(x), experts(x.repeat_interleave(each, 0))
    assert found.shape == (BLOCKS * each, ROWS, 3)
    torch.testing.assert_close(found, expected)
    for number in range(BLOCKS * each):
        h = x[number // each]
        for layer in experts.layers:
            h = (h @ layer.weight[number].T + layer.bias[number]).clamp_min(0)
        torch.testing.assert_close(found[number], h)
    ours, theirs = (torch.autograd.grad(z.pow(2).sum(), list(experts.parameters())) for z in (found, expected))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_all_may_read_one_input() -> None:
    layer, x = BatchedLinear(4, WIDE, NARROW).double(), inputs()[0]
    torch.testing.assert_close(layer(x), layer(x.expand(4, ROWS, WIDE)))


def test_what_a_step_keeps_does_not_grow_with_the_experts_of_a_block() -> None:
    def kept(each: int) -> int:
        layer, sizes = BatchedLinear(BLOCKS * each, WIDE, NARROW).double(), list[int]()

        def keep(x: Tensor) -> Tensor:
            if x.untyped_storage().data_ptr() != layer.weight.untyped_storage().data_ptr():
                sizes.append(x.untyped_storage().nbytes())
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            layer(inputs().requires_grad_())
        return sum(sizes)

    assert kept(1) == kept(4) == inputs().untyped_storage().nbytes()


def test_dropout_is_behind_every_layer() -> None:
    torch.manual_seed(0)
    experts = Experts(2, WIDE, [50, 50], dropout=0.5)
    seen: list[Tensor] = []
    experts.layers[1].register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    x = inputs()[0].float().expand(200, -1, -1).flatten(0, 1)
    seen.append(experts(x))
    experts.eval()
    seen.append(experts(x))
    between, behind, whole, last = seen[0], seen[1], seen[2], seen[3]
    open_between = whole > 0
    assert float((between[open_between] > 0).float().mean()) == pytest.approx(0.5, abs=0.02)
    torch.testing.assert_close(between[between > 0], 2 * whole[between > 0])
    assert float((behind == 0).float().mean()) > float((last == 0).float().mean()) + 0.1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [((0, 3, [2]), "experts"), ((1, 3, []), "hidden"), ((1, 3, [0]), "hidden"), ((1, 3, [2], 1.0), "dropout")],
)
def test_what_is_refused(wrong: tuple[int, int, list[int]], said: str) -> None:
    with pytest.raises(ValueError, match=f"{said} should be"):
        Experts(*wrong)
