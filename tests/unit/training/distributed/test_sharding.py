"""FSDP2 on a CPU: two processes with parts of the weights learn what one process with all of them learns."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from graftrec.data.batch import Encoded
from graftrec.models.layers.embedding_tables import Tables
from graftrec.models.trunks.hstu import HSTU
from graftrec.models.trunks.sasrec import SASRec
from graftrec.training.distributed import fsdp
from graftrec.training.optimizers.rowwise import clip
from processes import spawn

ROWS, LENGTH, WIDTH, PROCESSES = 6, 5, 8, 2


class Model(nn.Module):
    """Tables, a stack of blocks, and a single number, which cannot be cut."""

    def __init__(self, cls: type[Any]) -> None:
        super().__init__()
        self.tables = Tables({"item": 20, "kind": 3}, WIDTH)
        self.trunk = cls(WIDTH, True, layers=2, dropout=0.0, checkpoint=True)
        self.scale = nn.Parameter(torch.ones(()))

    def training_step(self, ids: Tensor) -> Tensor:
        encoded = Encoded(torch.zeros(len(ids), 0, WIDTH), self.tables("item", ids), ids > 0)
        z: Tensor = self.trunk(encoded, ["next"])["next"]
        return (z * self.scale - 1).square().mean()

    validation_step = test_step = look_again = training_step


def learn(model: Model, ids: Tensor) -> torch.optim.Optimizer:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01, eps=1e-3, fused=True)
    fsdp.regroup(optimizer)
    for _ in range(3):
        optimizer.zero_grad()
        model.training_step(ids).backward()
        fsdp.average(model)
        clip(model.parameters(), 0.1)
        optimizer.step()
    return optimizer


def rows() -> Tensor:
    ids = torch.randint(1, 20, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    return ids.index_fill(1, torch.tensor([0]), 0)


def work(rank: int, port: int, cls: type[Any], out: Path) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=PROCESSES)
    torch.manual_seed(0)
    model = Model(cls)
    start = fsdp.state_of(model)
    mesh = init_device_mesh("cpu", (PROCESSES,))
    for _ in range(2):  # Lightning asks once for each stage
        fsdp.shard(model, fsdp.blocks_of(model.trunk), set(), mesh)
    assert isinstance(model.tables.block, DTensor)
    optimizer = learn(model, rows().chunk(PROCESSES)[rank])
    found = fsdp.state_of(model)
    strategy = fsdp.Sharded(PROCESSES)
    kept, cut = strategy.optimizer_state(optimizer), [type(state["exp_avg"]) for state in optimizer.state.values()]
    for state in optimizer.state.values():
        state["exp_avg"].zero_()
    optimizer.load_state_dict(fsdp.parts_of(kept, optimizer))
    assert [type(state["exp_avg"]) for state in optimizer.state.values()] == cut
    assert DTensor in cut
    for number, values in strategy.optimizer_state(optimizer)["state"].items():
        assert all(torch.equal(value, kept["state"][number][name]) for name, value in values.items())
    fsdp.load(model, start)
    back = fsdp.state_of(model)
    assert all(torch.equal(value, start[name]) for name, value in back.items())
    with pytest.raises(RuntimeError, match="scale"):
        fsdp.load(model, {name: value for name, value in start.items() if name != "scale"})
    if rank == 0:
        torch.save(found, out)
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("cls", [SASRec, HSTU])
def test_two_processes_learn_what_one_learns(cls: type[Any], tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(work, (port, cls, tmp_path / "state.pt"), PROCESSES)
    found = torch.load(tmp_path / "state.pt", weights_only=True)
    torch.manual_seed(0)
    model = Model(cls)
    learn(model, rows())
    assert {type(value) for value in found.values()} == {torch.Tensor}
    assert found.keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-4)
