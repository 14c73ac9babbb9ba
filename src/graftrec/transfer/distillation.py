"""A source as the teacher of the target."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftrec.data.batch import Batch
from graftrec.tasks.base import Task, known
from graftrec.tasks.entire_space import EntireSpace
from graftrec.tasks.escm2 import ESCM2
from graftrec.tasks.losses.quantile import Quantile
from graftrec.transfer.base import SHARED, Means, Past, Phase, Transfer, at_least_one


class Distillation(Transfer):
    """The target learns (1 - share) L + share d(teacher, student): what the source's model says of the target's rows.

    G. Hinton, O. Vinyals, J. Dean, Distilling the Knowledge in a Neural Network, 2015, https://arxiv.org/abs/1503.02531,
    section 2: d = T^2 KL(softmax(teacher / T) || softmax(student / T)), of logits. The teacher is a source's task,
    trained alone, that reads the target's rows; so its label has to be a column of the target's stream too (``bought``
    here and there), learnt by a task of the same kind and a loss of the same form, and its tables have to hold what the
    target's rows are read with: ids or content that both domains share.

    Where we differ: d is that of the paper for classes, and for the candidates of a row where the loss compares them
    with each other; else it is what fits the logits, see `distance`: of binary labels, of each step of ordered classes
    and of each candidate by itself the KL of two classes, of numbers, of their logarithms and of quantiles a squared
    difference. d is taken where L is, each row with its weight; of `ESCM2` the error that is imputed is not taught. The
    student is no smaller, and may start from the teacher. A task over a catalogue has no logits at once, and one that
    compares streams has none at all: both are refused, and so are quantiles of other levels.

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
        if task.over_catalogue or task.compares:
            does = "learns over a catalogue" if task.over_catalogue else "compares streams"
            raise ValueError(f"a target should have logits to be taught. Found '{name}', which {does}.")
        model = teacher(self.phase, task.stream, self.named)
        able = [other for other, t in model.get_submodule("tasks").named_children() if _alike(t, task)]
        chosen = [other for other in able if other == self.named] if self.named else able
        if len(chosen) != 1:
            asked = f", and {self.named} asked for" if self.named else ""
            raise ValueError(
                f"teacher should name one source with the kind of label and the form of loss of '{name}'. Found "
                f"{', '.join(able) or 'no source'} that could be{asked}."
            )
        return model, chosen[0]

    def loss(self, name: str, task: Task, loss: Tensor, logits: Tensor | None, stream: str, batch: Batch) -> Tensor:
        if name not in self._teachers or logits is None:
            return loss
        model, source = self._teachers[name]
        with torch.no_grad():
            said = model.to(logits.device)(stream, batch, [source])[source]
        label = task.both(batch) if isinstance(task, EntireSpace) else task.labels(batch)
        if "log_q" in batch and label.ndim > 1:
            logits, said = logits - batch["log_q"], said - batch["log_q"]  # as in the loss
        counted = known(label)
        apart = distance(_taught(task, logits), _taught(task, said), form_of(task), self.temperature, counted)
        if form_of(task) == "list":
            counted = counted.any(-1)
        return (1 - self.share) * loss + self.share * task.mean(apart, counted, batch)


def form_of(task: Task) -> str:
    """What a task's logits mean: the form of its loss, or, where that has an answer for each label, the kind of it."""
    if task.criterion.form != "one":
        return task.criterion.form
    return "number" if "number" in task.kinds else task.label.kind


def _taught(task: Task, logits: Tensor) -> Tensor:
    """What is learnt from a teacher: of ESCM2 (B, 2) the conversion (B,), not the errors that are imputed."""
    return logits[..., 0] if isinstance(task, ESCM2) else logits


def _alike(teacher: nn.Module, task: Task) -> bool:
    if not isinstance(teacher, Task) or type(teacher) is not type(task) or teacher.stream != task.stream:
        return False
    if teacher.criterion.form != task.criterion.form or (len(task.columns) > 1 and teacher.columns != task.columns):
        return False
    if isinstance(teacher.criterion, Quantile) and isinstance(task.criterion, Quantile):
        one, other = (list(each.head.parameters())[-1] for each in (teacher, task))  # the bias of what comes out
        if teacher.criterion.quantiles != task.criterion.quantiles or len(one) != len(other):
            return False
    return (teacher.label.kind, teacher.label.classes) == (task.label.kind, task.label.classes)


def distance(student: Tensor, teacher: Tensor, form: str, temperature: float, there: Tensor | None = None) -> Tensor:
    """How far logits are from a teacher's, for each label that a loss of this ``form`` has a value for.

    With two = T^2 KL of two classes, of logits by the sigmoid, and all = T^2 KL by the softmax over the last axis:

        binary (...): two              category (..., C): all
        list (B, C): all, over the candidates that are ``there`` (B, C)
        cumulative (..., C - 1): sum of two over the steps
        number, odds (...): (student - teacher)^2, of odds' logits thus of logarithms
        quantiles (..., Q): mean of (student - teacher)^2

    Returns:
        (...), or (B,) of lists.
    """
    student, teacher = student.float(), teacher.float()
    if form in ("number", "odds"):
        return (student - teacher) ** 2
    if form == "quantiles":
        return ((student - teacher) ** 2).mean(-1)
    p, q = teacher / temperature, student / temperature
    if form == "list" and there is not None:
        p, q = (each.masked_fill(~there, torch.finfo(each.dtype).min) for each in (p, q))
    if form in ("category", "list"):
        p = F.log_softmax(p, -1)
        return temperature**2 * (p.exp() * (p - F.log_softmax(q, -1))).sum(-1)
    if form not in ("binary", "cumulative"):
        raise ValueError(f"a distillation should know what logits of the form '{form}' say.")
    yes = p.sigmoid() * (F.logsigmoid(p) - F.logsigmoid(q))
    no = (-p).sigmoid() * (F.logsigmoid(-p) - F.logsigmoid(-q))
    both = temperature**2 * (yes + no)
    return both.sum(-1) if form == "cumulative" else both
