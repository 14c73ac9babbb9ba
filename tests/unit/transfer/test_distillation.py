"""What a teacher says of every task's rows is learnt, whatever the form of its logits, or refused before anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from discovery import classes
from graftrec.config.instantiate import arguments
from graftrec.data.batch import Batch
from graftrec.data.schema import Label
from graftrec.models.heads.dot import Dot
from graftrec.models.heads.linear import Linear
from graftrec.tasks.align_mmd import AlignMmd
from graftrec.tasks.base import Task
from graftrec.tasks.entire_space import EntireSpace
from graftrec.tasks.losses.absolute import Absolute
from graftrec.tasks.losses.base import Form, Loss
from graftrec.tasks.losses.bce import Bce
from graftrec.tasks.losses.bpr import Bpr
from graftrec.tasks.losses.quantile import Quantile
from graftrec.tasks.losses.weighted_logistic import WeightedLogistic
from graftrec.tasks.multi_label import MultiLabel
from graftrec.tasks.next_item import NextItem
from graftrec.tasks.quantiles import Quantiles
from graftrec.tasks.recommendation import Recommendation
from graftrec.tasks.watch_time import WatchTime
from graftrec.transfer.base import Past
from graftrec.transfer.distillation import Taught, distance, form_of

D, C, CLASSES, Q = 6, 5, 5, 20
TAUGHT = [cls for cls in classes("tasks") if not cls.over_catalogue and not cls.compares]
LEARNT = [
    pytest.param(cls, kind, loss, id=f"{cls.__name__}-{kind}-{loss.__name__}")
    for cls in TAUGHT
    for kind in cls.kinds
    for loss in classes("tasks.losses")
    if loss.form in cls.forms and ("binary" if loss.form == "list" else kind) in loss.kinds
]


def made(cls: type[Any], kind: str, loss: Loss, seed: int, **more: Any) -> Task:
    """A task with a head of its own; with several columns their label is joint."""
    torch.manual_seed(seed)
    columns: dict[str, Any] = {"columns": ["y", "also"]} if cls is MultiLabel else {"column": "y"}
    label = Label("y", kind, CLASSES if kind == "category" else 2 if cls is MultiLabel else 1)  # type: ignore[arg-type]
    entire = {"space": "click", "given": "clicks"} if issubclass(cls, EntireSpace) else {}
    head: nn.Module = Dot(D, D) if cls is Recommendation else Linear(D, classes=cls.outputs(label))
    for part in head.parameters():
        part.data.add_(torch.randn_like(part))
    task: Task = cls(head, loss, "s", label=label, **{**columns, **entire, **more})
    return task


class Model(nn.Module):
    """What a run's module is to a strategy: tasks by name, which read one z."""

    def __init__(self, **tasks: nn.Module) -> None:
        super().__init__()
        self.tasks = nn.ModuleDict(tasks)

    def forward(self, stream: str, batch: Batch, names: Sequence[str]) -> dict[str, Tensor]:
        candidate = [batch["candidate"]] if "candidate" in batch else []
        return {name: self.tasks[name](batch["z"], *candidate) for name in names}


def drawn(task: Task, rows: int) -> Batch:
    torch.manual_seed(rows)
    batch = {"z": torch.randn(rows, D), "click": (torch.arange(rows) % 2).float()}
    if isinstance(task, Recommendation):
        return batch | {"candidate": torch.randn(rows, C, D), "y": (torch.rand(rows, C) < 0.4).float()}
    if task.label.kind == "category":
        return batch | {"y": torch.randint(CLASSES, (rows,))}
    values = torch.rand(rows) if task.label.kind == "number" else (torch.rand(rows) < 0.5).float()
    return batch | {"y": values, "also": 1 - values}


def taught(student: Task, teacher: Task, share: float = 1.0) -> Taught:
    means = Taught("pretrain", share, 2.0, "")
    means.start(Model(x=student), Past(teacher=lambda phase, stream, named: Model(source=teacher)))
    return means


def learnt(means: Taught, student: Task, batch: Batch, loss: float = 0.0) -> Tensor:
    logits = Model(x=student)("s", batch, ["x"])["x"]
    return means.loss("x", student, torch.tensor(loss), logits, "s", batch)


def predicted(task: Task, batch: Batch) -> Tensor:
    """What is learnt, without what nobody can tell: a list loss gives no meaning to a row's level."""
    logits = Model(x=task)("s", batch, ["x"])["x"].detach()
    return logits.softmax(-1) if task.criterion.form == "list" else task.predict(logits)


def test_every_form_is_met() -> None:
    assert {loss.form for case in LEARNT for loss in case.values if isinstance(loss, type) and issubclass(loss, Loss)} \
        == set(get_args(Form))  # fmt: skip
    assert {case.values[0] for case in LEARNT} == set(TAUGHT)


@pytest.mark.parametrize(("cls", "kind", "loss"), LEARNT)
def test_a_student_learns_what_its_teacher_says(cls: type[Task], kind: str, loss: type[Loss]) -> None:
    student, teacher = made(cls, kind, loss(), 0), made(cls, kind, loss(), 1)
    batch = drawn(student, 32)
    means = taught(student, teacher)
    before = (predicted(student, batch) - predicted(teacher, batch)).abs().mean()
    assert before > 0.02
    assert learnt(taught(teacher, teacher), teacher, batch) < 1e-5
    optimizer = torch.optim.Adam(student.parameters(), 0.1)
    for _ in range(250):
        optimizer.zero_grad()
        learnt(means, student, batch).backward()
        optimizer.step()
    after = (predicted(student, batch) - predicted(teacher, batch)).abs().mean()
    assert after < 0.1 * before


@pytest.mark.parametrize("rows", [0, 1, 2, 20])
@pytest.mark.parametrize(("cls", "kind", "loss"), LEARNT)
def test_any_number_of_rows_and_none_with_a_label(cls: type[Task], kind: str, loss: type[Loss], rows: int) -> None:
    student, teacher = made(cls, kind, loss(), 0), made(cls, kind, loss(), 1)
    batch = drawn(student, rows)
    value = learnt(taught(student, teacher, 0.5), student, batch, loss=3.0)
    assert value.shape == ()
    value.backward()
    assert (value > 1.5) == (rows > 0)
    missing = {
        **batch,
        "y": torch.full_like(batch["y"], -1 if kind == "category" else torch.nan),
        "click": batch["click"] * torch.nan,
    }
    if "also" in batch:
        missing["also"] = missing["y"]
    assert learnt(taught(student, teacher, 0.5), student, missing, loss=3.0) == 1.5


@pytest.mark.parametrize(("cls", "kind", "loss"), LEARNT)
def test_a_row_of_weight_two_is_two_rows(cls: type[Task], kind: str, loss: type[Loss]) -> None:
    student, teacher = made(cls, kind, loss(), 0), made(cls, kind, loss(), 1)
    means, batch = taught(student, teacher), drawn(student, 3)
    each = torch.stack(
        [learnt(means, student, {name: part[i : i + 1] for name, part in batch.items()}) for i in range(3)]
    )
    weight = torch.tensor([2.0, 0.0, 1.0])
    torch.testing.assert_close(learnt(means, student, {**batch, "weight": weight}), (each * weight).sum() / 3)
    if "row_weight" in arguments(cls):
        own = made(cls, kind, loss(), 0, row_weight="w")
        torch.testing.assert_close(learnt(taught(own, teacher), own, {**batch, "w": weight}), (each * weight).sum() / 3)


def test_distances_by_hand() -> None:
    torch.manual_seed(0)
    student, teacher, t = torch.randn(4, 3), torch.randn(4, 3), 2.5

    def two(p: Tensor, q: Tensor) -> Tensor:
        p, q = (p / t).sigmoid(), (q / t).sigmoid()
        return t * t * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log())

    p, q = (teacher / t).softmax(-1), (student / t).softmax(-1)
    whole = t * t * (p * (p / q).log()).sum(-1)
    square = (student - teacher) ** 2
    expected = {"binary": two(teacher, student), "category": whole, "list": whole, "number": square, "odds": square,
                "cumulative": two(teacher, student).sum(-1), "quantiles": square.mean(-1)}  # fmt: skip
    assert set(get_args(Form)) <= expected.keys() | {"one"}
    for form, values in expected.items():
        torch.testing.assert_close(distance(student, teacher, form, t), values)
        assert distance(student.bfloat16(), teacher.bfloat16(), form, t).dtype == torch.float32
    some = torch.tensor([True, False, True])
    torch.testing.assert_close(
        distance(student, teacher, "list", t, some.expand(4, 3)),
        distance(student[:, some], teacher[:, some], "list", t),
    )
    with pytest.raises(ValueError, match="what logits of the form 'new' say"):
        distance(student, teacher, "new", t)


def test_what_logits_mean() -> None:
    found = {(task.__name__, kind, form_of(made(task, kind, loss(), 0))) for task, kind, loss in
             (case.values for case in LEARNT)}  # fmt: skip
    assert {(task, form) for task, kind, form in found if kind == "binary"} == {
        ("Binary", "binary"), ("ESMM", "binary"), ("ESCM2", "binary"), ("MultiLabel", "binary"),
        ("Recommendation", "binary"), ("Recommendation", "list"),
        ("Regression", "number"),  # whose logits are the numbers 0 and 1 themselves
    }  # fmt: skip
    assert {(task, form) for task, kind, form in found if kind != "binary"} == {
        ("Regression", "number"), ("WatchTime", "number"), ("WatchTime", "odds"), ("Quantiles", "quantiles"),
        ("Classification", "category"), ("Ordinal", "cumulative"),
    }  # fmt: skip


def test_what_was_drawn_by_popularity_is_compared_as_it_is_learnt() -> None:
    for loss in (Bce(), Bpr()):
        student, teacher = made(Recommendation, "binary", loss, 0), made(Recommendation, "binary", loss, 1)
        batch = drawn(student, 4)
        log_q = torch.randn(4, C)
        logits, said = (Model(x=task)("s", batch, ["x"])["x"] - log_q for task in (student, teacher))
        value = learnt(taught(student, teacher), student, {**batch, "log_q": log_q})
        torch.testing.assert_close(value, distance(logits, said, form_of(student), 2.0).mean())


def refused(student: Task, **teachers: nn.Module) -> None:
    Taught("pretrain", 0.5, 2.0, "").start(
        Model(x=student), Past(teacher=lambda phase, stream, named: Model(**teachers))
    )


BINARY, QUANTILES = ("binary", Bce(), 0), ("number", Quantile(), 0)
FEW = Quantiles(Linear(D, classes=3), Quantile(), "s", "y", Label("y", "number"))
OTHER = Quantile([(i + 1) / 30 for i in range(Q)])
PAIRS: Mapping[str, tuple[Task, Task]] = {
    "another form": (made(Recommendation, "binary", Bpr(), 0), made(Recommendation, *BINARY)),
    "odds": (made(WatchTime, "number", WeightedLogistic(), 0), made(WatchTime, "number", Absolute(), 0)),
    "other columns": (made(MultiLabel, *BINARY), made(MultiLabel, *BINARY, columns=["also", "y"])),
    "other levels": (made(Quantiles, "number", OTHER, 0), made(Quantiles, *QUANTILES)),
    "another number of levels": (made(Quantiles, *QUANTILES), FEW),
}


@pytest.mark.parametrize("case", PAIRS)
def test_logits_without_a_common_form_are_refused(case: str) -> None:
    student, teacher = PAIRS[case]
    with pytest.raises(ValueError, match=r"the form of loss of 'x'\. Found no source"):
        refused(student, source=teacher)
    refused(student, source=student)


def test_a_task_without_logits_is_refused() -> None:
    cross_entropy = next(cls for cls in classes("tasks.losses") if cls.__name__ == "CrossEntropy")
    sequence = NextItem(Dot(D, D), cross_entropy(), "s", "next", Label("next", "category", 7))
    with pytest.raises(ValueError, match="Found 'x', which learns over a catalogue"):
        refused(sequence, source=sequence)
    mmd = AlignMmd(["s", "t"])
    with pytest.raises(ValueError, match="Found 'x', which compares streams"):
        refused(mmd, source=mmd)
