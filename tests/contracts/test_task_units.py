"""What every task says of single values: their mean is the metric, whole and per cohort, and whose each of them is."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from discovery import classes
from graftrec.data.batch import Batch, View
from graftrec.data.schema import Label
from graftrec.models.heads.dot import Dot
from graftrec.models.heads.linear import Linear
from graftrec.tasks.base import Task
from graftrec.tasks.entire_space import EntireSpace
from graftrec.tasks.escm2 import ESCM2
from graftrec.tasks.losses.absolute import Absolute
from graftrec.tasks.losses.base import Loss
from graftrec.tasks.losses.bce import Bce
from graftrec.tasks.losses.cross_entropy import CrossEntropy
from graftrec.tasks.losses.ordinal import Ordinal as OrdinalLoss
from graftrec.tasks.losses.quantile import Quantile
from graftrec.tasks.metrics.pointwise import Value
from graftrec.tasks.multi_label import MultiLabel
from graftrec.tasks.ordinal import Ordinal
from graftrec.tasks.quantiles import Quantiles

N, D, C, USERS, ITEMS = 60, 3, 7, 8, 12
COLUMNS = ["y", "also", "third"]
NO_MEANS = {"ece", "ap", "copc", "kappa", "spearman", "recall_macro", "f1_macro", "precision_macro", "gauc_coverage"}
"""Metrics that no values of single rows add up to; ``gauc_coverage`` is the same for every model."""
LISTS = ("coverage@", "novelty@", "popularity_bias@")  # of all lists together
TASKS = [cls for cls in classes("tasks") if not cls.compares]
ROWS = [cls for cls in TASKS if not cls.ranks]
KINDS = [pytest.param(cls, kind, id=f"{cls.__name__}-{kind}") for cls in ROWS for kind in cls.kinds]
CASES = ("some missing", "ties", "constant", "one class", "all missing", "one row", "few classes")
LOSSES: dict[type[Task], Loss] = {Ordinal: OrdinalLoss(), Quantiles: Quantile()}


def made(cls: type[Any], label: Label) -> Any:
    loss = LOSSES.get(cls) or {"binary": Bce(), "number": Absolute(), "category": CrossEntropy()}[label.kind]
    columns: dict[str, Any] = {"columns": COLUMNS} if cls is MultiLabel else {"column": "y"}
    more = {"space": "click", "given": "clicks"} if issubclass(cls, EntireSpace) else {}
    loss = Bce() if cls.__name__ == "Regression" and label.kind == "binary" else loss
    return cls(Linear(D, classes=cls.outputs(label)), loss, "s", label=label, **columns, **more)


def drawn(cls: type[Task], kind: str, case: str, seed: int) -> tuple[Label, Tensor, Batch]:
    """A label, logits and a batch with users, of whom some are nobody, and cohorts."""
    random = torch.Generator().manual_seed(seed)
    rows = 1 if case == "one row" else N
    count = {"category": 2 if case == "few classes" else C}.get(kind, 1)
    label = Label("y", kind, len(COLUMNS) if cls is MultiLabel else count)  # type: ignore[arg-type]
    shape: tuple[int, ...] = (rows, {Ordinal: count - 1, Quantiles: 5, ESCM2: 2}.get(cls, label.classes))
    logits = torch.randn(shape, generator=random)
    if case != "some missing":
        logits = logits.round()
    if case == "constant":
        logits = torch.zeros(shape)  # a probability of a half
    if cls is Ordinal:
        logits = logits.sort(1, descending=True).values
    if label.classes == 1 and cls not in (Ordinal, Quantiles, ESCM2):
        logits = logits[:, 0]

    def answers() -> Tensor:
        if kind == "category":
            values = torch.randint(-1, count, (rows,), generator=random)
            return {"one class": values.clamp(1, 1), "all missing": values * 0 - 1}.get(case, values)
        values = torch.rand(rows, generator=random)
        values = (values < 0.4).float() if kind == "binary" else values * 3
        values = values.masked_fill(torch.rand(rows, generator=random) < 0.2, torch.nan)
        return {"one class": torch.ones(rows), "all missing": values * torch.nan}.get(case, values)

    batch = {name: answers() for name in COLUMNS}
    batch["click"] = (torch.rand(rows, generator=random) < 0.7).float()
    batch["user"] = torch.randint(0, USERS, (rows,), generator=random)
    batch |= {name: torch.rand(rows, generator=random) < 0.3 for name in ("cold_user", "cold_item")}
    return label, logits, batch


def evaluated(task: Task, logits: Tensor, batch: Batch, size: int = 17) -> dict[str, Value]:
    clicks = torch.linspace(-2, 2, len(logits)).round()  # of the task that ESMM and ESCM2 are given
    for low in range(0, len(logits), size):
        kept = slice(low, low + size)
        task.update(logits[kept], {name: values[kept] for name, values in batch.items()}, clicks[kept])
    return task.compute()


def holds(found: dict[str, Value], units: dict[str, Tensor], rows: int) -> None:
    """Values add up to their metrics, and only those of undefined metrics are all missing."""
    for name, values in units.items():
        assert values.shape == (rows,), name
        if name == "user":
            assert values.dtype == torch.int64
            continue
        kept = values[~values.isnan()]
        if found[name].value is None:
            assert not len(kept), name
        else:
            assert float(kept.mean()) == pytest.approx(found[name].value, abs=1e-6), name


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("cls", "kind"), KINDS)
def test_values_of_rows_add_up_to_the_metric(cls: type[Task], kind: str, case: str) -> None:
    for seed in range(3):
        label, logits, batch = drawn(cls, kind, case, seed)
        task = made(cls, label)
        found = evaluated(task, logits, batch)
        units = task.units()
        holds(found, units, len(logits))
        assert torch.equal(units["user"], batch["user"])
        if case not in ("one class", "all missing", "one row"):
            assert any("/cold_both" in name for name in units)
        if case == "some missing":
            assert found[task.main].value is not None
            without = {name for name in found if name not in units}
            assert {name.partition("/")[0] for name in without} <= NO_MEANS


@pytest.mark.parametrize(("cls", "kind"), KINDS)
def test_rows_of_nobody_have_no_users(cls: type[Task], kind: str) -> None:
    label, logits, batch = drawn(cls, kind, "ties", 0)
    task = made(cls, label)
    with_users = evaluated(task, logits, batch)
    del batch["user"]
    found = evaluated(task, logits, batch)
    assert "user" not in task.units()
    holds(found, task.units(), len(logits))
    assert all(with_users[name] == value for name, value in found.items())


@pytest.mark.parametrize("cls", [cls for cls in TASKS if cls.ranks], ids=lambda cls: cls.__name__)
def test_values_of_users_add_up_to_the_metric(cls: type[Task]) -> None:
    random = torch.Generator().manual_seed(0)
    label = Label("next", "category", ITEMS) if cls.over_catalogue else Label("y", "binary")
    task: Any = cls(Dot(D, D), CrossEntropy(), "s", "next", label) if cls.over_catalogue else made(cls, label)
    task.judge_at(3, [5])
    batch = {name: torch.rand(USERS, ITEMS, generator=random) < 0.3 for name in ("relevant", "fresh", "listed")}
    batch |= {name: torch.rand(USERS, generator=random) < 0.3 for name in ("cold_user", "overlap")}
    batch |= {"query": torch.randperm(USERS, generator=random), "history": torch.arange(USERS) * 4}
    batch["relevant"][0] = False
    whole = {"cold_item": torch.rand(ITEMS, generator=random) < 0.3, "popularity": torch.rand(ITEMS, generator=random)}
    batch["own_popularity"] = torch.rand(USERS, generator=random)
    logits = torch.randn(USERS, ITEMS, generator=random).round()
    for low in range(0, USERS, 3):
        part = slice(low, low + 3)
        task.update(logits[part], {name: values[part] for name, values in batch.items()} | whole)
    found, units = task.compute(), task.units()
    defined = {name: value for name, value in units.items() if name in found or name == "user"}
    assert all(values.isnan().all() for name, values in units.items() if name not in defined)  # nobody is in it
    holds(found, defined, USERS)
    assert units["user"].tolist() == list(range(USERS))
    assert "query" not in units
    assert {name for name in found if name not in units} == {name for name in found if name.startswith(LISTS)}


@pytest.mark.parametrize("cls", [cls for cls in classes("tasks") if cls.compares], ids=lambda cls: cls.__name__)
def test_a_task_that_compares_streams_has_no_values(cls: type[Any]) -> None:
    sizes = {"in_dim": D, "fields": 2, "width": D}
    task: Any = cls(["s", "t"], **{k: v for k, v in sizes.items() if k in inspect.signature(cls).parameters})
    for stream in ("s", "t"):
        task.see(View(stream, torch.randn(5, D), torch.randn(5, 2, D), {"user": torch.arange(1, 6)}))
    assert np.isfinite(task.compute()["loss"].value)
    assert task.units() == {}
