"""Metrics over two processes, one of which no batch was left for: neither waits, and both say what one would."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from graftrec.data.batch import Batch, View
from graftrec.data.schema import Label
from graftrec.models.heads.linear import Linear
from graftrec.tasks.align_mmd import AlignMmd
from graftrec.tasks.base import Task
from graftrec.tasks.binary import Binary
from graftrec.tasks.losses.bce import Bce
from graftrec.tasks.metrics.pointwise import Value
from graftrec.tasks.multi_label import MultiLabel
from graftrec.tasks.recommendation import Recommendation
from processes import spawn

USERS, ITEMS, D = 6, 9, 2
Judge = Callable[[bool], tuple[Task, dict[str, Value]]]


def ranking(takes_part: bool) -> tuple[Task, dict[str, Value]]:
    random = torch.Generator().manual_seed(0)
    task = Recommendation(Linear(D), Bce(), "s", "y", Label("y", "binary"), k=3)
    batch: Batch = {
        "query": torch.arange(USERS),
        "relevant": torch.rand(USERS, ITEMS, generator=random) < 0.4,
        "popularity": torch.rand(ITEMS, generator=random),
        "own_popularity": torch.rand(USERS, generator=random),
    }
    if takes_part:
        task.update(torch.randn(USERS, ITEMS, generator=random), batch)
    return task, task.compute()


def rows(takes_part: bool) -> tuple[Task, dict[str, Value]]:
    random = torch.Generator().manual_seed(0)
    task = Binary(Linear(D), Bce(), "s", "y", Label("y", "binary"))
    batch: Batch = {"y": torch.tensor([0.0, 1.0] * 3), "user": torch.arange(6)}
    if takes_part:
        task.update(torch.randn(6, generator=random), batch)
    return task, task.compute()


def compared(takes_part: bool) -> tuple[Task, dict[str, Value]]:
    random = torch.Generator().manual_seed(0)
    task = AlignMmd(["a", "b"])
    for stream in ("a", "b") if takes_part else ():
        z = torch.randn(5, D, generator=random)
        task.see(View(stream, z, z[:, None], {"user": torch.arange(1, 6)}))
    return task, task.compute()


JUDGES: dict[str, Judge] = {"ranking": ranking, "rows": rows, "compared": compared}


def part(rank: int, name: str, folder: str) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, timeout=timedelta(seconds=30)
    )
    for turn in range(3):  # in the last one nobody has a batch
        task, found = JUDGES[name](rank == turn)
        values = {metric: value.value for metric, value in found.items()}
        torch.save((values, task.units()), f"{folder}/{rank}-{turn}")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("name", JUDGES)
def test_a_process_without_a_batch_holds_nobody_up(name: str, tmp_path: Path) -> None:
    spawn(part, (name, str(tmp_path)))
    task, found = JUDGES[name](True)
    expected = {metric: value.value for metric, value in found.items()}
    for file in ("0-0", "0-1", "1-0", "1-1"):
        values, units = torch.load(tmp_path / file)
        assert values == pytest.approx(expected)
        assert units.keys() == task.units().keys()
        for metric, each in task.units().items():
            torch.testing.assert_close(units[metric], each, equal_nan=True)
    assert torch.load(tmp_path / "1-2") == ({task.main: None}, {})


def dealt(rank: int, world: int) -> tuple[Task, dict[str, Value]]:
    """Three batches, of which each process has its part; of the last, which is one row, somebody has nothing."""
    random = torch.Generator().manual_seed(0)
    task = MultiLabel(Linear(D, classes=2), Bce(), "s", ["a", "b"], Label("a, b", "binary", 2))
    for rows in (6, 5, 1):
        part = slice(rows * rank // world, rows * (rank + 1) // world)
        batch = {name: (torch.rand(rows, generator=random) < 0.5).float() for name in ("a", "b")}
        batch["user"] = torch.randint(0, 4, (rows,), generator=random)
        batch["cold_item"] = torch.rand(rows, generator=random) < 0.5
        logits = torch.randn(rows, 2, generator=random)
        task.update(logits[part], {name: values[part] for name, values in batch.items()})
    return task, task.compute()


def own_part(rank: int, folder: str) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, timeout=timedelta(seconds=30)
    )
    task, found = dealt(rank, 2)
    torch.save(({metric: value.value for metric, value in found.items()}, task.units()), f"{folder}/{rank}")
    dist.destroy_process_group()


@pytest.mark.slow
def test_rows_of_two_processes_have_the_users_of_one(tmp_path: Path) -> None:
    spawn(own_part, (str(tmp_path),))
    task, found = dealt(0, 1)
    assert {"user", "auc/cold_item", "auc/a/warm"} < set(task.units())
    for rank in ("0", "1"):
        values, units = torch.load(tmp_path / rank)
        assert values == {metric: value.value for metric, value in found.items()}
        assert units.keys() == task.units().keys()
        for name, each in task.units().items():
            torch.testing.assert_close(units[name], each, rtol=0, atol=0, equal_nan=True)
