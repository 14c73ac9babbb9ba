"""A source as the teacher of the target."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftrec.batch import Batch
from graftrec.losses.base import masked_mean
from graftrec.tasks.base import Task, known
from graftrec.transfer.base import SHARED, Means, Past, Phase, Transfer, at_least_one


class Distillation(Transfer):
    """The target learns (1 - share) L + share T^2 KL(p_teacher(T) || p_student(T)), p(T) = softmax(logits / T).

    G. Hinton, O. Vinyals, J. Dean, Distilling the Knowledge in a Neural Network, 2015, https://arxiv.org/abs/1503.02531,
    section 2. The teacher is a source's task, trained alone, that reads the target's rows; so its label has to be a
    column of the target's stream too (``bought`` here and there), learnt by a task of the same kind, and its tables
    have to hold what the target's rows are read with: ids or content that both domains share.

    Where we differ: of binary labels the KL is of two classes, of each candidate by itself; of numbers it is the square
    of the difference; the student is no smaller, and may start from the teacher. A task over a catalogue has no logits
    at once and is refused.

    Args:
        pretrain, finetune: epochs of the phases. share: in (0, 1]. temperature: T, positive. teacher: name of the
            source, needed where several would do. warm: whether the student starts from its encoder and trunk.
    """

    def __init__(
        self,
        pretrain: int = 2,
        finetune: int = 4,
        share: float = 0.5,
        temperature: float = 2.0,
        teacher: str = "",
        warm: bool = True,
    ) -> None:
        at_least_one(pretrain=pretrain, finetune=finetune)
        if not 0 < share <= 1:
            raise ValueError(f"share should be in (0, 1]. Found {share}.")
        if temperature <= 0:
            raise ValueError(f"temperature should be positive. Found {temperature}.")
        self.pretrain, self.finetune, self.share, self.temperature = pretrain, finetune, share, temperature
        self.teacher, self.warm = teacher, warm

    def phases(self) -> list[Phase]:
        taught = Taught("pretrain", self.share, self.temperature, self.teacher)
        start = "pretrain" if self.warm else None
        return [
            Phase("pretrain", ("source", "shared"), self.pretrain),
            Phase("finetune", ("target",), self.finetune, start_from=start, carry=SHARED, means=(taught,)),
        ]


class Taught(Means):
    """Mixes the loss of every target with the distance to what its teacher says."""

    def __init__(self, phase: str, share: float, temperature: float, teacher: str) -> None:
        self.phase, self.share, self.temperature, self.named = phase, share, temperature, teacher
        self._teachers: dict[str, tuple[nn.Module, str]] = {}  # task -> model, its task

    def start(self, model: nn.Module, past: Past) -> None:
        if past.teacher is None:
            raise ValueError("a distillation should know its teacher. Found none.")
        self._teachers = {}
        for name, task in model.get_submodule("tasks").named_children():
            if isinstance(task, Task):
                self._teachers[name] = self._choose(name, task, past.teacher)

    def _choose(self, name: str, task: Task, teacher: Callable[[str, str, str], nn.Module]) -> tuple[nn.Module, str]:
        if task.over_catalogue:
            raise ValueError(
                f"a target should have logits to be taught. Found '{name}', which learns over a catalogue."
            )
        model = teacher(self.phase, task.stream, self.named)
        able = [other for other, t in model.get_submodule("tasks").named_children() if _alike(t, task)]
        chosen = [other for other in able if other == self.named] if self.named else able
        if len(chosen) != 1:
            asked = f", and {self.named} asked for" if self.named else ""
            raise ValueError(
                f"teacher should name one source with the kind of label of '{name}'. Found "
                f"{', '.join(able) or 'no source'} that could be{asked}."
            )
        return model, chosen[0]

    def loss(self, name: str, task: Task, loss: Tensor, logits: Tensor | None, stream: str, batch: Batch) -> Tensor:
        if name not in self._teachers or logits is None:
            return loss
        model, source = self._teachers[name]
        with torch.no_grad():
            said = model.to(logits.device)(stream, batch, [source])[source]
        label = task.labels(batch)
        counted = known(label) if label.shape == logits.shape[: label.ndim] else torch.ones_like(label).bool()
        apart = distance(logits, said, task.label.kind, self.temperature)
        return (1 - self.share) * loss + self.share * masked_mean(apart, counted)


def _alike(teacher: nn.Module, task: Task) -> bool:
    if not isinstance(teacher, Task) or type(teacher) is not type(task) or teacher.stream != task.stream:
        return False
    return (teacher.label.kind, teacher.label.classes) == (task.label.kind, task.label.classes)


def distance(student: Tensor, teacher: Tensor, kind: str, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) of logits (..., C) of a category or (...) of a binary label; of numbers the square."""
    if kind == "number":
        return (student - teacher) ** 2
    if kind == "category":
        p = F.log_softmax(teacher / temperature, -1)
        return temperature**2 * (p.exp() * (p - F.log_softmax(student / temperature, -1))).sum(-1)
    p, q = teacher / temperature, student / temperature
    yes = p.sigmoid() * (F.logsigmoid(p) - F.logsigmoid(q))
    no = (-p).sigmoid() * (F.logsigmoid(-p) - F.logsigmoid(-q))
    return temperature**2 * (yes + no)
