"""Two processes of DDP bring the rows of tables together themselves, also those that a strategy adds."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from graftrec.data.schema import Feature, Label, Schema, Stream, Table
from graftrec.models.encoder import Encoder
from graftrec.models.heads.linear import Linear
from graftrec.models.trunks.shared_bottom import SharedBottom
from graftrec.tasks.losses.squared import Squared
from graftrec.tasks.regression import Regression
from graftrec.training.balancers.sum import Sum
from graftrec.training.gradients import exchange
from graftrec.training.lightning_module import GraftModule
from graftrec.transfer.lora import LowRankChanges
from processes import spawn

ROWS, WIDTH = 9, 4
Y = Label("y", "number")
SCHEMA = Schema({"user": Table("user", ROWS)}, {"rows": Stream("rows", (Feature("user", "id", "user"),), (Y,))})
TABLE, CHANGE = "encoder.tables.block_4", "encoder.tables.low.4.a"
USERS, ANSWERS = torch.tensor([1, 2, 2, 5, 7, 1]), torch.tensor([1.0, 0.0, 2.0, -1.0, 3.0, 1.0])


def module(changed: bool) -> GraftModule:
    torch.manual_seed(0)
    encoder = Encoder(SCHEMA, WIDTH, dropout=0.0, id_dropout=0.0, sparse=True)
    trunk = SharedBottom(1, WIDTH, False, [3], dropout=0.0)
    tasks = {"y": Regression(Linear(3), Squared(), "rows", "y", Y)}
    made = GraftModule(encoder, trunk, tasks, {"y": "target"}, Sum(), 1.0, torch.optim.SGD, lambda *_: None, {})
    if changed:
        encoder.requires_grad_(False)
        LowRankChanges(2, 1.0).build(made)
        torch.nn.init.normal_(made.get_parameter(CHANGE))
    return made


def left_alone(made: GraftModule) -> list[str]:
    """Parameters that DDP does not bring together; of buffers it has none to bring."""
    return [name for name in made._ddp_params_and_buffers_to_ignore if name in dict(made.named_parameters())]


def gradients(made: GraftModule, wrapped: torch.nn.Module, kept: slice) -> dict[str, Tensor]:
    logits = wrapped("rows", {"user": USERS[kept]}, ["y"])["y"]
    made.task("y").loss(logits, {"y": ANSWERS[kept]}).backward()
    exchange(made.encoder.tables.by_rows())
    return {name: part.grad.to_dense() for name, part in made.named_parameters() if part.grad is not None}


def work(rank: int, changed: bool, folder: str) -> None:
    place, wait = f"file://{folder}/meet", timedelta(seconds=60)
    dist.init_process_group("gloo", init_method=place, rank=rank, world_size=2, timeout=wait)
    made = module(changed)
    wrapped = DistributedDataParallel(made, find_unused_parameters=True)
    torch.save(gradients(made, wrapped, slice(rank, None, 2)), f"{folder}/{rank}")


@pytest.mark.parametrize("changed", [False, True])
def test_ddp_leaves_alone_what_is_read_by_rows(changed: bool) -> None:
    made = module(changed)
    ours = [TABLE, CHANGE] if changed else [TABLE]
    assert left_alone(made) == ours
    kept = gradients(made, made, slice(None))
    assert (CHANGE in kept, TABLE in kept) == (changed, not changed)
    dense = [name for name, part in made.named_parameters() if part.grad is not None and not part.grad.is_sparse]
    assert not set(dense) & set(ours)
    made.encoder.tables.merge()
    assert left_alone(made) == [TABLE]


@pytest.mark.slow
@pytest.mark.parametrize("changed", [False, True])
def test_two_processes_have_the_gradients_of_one(changed: bool, tmp_path: Path) -> None:
    spawn(work, (changed, str(tmp_path)))
    made = module(changed)
    expected = gradients(made, made, slice(None))
    for rank in range(2):
        found = torch.load(tmp_path / str(rank))
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, msg=name)
