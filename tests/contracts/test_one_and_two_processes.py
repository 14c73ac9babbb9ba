"""One and two processes give one gradient: of every trunk, every task, and what adapters and LoRA train.

One pair of processes takes two steps of every case under torch's own DDP, which refuses a parameter without a gradient
on its second step; each has every other row of the batches that one process has as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from tiny import ROWS, batches, domains_of, module, parts, plain, scramble, shape_of, step, task_shape
from torch import Tensor, nn

from discovery import classes
from graftrec.data.batch import Batch
from graftrec.models.trunks.base import Trunk
from graftrec.tasks.base import Task
from graftrec.training.lightning_module import GraftModule
from graftrec.transfer.adapters import Bottlenecks
from graftrec.transfer.base import Means
from graftrec.transfer.lora import LowRankChanges
from processes import spawn

Case = tuple[Callable[[], GraftModule], Callable[[int], dict[str, Batch]]]
SIZES = (ROWS, 1)  # rows of the first stream, and one more of the second: of one row the second process has none
ADAPTED = ("AITM", "HSTU", "HoME", "MMoE", "SASRec", "SharedBottom", "Transformer")
MEANS: dict[str, Callable[[], Means]] = {
    "adapters": lambda: Bottlenecks(3, ()),
    "lora": lambda: LowRankChanges(2, 4.0),
}
NO_DRAW = {"DIEN": {"auxiliary": 0.0}}  # each process draws other negatives


def of_trunk(cls: type[Trunk], means: str = "") -> GraftModule:
    model = module(cls, **NO_DRAW.get(cls.__name__, {}))
    if means:
        model.encoder.requires_grad_(False)
        model.trunk.requires_grad_(False)
        MEANS[means]().build(model)
    scramble(model)
    return model


def of_task(cls: type[Task]) -> GraftModule:
    model = plain(cls)
    scramble(model)
    return model


def cases() -> dict[str, Case]:
    found: dict[str, Case] = {}
    for trunk in classes("models.trunks"):
        data = partial(batches, shape_of(trunk), cloze=trunk.cloze)
        found[trunk.__name__] = partial(of_trunk, trunk), data
        for means in MEANS if trunk.__name__ in ADAPTED else ():
            found[f"{trunk.__name__} with {means}"] = partial(of_trunk, trunk, means), data
    for task in classes("tasks"):
        found[task.__name__] = partial(of_task, task), partial(batches, task_shape(task), domains=domains_of(task))
    return found


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: part.grad.clone() for name, part in model.named_parameters() if part.grad is not None}


class Stepping(nn.parallel.DistributedDataParallel):
    """DDP as Lightning has it: around the model, with a training step in the place of its forward."""


def pair(rank: int, folder: str) -> None:
    """Take the steps of every case with half of the rows; what went wrong is kept as a text."""
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, timeout=timedelta(seconds=20)
    )
    GraftModule.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
    found: dict[str, Any] = {}
    kept = []  # a DDP module that goes may wait for ever
    for name, (build, data) in cases().items():
        missing: list[str] = []
        try:
            model = build()
            model.forward = lambda given, model=model: model.training_step(given, 0)  # type: ignore[method-assign]
            kept.append(together := Stepping(model))
            found[name] = []
            for rows in (*SIZES, *SIZES):
                torch.manual_seed(0)
                model.zero_grad(set_to_none=True)
                together(parts(data(rows), slice(rank, None, 2))).backward()
                found[name].append(gradients(model))
                missing = [part for part, each in model.named_parameters() if each.requires_grad and each.grad is None]
        except Exception as error:
            found[name] = f"{type(error).__name__}: {str(error)[:160]} ... Without a gradient: {', '.join(missing)}"
    torch.save(found, f"{folder}/{rank}")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("pair")
    spawn(pair, (str(folder),))
    return [torch.load(Path(folder) / str(rank)) for rank in range(2)]


@pytest.mark.parametrize("name", cases())
def test_two_processes_have_the_gradient_of_one(
    name: str, both: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GraftModule, "log_dict", lambda *_, **__: None)
    build, data = cases()[name]
    for found in both:
        if isinstance(found[name], str):
            pytest.fail(found[name], pytrace=False)
        model = build()
        for at, rows in enumerate(SIZES):  # of one model, whose running statistics move
            step(model, data(rows))
            alone = gradients(model)
            assert found[name][at].keys() == alone.keys()
            largest = max(float(each.abs().max()) for each in alone.values())
            assert largest > 0 or rows == 1  # of one row alone there may be nothing to compare
            for part, gradient in alone.items():
                torch.testing.assert_close(
                    found[name][at][part],
                    gradient,
                    rtol=1e-3,
                    atol=2e-6 * max(1.0, largest),
                    msg=f"{part}, {rows} rows",
                )
