"""What tasks pull at, over one process and several: the same weights, the same step."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from graftrec.data.schema import Feature, Label, Schema, Stream, Table
from graftrec.models.encoder import Encoder
from graftrec.models.heads.linear import Linear
from graftrec.models.trunks.mmoe import MMoE
from graftrec.tasks.base import Task
from graftrec.tasks.binary import Binary
from graftrec.tasks.losses.bce import Bce
from graftrec.training.balancers.base import Balancer
from graftrec.training.gradients import averaged, exchange, gramian, watched
from graftrec.training.lightning_module import GraftModule
from graftrec.training.optimizers.rowwise import RowWise
from processes import spawn

ROWS = 12
TASKS = ("a", "b", "c")


class Watching(Balancer):
    """Weights that the losses and the Gramian decide, so that a wrong one of either shows."""

    needs_gramian = True

    def __init__(self, at: str) -> None:
        super().__init__()
        self.at = at

    def forward(self, losses: Tensor, gramian: Tensor | None = None) -> Tensor:
        assert gramian is not None
        weights = 1 + gramian.sum(1) / gramian.trace()
        return (weights.detach() * losses).sum() + losses.prod().sqrt()


def model(balancer: Balancer, sparse: bool) -> GraftModule:
    torch.manual_seed(0)
    features = (Feature("user", "id", "user"), Feature("price", "number"))
    labels = tuple(Label(name, "binary") for name in TASKS)
    schema = Schema({"user": Table("user", 20)}, {"rows": Stream("rows", features, labels)})
    encoder = Encoder(schema, 4, dropout=0.0, sparse=sparse)
    trunk = MMoE(2, 4, False, TASKS, experts=2, hidden=[6, 5])
    tasks: dict[str, Task] = {
        name: Binary(Linear(5), Bce(), "rows", name, label, weight=1.0 + number)
        for number, (name, label) in enumerate(zip(TASKS, labels, strict=True))
    }
    roles = dict(zip(TASKS, ("source", "target", "shared"), strict=True))
    made = GraftModule(
        encoder, trunk, tasks, roles, balancer, 0.5, lambda p: RowWise(p, lr=0.1), lambda *_: None, {}
    )  # fmt: skip
    made.log_every = 10**9
    return made


def batch(rows: slice) -> dict[str, dict[str, Tensor]]:
    random = torch.Generator().manual_seed(0)
    found = {"user": torch.randint(20, (ROWS,), generator=random), "price": torch.randn(ROWS, generator=random)}
    for name in TASKS:
        found[name] = (torch.rand(ROWS, generator=random) < 0.5).float()
    found["a"][:5] = torch.nan  # the first process has fewer labels than the second
    return {"rows": {name: values[rows] for name, values in found.items()}}


def stepped(made: GraftModule, rows: slice) -> dict[str, Tensor]:
    """Parameters after three steps, gradients brought together as DDP and the module do it."""
    made.log_dict = lambda values: None  # type: ignore[method-assign, assignment]
    optimizer = RowWise([parameter for parameter in made.parameters() if parameter.requires_grad], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        made.training_step(batch(rows), 1).backward()
        for parameter in made.parameters():
            if parameter.grad is not None and not parameter.grad.is_sparse:
                parameter.grad.copy_(averaged(parameter.grad))
        made.on_before_optimizer_step(optimizer)
        optimizer.step()
    return {name: value.clone() for name, value in made.state_dict().items()}


def worker(rank: int, folder: str, at: str, sparse: bool) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    own = slice(0, 6) if rank == 0 else slice(6, ROWS)
    torch.save(stepped(model(Watching(at), sparse), own), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("at", ["representation", "layer", "trunk"])
def test_two_processes_take_the_steps_of_one(at: str, sparse: bool, tmp_path: Path) -> None:
    whole = stepped(model(Watching(at), sparse), slice(None))
    spawn(worker, (str(tmp_path), at, sparse))
    for rank in range(2):
        for name, value in torch.load(f"{tmp_path}/{rank}.pt", weights_only=True).items():
            torch.testing.assert_close(value, whole[name], atol=2e-5, rtol=1e-4)


def test_the_gramian_is_the_jacobian_times_itself() -> None:
    x, w, v = torch.randn(5, 3), nn.Parameter(torch.randn(3, 2)), nn.Parameter(torch.randn(2))
    losses = [(x @ w @ v).pow(2).sum(), (x @ w).sin().sum(), (v**3).sum()]
    jacobian = torch.autograd.functional.jacobian(
        lambda a, b: torch.stack([(x @ a @ b).pow(2).sum(), (x @ a).sin().sum(), (b**3).sum()]),
        (w.detach(), v.detach()),
    )
    flat = torch.cat([part.flatten(1) for part in jacobian], 1)
    torch.testing.assert_close(gramian(losses, [w, v], own=False), flat @ flat.T)
    assert gramian(losses, [w], own=False)[2].tolist() == [0, 0, 0]  # the third does not reach w


def halves(strength: float, half: bool, scale: Tensor | None = None) -> Tensor:
    """The Gramian of two tasks, ``strength`` times as large, from a backward pass in float16 or float32."""
    torch.manual_seed(0)
    shared = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
    heads = [nn.Linear(64, 1) for _ in range(2)]
    x, labels = torch.randn(4096, 32), [(torch.rand(4096) < p).float() for p in (0.3, 0.01)]
    with torch.autocast("cpu", dtype=torch.float16, enabled=half):
        logits = [head(shared(x)).squeeze(1).float() for head in heads]
    losses = [
        strength * nn.functional.binary_cross_entropy_with_logits(*each) for each in zip(logits, labels, strict=True)
    ]
    return gramian(losses, list(shared[2].parameters()), own=False, scale=scale)


@pytest.mark.parametrize("strength", [1.0, 0.1, 0.01, 0.001])
def test_gradients_of_float16_are_scaled_before_they_vanish(strength: float) -> None:
    exact = halves(strength, half=False)
    scaled = halves(strength, half=True, scale=torch.tensor(2.0**16))
    torch.testing.assert_close(scaled, exact, rtol=0.02, atol=0)
    cosine = [found[0, 1] / (found[0, 0] * found[1, 1]).sqrt() for found in (scaled, exact)]
    assert float(cosine[0]) == pytest.approx(float(cosine[1]), abs=5e-3)


def test_the_module_scales_by_what_its_step_is_scaled_by(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=2.0**10)):
        made, rows = model(Watching("layer"), False), batch(slice(None))
        made._trainer = SimpleNamespace(precision_plugin=SimpleNamespace(scaler=scaler))  # type: ignore[assignment]
        seen: list[Tensor | None] = []
        with monkeypatch.context() as patched:
            patched.setattr(
                "graftrec.training.lightning_module.gramian",
                lambda *a, seen=seen, **k: seen.append(k["scale"]) or gramian(*a, **k),
            )
            with watched(made.trunk.meeting()) as outputs:
                logits = made("rows", rows["rows"], TASKS)
            losses = [made.task(name).loss(logits[name], rows["rows"]) for name in TASKS]
            found += [made._gramian(losses, outputs)]
            made.balancer.at = "representation"
            found += [made._gramian(losses, outputs)]
        assert [None if scale is None else float(scale) for scale in seen] == 2 * [None if scaler is None else 1024.0]
    torch.testing.assert_close(found[:2], found[2:])


def test_at_the_layer_and_at_its_output_two_tasks_agree_on_the_sign() -> None:
    made, rows = model(Watching("layer"), False), batch(slice(None))
    with watched(made.trunk.meeting()) as outputs:
        logits = made("rows", rows["rows"], TASKS)
    assert len(outputs) == 1
    losses = [made.task(name).loss(logits[name], rows["rows"]) for name in TASKS]
    at_output = gramian(losses, outputs, own=True)
    by_hand = torch.stack([torch.autograd.grad(l, outputs[0], retain_graph=True)[0].flatten() for l in losses])  # noqa: E741
    torch.testing.assert_close(at_output, by_hand @ by_hand.T)
    with watched(made.trunk.meeting()) as later:
        pass
    made("rows", rows["rows"], TASKS)
    assert not later


def test_a_task_that_does_not_meet_the_others_stays_outside_with_its_weight() -> None:
    class Nothing(Balancer):
        needs_gramian = True

        def forward(self, losses: Tensor, gramian: Tensor | None = None) -> Tensor:
            assert gramian is not None
            assert gramian.shape == (2, 2)
            return 0 * losses.sum()

    made = model(Nothing(), False)
    made.task("c").reads = "encoder"
    made.task("c").head = Linear(8)
    made._inside = ["a", "b"]
    losses = {name: torch.tensor(float(number + 1), requires_grad=True) for number, name in enumerate(TASKS)}
    total, weights = made._balance(losses, losses, ["a", "b"], torch.eye(2))
    assert total == 3
    assert {name: float(weight.detach()) for name, weight in weights.items()} == {"a": 0.0, "b": 0.0, "c": 1.0}


def test_one_task_alone_is_not_balanced() -> None:
    made = model(Watching("layer"), False)
    loss = torch.tensor(2.0, requires_grad=True)
    total, weights = made._balance({"a": loss}, {"a": loss}, ["a"], None)
    assert total == 2
    assert weights["a"] == 1


def meet(rank: int, folder: str, check: Callable[[], Any]) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    check()
    dist.destroy_process_group()


def exchanged() -> None:
    table = nn.Parameter(torch.zeros(5, 1))
    ids = torch.tensor([[1, 1, 4], [2, 4, 0]][dist.get_rank()])[: 3 - dist.get_rank()]
    nn.functional.embedding(ids, table, sparse=True).sum().backward()
    exchange([table])
    assert table.grad is not None
    assert table.grad.is_coalesced()
    assert table.grad.to_dense().flatten().tolist() == [0, 1, 0.5, 0, 1]


@pytest.mark.slow
def test_rows_of_all_processes_are_averaged(tmp_path: Path) -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    spawn(meet, (str(tmp_path), exchanged))
