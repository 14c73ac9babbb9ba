"""Shared tasks that compare streams: each against its equation, written out on small numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from discovery import classes
from graftrec.data.batch import View
from graftrec.tasks.align_adversarial import AlignAdversarial, reverse
from graftrec.tasks.align_coral import AlignCoral
from graftrec.tasks.align_mmd import AlignMmd
from graftrec.tasks.alignment import KEPT, Alignment
from graftrec.tasks.contrastive import Contrastive
from graftrec.tasks.reconstruction import Reconstruction
from processes import spawn

D = 3
ALL = [cls for cls in classes("tasks") if cls.compares]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def view(name: str, z: Tensor, user: Sequence[int] = ()) -> View:
    users = torch.tensor(user) if user else torch.arange(1, len(z) + 1)
    return View(name, z, z.detach()[:, None].expand(-1, 2, -1), {"user": users})


def made(cls: type[Alignment]) -> Alignment:
    torch.manual_seed(0)
    more = {AlignAdversarial: {"in_dim": D}, Reconstruction: {"in_dim": D, "fields": 2, "width": D}}
    return cls(["a", "b"], **more.get(cls, {}))  # type: ignore[arg-type]


def test_all_of_them_are_here() -> None:
    assert set(ALL) == {AlignAdversarial, AlignCoral, AlignMmd, Contrastive, Reconstruction}


@pytest.mark.parametrize("cls", ALL)
class TestEach:
    def views(self) -> list[View]:
        return [view("a", draw(5, D).requires_grad_(True)), view("b", 2 + draw(7, D, seed=1).requires_grad_(True))]

    def test_a_gradient_reaches_both_streams(self, cls: type[Alignment]) -> None:
        a, b = draw(5, D).requires_grad_(True), draw(7, D, seed=1).requires_grad_(True)
        loss = made(cls).compare([view("a", a), view("b", 2 + b)])
        assert loss.shape == ()
        for gradient in torch.autograd.grad(loss, [a, b]):
            assert gradient.isfinite().all()
            assert gradient.abs().sum() > 0

    def test_strength_scales_what_reaches_z_and_one_row_is_finite(self, cls: type[Alignment]) -> None:
        task = made(cls)
        a = draw(5, D).requires_grad_(True)
        full, half = (
            torch.autograd.grad(task.compare([view("a", a), view("b", 2 + draw(7, D, seed=1))], strength), a)[0]
            for strength in (1.0, 0.5)
        )
        torch.testing.assert_close(half, full / 2)
        one = draw(1, D).requires_grad_(True)
        loss = task.compare([view("a", one), view("b", draw(1, D, seed=1))])
        assert loss.isfinite()
        assert torch.autograd.grad(loss, one)[0].isfinite().all()

    def test_parts_of_a_batch_are_the_whole_where_it_says_so(self, cls: type[Alignment]) -> None:
        task, (a, b) = made(cls), (draw(8, D), 2 + draw(8, D, seed=1))
        users = [*range(1, 9)]

        def loss(rows: slice) -> Tensor:
            return task.compare([view("a", a[rows], users[rows]), view("b", b[rows], users[rows])])

        mean, whole = (loss(slice(0, 4)) + loss(slice(4, 8))) / 2, loss(slice(0, 8))
        assert bool((mean - whole).abs() < 1e-5 * whole.abs()) == cls.additive

    def test_an_evaluation_says_the_loss_of_the_first_rows_and_starts_over(self, cls: type[Alignment]) -> None:
        task = made(cls)
        a, b = draw(KEPT + 100, D), 1 + draw(KEPT + 100, D, seed=1)
        for start in range(0, KEPT + 100, 300):
            rows = slice(start, start + 300)
            users = list(range(start + 1, start + 1 + len(a[rows])))
            task.see(view("a", a[rows], users))
            task.see(view("b", b[rows], users))
        found = task.compute()["loss"].value
        expected = task.compare([view("a", a[:KEPT]), view("b", b[:KEPT])])
        assert found == pytest.approx(float(expected.detach()), rel=1e-4)
        assert task.compute()["loss"].reason == "0 rows of one of the streams"

    def test_wrong_values_are_refused(self, cls: type[Alignment]) -> None:
        more = {AlignAdversarial: {"in_dim": D}, Reconstruction: {"in_dim": D, "fields": 2, "width": D}}.get(cls, {})
        with pytest.raises(ValueError, match="each once"):
            cls(["a", "a"], **more)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="weight should be positive"):
            cls(["a", "b"], weight=0.0, **more)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="constant or ramp"):
            cls(["a", "b"], rise="up", **more)  # type: ignore[arg-type]


def test_mmd_is_its_double_sum() -> None:
    a, b = draw(4, D), 1 + draw(3, D, seed=1)
    scales = (0.5, 2.0)
    rows = [*a, *b]
    distances = sorted(float((x - y).pow(2).sum()) for i, x in enumerate(rows) for y in rows[:i])
    median = distances[(len(distances) - 1) // 2]

    def kernel(x: Tensor, y: Tensor) -> float:
        square = float((x - y).pow(2).sum())
        return sum(math.exp(-square / (scale * median)) for scale in scales) / len(scales)

    def mean(one: Tensor, other: Tensor) -> float:
        return sum(kernel(x, y) for x in one for y in other) / (len(one) * len(other))

    expected = mean(a, a) + mean(b, b) - 2 * mean(a, b)
    found = AlignMmd(["a", "b"], scales=scales).compare([view("a", a), view("b", b)])
    assert float(found) == pytest.approx(expected, rel=1e-5)
    same = AlignMmd(["a", "b"]).compare([view("a", a), view("b", a)])
    assert float(same) == pytest.approx(0, abs=1e-6)


def test_coral_is_the_distance_of_explicit_covariances() -> None:
    a, b = draw(5, D), draw(6, D, seed=1) * 2

    def covariance(rows: Tensor) -> list[list[float]]:
        n, means = len(rows), rows.mean(0).tolist()
        return [
            [sum((float(r[i]) - means[i]) * (float(r[j]) - means[j]) for r in rows) / (n - 1) for j in range(D)]
            for i in range(D)
        ]

    c, d = covariance(a), covariance(b)
    expected = sum((c[i][j] - d[i][j]) ** 2 for i in range(D) for j in range(D)) / (4 * D * D)
    assert float(AlignCoral(["a", "b"]).compare([view("a", a), view("b", b)])) == pytest.approx(expected, rel=1e-5)
    assert float(AlignCoral(["a", "b"]).compare([view("a", a), view("b", a + 9)])) == pytest.approx(0, abs=1e-6)


def test_more_streams_are_the_sum_of_their_pairs() -> None:
    parts = {name: view(name, draw(6, D, seed=seed) * (seed + 1)) for seed, name in enumerate("abc")}
    for cls in (AlignMmd, AlignCoral):
        pairs = [cls(list(pair)).compare([parts[name] for name in pair]) for pair in ("ab", "ac", "bc")]
        torch.testing.assert_close(cls(["a", "b", "c"]).compare(list(parts.values())), torch.stack(pairs).sum())


def test_a_gradient_is_reversed_and_the_value_is_not() -> None:
    z = draw(4, D).requires_grad_(True)
    out = reverse(z, 0.3)
    assert torch.equal(out, z)
    (gradient,) = torch.autograd.grad((out * 2).sum(), z)
    torch.testing.assert_close(gradient, torch.full_like(z, -0.6))


def test_the_classifier_learns_what_z_unlearns() -> None:
    """Cross-entropy of each stream, half each; z gets minus strength times its gradient, the classifier all of it."""
    task = made(AlignAdversarial)
    assert isinstance(task, AlignAdversarial)
    a, b = draw(4, D).requires_grad_(True), draw(8, D, seed=1)
    loss = task.compare([view("a", a), view("b", b)], 0.25)
    logits = [task.classifier(rows).log_softmax(1) for rows in (a, b)]
    plain = (-logits[0][:, 0].sum() / 4 - logits[1][:, 1].sum() / 8) / 2
    torch.testing.assert_close(loss, plain)
    weight = task.classifier[0].weight
    ours, theirs = (torch.autograd.grad(value, [a, weight]) for value in (loss, plain))
    torch.testing.assert_close(ours[0], -0.25 * theirs[0])
    torch.testing.assert_close(ours[1], theirs[1])
    task.see(view("a", draw(9, D)))
    task.see(view("b", draw(9, D)))
    assert task.compute()["accuracy"].value == pytest.approx(0.5)  # the same rows: nobody can tell


def test_the_schedule_rises_from_0_to_almost_1() -> None:
    task = made(AlignAdversarial)
    assert task.rise == "ramp"
    for progress in (0.0, 0.1, 0.5, 1.0):
        assert task.strength(progress) == pytest.approx(2 / (1 + math.exp(-10 * progress)) - 1)
    assert task.strength(0.0) == 0
    assert made(AlignCoral).strength(0.0) == 1


def test_contrastive_is_a_softmax_over_the_other_streams_users() -> None:
    a, b = draw(4, D), draw(4, D, seed=1)
    task = Contrastive(["a", "b"], temperature=0.5)
    found = task.compare([view("a", a, [3, 5, 5, 0]), view("b", b, [5, 7, 3, 9])])
    left = {3: a[0], 5: (a[1] + a[2]) / 2}
    right = dict(zip([5, 7, 3, 9], b, strict=True))

    def score(x: Tensor, y: Tensor) -> float:
        return float(x @ y / (x.norm() * y.norm())) / 0.5

    def side(one: dict[int, Tensor], other: dict[int, Tensor]) -> float:
        both = [u for u in one if u in other]
        return sum(
            math.log(sum(math.exp(score(one[u], z)) for z in other.values())) - score(one[u], other[u]) for u in both
        ) / len(both)

    assert float(found) == pytest.approx((side(left, right) + side(right, left)) / 2, rel=1e-5)
    nobody = task.compare([view("a", a.requires_grad_(True), [1, 2, 3, 4]), view("b", b, [5, 6, 7, 8])])
    assert float(nobody.detach()) == 0
    assert nobody.requires_grad


def test_reconstruction_is_the_squared_error_of_the_fields() -> None:
    task = made(Reconstruction)
    assert isinstance(task, Reconstruction)
    a, b = draw(4, D), draw(6, D, seed=1)
    found = task.compare([view("a", a), view("b", b)])
    errors = [(task.decoder(z) - torch.cat([z, z], 1)).pow(2).mean() for z in (a, b)]
    torch.testing.assert_close(found, (errors[0] + errors[1]) / 2)
    assert Reconstruction(["a"], in_dim=D, fields=2, width=D).streams == ("a",)


PEOPLE = ([1, 2, 3, 3, 0], [3, 1, 7, 2, 1, 3, 9, 2])  # of the rows of a and b; 1 and 2 are split between processes


def parts_of(weight: Tensor, rows: slice = slice(None)) -> list[View]:
    """Two streams of which a process has these rows."""
    a, b = draw(5, D), draw(8, D, seed=1)
    users, others = (torch.tensor(people)[rows].tolist() for people in PEOPLE)
    return [view("a", a[rows] @ weight, users), view("b", b[rows] @ weight + 1, others)]


def halves(rank: int, folder: str) -> None:
    """Each of two processes has a part of the rows; DDP's mean of gradients is that of one process with all."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    for cls in ALL:
        weight = draw(D, D, seed=9).requires_grad_(True)
        (gradient,) = torch.autograd.grad(made(cls).compare(parts_of(weight, slice(rank, None, 2))), weight)
        dist.all_reduce(gradient)
        if rank == 0:
            torch.save(gradient / 2, f"{folder}/{cls.__name__}")
    dist.destroy_process_group()


def test_two_processes_compare_all_rows(tmp_path: Path) -> None:
    spawn(halves, (str(tmp_path),))
    for cls in ALL:
        weight = draw(D, D, seed=9).requires_grad_(True)
        (gradient,) = torch.autograd.grad(made(cls).compare(parts_of(weight)), weight)
        assert gradient.abs().sum() > 0
        torch.testing.assert_close(torch.load(tmp_path / cls.__name__), gradient, rtol=1e-4, atol=1e-6)
