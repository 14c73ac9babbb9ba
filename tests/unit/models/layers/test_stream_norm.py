"""Statistics of each stream, which a batch that is not finite does not touch, and which processes share."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from graftrec.models.layers.stream_norm import StreamNorm
from processes import spawn

DIM = 3
ROWS = torch.randn(7, DIM, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 + 3


def norm() -> StreamNorm:
    torch.manual_seed(0)
    made = StreamNorm(2, DIM).double()
    with torch.no_grad():
        made.weight.normal_()
        made.bias.normal_()
    return made


def test_it_is_its_equation_and_moves_the_means_of_its_stream() -> None:
    made = norm()
    mean, var = ROWS.mean(0), ROWS.var(0, unbiased=False)
    torch.testing.assert_close(made(ROWS, 1), made.weight * (ROWS - mean) / (var + 1e-5).sqrt() + made.bias)
    moved = 0.1 * mean, 0.9 + 0.1 * ROWS.var(0)
    torch.testing.assert_close(made.mean, torch.stack([torch.zeros_like(mean), moved[0]]))
    torch.testing.assert_close(made.var, torch.stack([torch.ones_like(var), moved[1]]))
    made.eval()
    expected = made.weight * (ROWS - moved[0]) / (moved[1] + 1e-5).sqrt() + made.bias
    torch.testing.assert_close(made(ROWS, 1), expected)
    torch.testing.assert_close(made(ROWS, 0), made.weight * ROWS / (1 + 1e-5) ** 0.5 + made.bias)
    torch.testing.assert_close(made.mean[1], moved[0])  # an evaluation moves nothing


@pytest.mark.parametrize("rows", [0, 1])
def test_a_batch_without_a_variance_takes_the_moving_means(rows: int) -> None:
    made = norm()
    made(ROWS, 0)
    before = made.mean.clone()
    found = made(ROWS[:rows], 0)
    assert torch.equal(found, made.eval()(ROWS[:rows], 0))
    assert torch.equal(made.mean, before)


@pytest.mark.parametrize("odd", [torch.inf, -torch.inf, torch.nan, 1e300])
def test_a_batch_that_is_not_finite_leaves_no_trace(odd: float) -> None:
    made = norm()
    made(ROWS, 0)
    before = made.mean.clone(), made.var.clone()
    wrong = ROWS.clone()
    wrong[2, 1] = odd  # of 1e300 the mean is finite, and the variance is not; other columns are sane
    made(wrong, 0)
    assert torch.equal(made.mean, before[0])
    assert torch.equal(made.var, before[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_whole_statistics(dtype: torch.dtype) -> None:
    made, rows = norm().float(), ROWS.float()
    expected = made(rows, 0)
    with torch.autocast("cpu", dtype):
        found = made(rows.to(dtype), 1)
    assert made.mean.dtype == torch.float32
    torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.05)
    torch.testing.assert_close(made.mean[1], made.mean[0], rtol=0.01, atol=0.01)


def learnt(made: StreamNorm, parts: list[Tensor]) -> dict[str, Tensor]:
    """Gradients of a sum over rows of two streams, and what the means are then."""
    given = [part.clone().requires_grad_() for part in parts]
    loss = torch.stack([(made(x, at) ** 3).sum() for at, x in enumerate(given)]).sum()
    loss.backward()
    held = {"weight": made.weight.grad, "bias": made.bias.grad, "mean": made.mean, "var": made.var}
    assert all(value is not None for value in held.values())
    return held | {f"x{at}": x.grad for at, x in enumerate(given)}  # type: ignore[return-value]


PARTS = [ROWS, ROWS[:1] * 2]  # of the second stream one process has one row and the other has none


def work(rank: int, folder: str) -> None:
    place, wait = f"file://{folder}/meet", timedelta(seconds=60)
    dist.init_process_group("gloo", init_method=place, rank=rank, world_size=2, timeout=wait)
    torch.save(learnt(norm(), [part[rank::2] for part in PARTS]), f"{folder}/{rank}")


@pytest.mark.slow
def test_two_processes_have_the_statistics_and_gradients_of_one(tmp_path: Path) -> None:
    spawn(work, (str(tmp_path),))
    whole, (one, two) = learnt(norm(), PARTS), (torch.load(tmp_path / str(rank)) for rank in range(2))
    for name in ("mean", "var"):
        torch.testing.assert_close(one[name], whole[name])
        torch.testing.assert_close(two[name], whole[name])
    for name in ("weight", "bias"):
        torch.testing.assert_close(one[name] + two[name], whole[name])
    for name in ("x0", "x1"):
        torch.testing.assert_close(one[name], whole[name][::2])
        torch.testing.assert_close(two[name], whole[name][1::2])
