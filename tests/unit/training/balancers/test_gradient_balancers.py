"""Balancers that read gradients: against closed forms, brute force, explicit gradients and torchjd's aggregators."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.optimize
import torch
from torch import Tensor
from torchjd import aggregation

from graftrec.training.balancers.aligned_mtl import AlignedMtl, alignment
from graftrec.training.balancers.base import GramianBalancer, generator
from graftrec.training.balancers.cagrad import CaGrad
from graftrec.training.balancers.db_mtl import DbMtl
from graftrec.training.balancers.gradnorm import GradNorm
from graftrec.training.balancers.imtl_g import ImtlG
from graftrec.training.balancers.mgda import Mgda
from graftrec.training.balancers.nash_mtl import NashMtl
from graftrec.training.balancers.pcgrad import PcGrad
from graftrec.training.balancers.solvers import nonnegative
from graftrec.training.balancers.upgrad import UpGrad

SEEDS = range(8)


def gradients(tasks: int, seed: int = 0, width: int = 12, spread: float = 0.5) -> Tensor:
    """Rows (T, width) of different lengths, many of which conflict."""
    random = torch.Generator().manual_seed(seed)
    rows = torch.randn(tasks, width, generator=random, dtype=torch.float64)
    return rows * torch.exp(spread * torch.randn(tasks, 1, generator=random, dtype=torch.float64))


def weights(balancer: GramianBalancer, rows: Tensor, losses: Tensor | None = None) -> Tensor:
    losses = (torch.ones(len(rows), dtype=rows.dtype) if losses is None else losses).clone().requires_grad_()
    (found,) = torch.autograd.grad(balancer(losses, rows @ rows.T), losses)
    return found


def cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a, b, 0))


# --- what all share


def test_at_is_checked_and_gramian_has_to_fit() -> None:
    with pytest.raises(ValueError, match=r"representation, layer or trunk\. Found head"):
        Mgda(at="head")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"gramian should be 2 x 2. Found \(3, 3\)"):
        Mgda()(torch.ones(2), torch.eye(3))
    assert Mgda().at == "layer"
    assert UpGrad(at="trunk").at == "trunk"


def test_without_a_gramian_nothing_conflicts() -> None:
    assert Mgda()(torch.tensor([1.0, 5.0])) == 6


J = gradients(4, 5, width=30).float()
DEGENERATE = {
    "same": torch.stack([J[0], J[0], J[1]]),
    "opposed": torch.stack([J[0], -J[0], J[1]]),
    "nearly opposed": torch.stack([J[0], -J[0] * (1 + 1e-6), J[1]]),
    "parallel": J[:1] * torch.arange(1, 5)[:, None],
    "stationary": J - J.mean(0),
    "unequal": J * torch.tensor([1e-2, 1.0, 1e2, 1e-1])[:, None],
    "large": J * 1e15,
    "small": J * 1e-15,
}


@pytest.mark.parametrize("rows", DEGENERATE.values(), ids=DEGENERATE)
@pytest.mark.parametrize("cls", [AlignedMtl, CaGrad, DbMtl, ImtlG, Mgda, NashMtl, PcGrad, UpGrad])
def test_degenerate_gradients_in_float32_have_bounded_weights(cls: type[GramianBalancer], rows: Tensor) -> None:
    w = weights(cls(), rows)
    assert w.isfinite().all()
    assert (w >= 0).all()
    assert w.max() < 1e6
    if cls.no_conflict:
        d = w.double() @ rows.double()
        lengths = rows.double().norm(dim=1)
        assert (rows.double() @ d / lengths >= -1e-6 * (w.double() * lengths).sum()).all()


# --- each method


@pytest.mark.parametrize("seed", SEEDS)
def test_mgda_of_two_tasks_is_the_closed_form(seed: int) -> None:
    g1, g2 = rows = gradients(2, seed, width=3)
    share = float(((g2 - g1) @ g2 / (g1 - g2).pow(2).sum()).clamp(0, 1))
    expected = torch.tensor([2 * share, 2 - 2 * share], dtype=rows.dtype)
    torch.testing.assert_close(weights(Mgda(), rows), expected, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_mgda_is_no_longer_than_torchjd_s_and_optimal(seed: int) -> None:
    rows = gradients(5, seed)
    d = weights(Mgda(), rows) @ rows / 5
    theirs = aggregation.MGDA(epsilon=1e-9, max_iters=2000)(rows)
    assert d.norm() <= theirs.norm() * (1 + 1e-9)
    assert d.norm() >= theirs.norm() * 0.99
    assert (rows @ d >= d @ d - 1e-8).all()  # the variational inequality of the shortest vector


@pytest.mark.parametrize("seed", SEEDS)
def test_pcgrad_is_projecting_gradients_one_after_the_other(seed: int) -> None:
    rows = gradients(4, seed, width=5)
    orders = torch.rand(4, 4, generator=generator(seed, 0)).argsort(1)
    expected = torch.zeros_like(rows[0])
    for i, order in enumerate(orders.tolist()):
        g = rows[i].clone()
        for j in order:
            if j != i and g @ rows[j] < 0:
                g = g - (g @ rows[j]) / (rows[j] @ rows[j]) * rows[j]
        expected += g
    torch.testing.assert_close(weights(PcGrad(seed=seed), rows) @ rows, expected)


def test_pcgrad_of_two_tasks_is_torchjd_s_and_draws_anew_in_every_step() -> None:
    rows = gradients(2, 1, width=3)
    torch.testing.assert_close(weights(PcGrad(), rows) @ rows, aggregation.PCGrad()(rows))
    rows, balancer = gradients(6, 0, width=3), PcGrad()
    found = torch.stack([weights(balancer, rows) for _ in range(6)])
    assert len(found.unique(dim=0)) > 1
    assert balancer.steps == 6


@pytest.mark.parametrize("c", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(4))
def test_cagrad_is_the_best_of_a_grid(seed: int, c: float) -> None:
    rows = gradients(3, seed, width=4)
    mean = rows.mean(0)
    d = weights(CaGrad(c), rows) @ rows / 3 * (1 + c)
    ticks = torch.linspace(0, 1, 301, dtype=rows.dtype)
    grid = torch.cartesian_prod(ticks, ticks)
    grid = torch.cat([grid, 1 - grid.sum(1, keepdim=True)], 1)
    mixed = grid[grid[:, 2] >= 0] @ rows
    best = (mixed @ mean + c * mean.norm() * mixed.norm(dim=1)).min()
    assert (d - mean).norm() == pytest.approx(float(c * mean.norm()))  # on the sphere
    assert (rows @ d).min() == pytest.approx(float(best), abs=1e-3)  # strong duality: max min = min over mixtures
    assert (rows @ d).min() <= best + 1e-9


def test_cagrad_ends_in_the_plain_sum_and_refuses_a_radius_without_a_proof() -> None:
    rows = gradients(3)
    torch.testing.assert_close(weights(CaGrad(0.0), rows), torch.ones(3, dtype=rows.dtype))
    with pytest.raises(ValueError, match=r"c should be in \[0, 1\). Found 1.0"):
        CaGrad(1.0)


@pytest.mark.parametrize("tasks", [2, 3, 8])
@pytest.mark.parametrize("seed", range(4))
def test_nash_is_the_bargain(tasks: int, seed: int) -> None:
    rows = gradients(tasks, seed)
    w = weights(NashMtl(), rows)
    products = w * (rows @ rows.T @ w)  # G a = 1 / a up to the scale of a
    torch.testing.assert_close(products, products.mean().expand(tasks), rtol=1e-6, atol=0)
    assert (w > 0).all()
    assert float(w.sum()) == pytest.approx(tasks)


def test_nash_of_two_tasks_weighs_by_length_whatever_the_angle() -> None:
    for angle in (0.1, 1.0, 3.0, math.pi):
        rows = torch.tensor([[1.0, 0.0], [4 * math.cos(angle), 4 * math.sin(angle)]], dtype=torch.float64)
        torch.testing.assert_close(weights(NashMtl(), rows), torch.tensor([1.6, 0.4], dtype=torch.float64))


def test_imtl_g_projects_equally() -> None:
    rows = gradients(3, 2).abs()  # no conflict, so no weight below 0
    w = weights(ImtlG(), rows)
    d = w @ rows
    projections = rows @ d / rows.norm(dim=1)
    torch.testing.assert_close(projections, projections.mean().expand(3))
    torch.testing.assert_close(w / 3 @ rows, aggregation.IMTLG()(rows))


def test_imtl_g_cuts_a_weight_below_zero() -> None:
    unit = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.3]], dtype=torch.float64)
    unit = unit / unit.norm(dim=1, keepdim=True)  # the third lies between the others
    x = torch.linalg.solve(unit @ unit.T, torch.ones(3, dtype=torch.float64))
    assert x[2] < 0
    torch.testing.assert_close(weights(ImtlG(), unit), torch.tensor([1.5, 1.5, 0.0], dtype=torch.float64))


@pytest.mark.parametrize("tasks", [2, 3, 6])
@pytest.mark.parametrize("seed", range(4))
def test_upgrad_is_projecting_each_gradient_onto_the_dual_cone(tasks: int, seed: int) -> None:
    rows = gradients(tasks, seed, width=5)
    expected = torch.zeros_like(rows[0])
    for g in rows:  # the projection is g + sum_t x_t g_t with the x >= 0 that make it shortest
        x, short = scipy.optimize.nnls(rows.T.numpy(), -g.numpy())
        projection = g + torch.from_numpy(x) @ rows
        assert projection.norm() == pytest.approx(short)
        expected += projection
    torch.testing.assert_close(weights(UpGrad(), rows) @ rows, expected, atol=1e-7, rtol=1e-6)


def test_upgrad_of_torchjd_s_example() -> None:
    rows = torch.tensor(
        [[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]], dtype=torch.float64
    )  # torchjd's documentation, which adds 1e-4 to G
    d = weights(UpGrad(), rows) @ rows / 2
    # from torchjd's documentation, where 1e-4 is added to G
    torch.testing.assert_close(d, torch.tensor([0.2929, 1.9004, 1.9004], dtype=torch.float64), atol=2e-3, rtol=0)


@pytest.mark.parametrize("seed", SEEDS)
def test_aligned_gradients_have_one_length_in_all_directions(seed: int) -> None:
    rows = gradients(4, seed)
    aligned = alignment(rows @ rows.T) @ rows
    lengths = torch.linalg.svdvals(aligned)
    torch.testing.assert_close(lengths, torch.linalg.svdvals(rows).min().expand(4))
    expected = 4 * aggregation.AlignedMTLWeighting()(rows @ rows.T)
    torch.testing.assert_close(weights(AlignedMtl(), rows), expected.clamp_min(0), atol=1e-9, rtol=1e-9)


def test_aligned_mtl_does_not_shrink_to_the_noise_of_float32() -> None:
    rows = gradients(1).float().expand(2, -1).clone()
    rows[1] += 1e-5 * rows[1].flip(0)
    gramian = rows @ rows.T
    gramian[0, 1] = gramian[1, 0] = gramian[0, 1] * (1 - 1e-8)
    (w,) = torch.autograd.grad(AlignedMtl()(losses := torch.ones(2, requires_grad=True), gramian), losses)
    torch.testing.assert_close(w, torch.ones(2), atol=1e-2, rtol=0)


def test_db_mtl_is_the_sum_of_log_gradients_of_the_largest_length() -> None:
    rows, losses = gradients(3, 3), torch.tensor([0.5, 2.0, 10.0], dtype=torch.float64)
    logs = rows / losses[:, None]
    lengths = logs.norm(dim=1, keepdim=True)
    expected = (logs / lengths * lengths.max()).sum(0)
    torch.testing.assert_close(weights(DbMtl(), rows, losses) @ rows, expected, rtol=1e-6, atol=0)


def test_gradnorm_steps_by_the_gradient_of_its_own_loss() -> None:
    rows = torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    norms = rows.diagonal() / rows.diagonal().pow(2).mean().sqrt()
    balancer = GradNorm(["a", "b", "c"], alpha=0.5, lr=0.01)
    first, second = (torch.tensor(x, dtype=torch.float64) for x in ([1.0, 1.0, 2.0], [0.5, 1.0, 1.0]))
    w = torch.ones(3, dtype=torch.float64)
    for losses in (first, second, second):
        torch.testing.assert_close(weights(balancer, rows, losses), w, rtol=1e-5, atol=0)
        leaf = w.clone().requires_grad_()
        rates = losses / first / (losses / first).mean()
        target = ((leaf * norms).mean() * rates**0.5).detach()
        (slope,) = torch.autograd.grad((leaf * norms - target).abs().sum(), leaf)
        w = w - 0.01 * slope
        w = w * 3 / w.sum()


def test_gradnorm_comes_to_equal_norms_at_equal_rates() -> None:
    balancer = GradNorm(["a", "b"], lr=0.01)
    rows = torch.diag(torch.tensor([1.0, 3.0], dtype=torch.float64))
    for _ in range(500):
        w = weights(balancer, rows)
    torch.testing.assert_close(w, torch.tensor([1.5, 0.5], dtype=torch.float64), atol=0.05, rtol=0)


# --- the solver below MGDA and UPGrad


@pytest.mark.parametrize("seed", SEEDS)
def test_nonnegative_is_scipy_s(seed: int) -> None:
    a = gradients(7, seed, width=7)
    b = gradients(1, seed + 100, width=7)[0]
    expected, _ = scipy.optimize.nnls(a.numpy(), b.numpy())
    torch.testing.assert_close(nonnegative(a.T @ a, a.T @ b), torch.from_numpy(expected), atol=1e-7, rtol=1e-6)


def test_nonnegative_meets_its_conditions_on_every_sign_of_two() -> None:
    for b in itertools.product((-1.0, 0.0, 2.0), repeat=2):
        matrix, target = torch.tensor([[2.0, -1.0], [-1.0, 1.0]]).double(), torch.tensor(b).double()
        x = nonnegative(matrix, target)
        slope = matrix @ x - target
        assert (x >= 0).all()
        assert (slope >= -1e-9).all()
        assert abs(float(x @ slope)) < 1e-9
        assert np.isfinite(x.numpy()).all()
