"""The contract of every task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from graftrec.data.batch import Batch, Read
from graftrec.data.schema import Label
from graftrec.models.heads.base import Head
from graftrec.tasks.losses.base import Form, Loss, masked_mean
from graftrec.tasks.metrics.pointwise import Value

T = TypeVar("T")
WHOLE = slice(None)  # of a catalogue
Reads = Literal["trunk", "encoder", "positions"]


class Task(nn.Module, ABC):
    """A label, a head, a loss and metrics. Its role is where it is selected, not a property of the task.

    Args:
        head: the task's own network. loss: per label. stream: whose rows it learns from. column: its label there.
        reads: ``trunk`` gives the head z (B, out_dim); ``encoder`` all fields side by side (B, F * D);
            ``positions`` one z for each position of a sequence (B, L, out_dim), in an evaluation the last one's.
        weight: of its loss, above the role's.
        space: a ``binary`` column of the stream; only rows where it is 1 are learnt from and judged, such as
            conversions among what was clicked. row_weight: a ``number`` column of the stream, at least 0, that
            multiplies the loss of a row, above the dataset's own row weights.
        given: another task of the same stream, whose logits `loss` sees as well.
        label, prior, spread: of the column (completed by the program); see `joint`, `prior_of` and `spread_of`.
    """

    ranks = False  # True: evaluated on rankings of a catalogue, else on rows
    over_catalogue = False  # True: learns by `learn` from vectors of all items, whose logits are never there at once
    compares = False  # True: learns by `Alignment.compare` from what it reads of several streams
    additive = True  # False: compares rows with each other, so that parts of a batch do not add up to the whole
    main: str  # the metric that chooses a checkpoint when this task is the target
    kinds: tuple[str, ...]  # of labels that it can learn
    forms: tuple[Form, ...] = ("one",)  # of losses that its logits can have

    def __init__(
        self,
        head: Head,
        loss: Loss,
        stream: str,
        column: str,
        label: Label,
        reads: Reads = "trunk",
        weight: float = 1.0,
        space: str = "",
        row_weight: str = "",
        given: str = "",
        prior: Tensor | None = None,
    ) -> None:
        super().__init__()
        if label.kind not in self.kinds:
            raise ValueError(f"'{column}' is a {label.kind} label, and {type(self).__name__} learns {self.kinds[0]}")
        asked = "binary" if loss.form == "list" else label.kind  # a list has one that was chosen, and others
        if asked not in loss.kinds:
            known = " or ".join(loss.kinds)
            raise ValueError(f"'{column}' is a {label.kind} label, and {type(loss).__name__} is a loss for {known}")
        if loss.form not in self.forms:
            raise ValueError(f"{type(self).__name__} cannot learn by the loss {type(loss).__name__}: {WHO[loss.form]}.")
        loss.check(label)
        if not 0 < weight < float("inf"):
            raise ValueError(f"weight should be positive. Found {weight}.")
        self.head, self.criterion = head, loss
        self.stream, self.column, self.label, self.reads, self.weight = stream, column, label, reads, weight
        self.space, self.row_weight, self.given = space, row_weight, given

        self.register_buffer("prior", torch.zeros(()) if prior is None else prior)
        self.prior: Tensor

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams that it reads: one, unless the task says otherwise."""
        return (self.stream,)

    @property
    def columns(self) -> tuple[str, ...]:
        """The labels that it learns: one, unless the task says otherwise."""
        return (self.column,)

    @classmethod
    def outputs(cls, label: Label) -> int:
        """How many logits the head gives a row: one for each class of a category or column of a `joint` label."""
        return label.classes

    def forward(
        self, z: Tensor, candidate: Tensor | None = None, cross: Tensor | None = None, part: slice = WHOLE
    ) -> Tensor:
        """Logits: the head's, above what the training labels say on average.

        Positions z (B, L, D), each with one candidate (B, L, D), are rows of their own: logits (B, L).

        Args:
            z, candidate, cross: see `Head`. part: of the catalogue, which the candidates are a block of.
        """
        if z.ndim == 3:
            each = None if candidate is None else candidate.flatten(0, 1)[:, None]
            logits = self(z.flatten(0, 1), each)
            return logits.view(*z.shape[:2], *logits.shape[1:] if each is None else ())  # type: ignore[no-any-return]
        logits = self.head(z) if self.label.kind == "category" else self.head(z, candidate, cross)
        return logits + self.prior  # type: ignore[no-any-return]

    @abstractmethod
    def predict(self, logits: Tensor) -> Tensor:
        """What the logits say: probabilities, or numbers in the label's unit."""

    def labels(self, batch: Batch) -> Tensor:
        """The label of each row, missing (-1 or NaN) outside of the task's space."""
        return self._inside(batch[self.column], batch)

    def _inside(self, label: Tensor, batch: Batch) -> Tensor:
        return within(label, batch[self.space]) if self.space else label

    def loss(self, logits: Tensor, batch: Batch, given: Tensor | None = None) -> Tensor:
        """Masked mean over labelled rows, global over processes; an exact 0 with a graph where none is labelled.

        Where candidates were drawn by popularity, ``log_q`` is taken off their logits first; a row's ``weight`` counts.

        Args:
            given: logits of the task that this one is given, if any.
        """
        label = self.labels(batch)
        mask = known(label)
        logits = logits - batch["log_q"] if "log_q" in batch and label.ndim > 1 else logits
        output = logits if self.criterion.of == "logits" else self.scaled(self.predict(logits))
        label = self.scaled(torch.where(mask, label, torch.zeros_like(label)))
        values, counted = self.criterion.measure(output, label, mask)
        return self.mean(values, counted, batch)

    def scaled(self, values: Tensor) -> Tensor:
        """Predictions or labels as the loss compares them: as they are, unless the task says otherwise."""
        return values

    def must(self, given: Tensor | None) -> Tensor:
        """The logits of the task that this one is ``given``; ValueError where that task did not run."""
        if given is None:
            raise ValueError(
                f"given should be a task of the same stream that trains in the same phases. Found {self.given!r}."
            )
        return given

    def learn(self, read: Read, batch: Batch) -> Tensor:
        """The loss of a task that is `over_catalogue`, from what its head reads."""
        return self.loss(self(*read), batch)

    def mean(self, values: Tensor, counted: Tensor, batch: Batch) -> Tensor:
        """Mean of losses (B, ...) over what is ``counted``, each row with its weight."""
        return masked_mean(values * self.row_weights(values, batch), counted)

    def row_weights(self, like: Tensor, batch: Batch) -> Tensor:
        """What the losses of each row are multiplied with, in a shape that goes with ``like`` (B, ...)."""
        found = torch.ones(like.shape, device=like.device)
        for weight in [name for name in ("weight", self.row_weight) if name and name in batch]:
            each = batch[weight].nan_to_num(0.0)
            found = found * each.view(*each.shape, *[1] * (like.ndim - each.ndim))
        return found

    @abstractmethod
    def update(self, logits: Tensor, batch: Batch, given: Tensor | None = None) -> None:
        """Take in one evaluation batch."""

    @abstractmethod
    def compute(self) -> dict[str, Value]:
        """Metrics of everything taken in, over all processes; then start over."""

    @abstractmethod
    def units(self) -> dict[str, Tensor]:
        """Values of the last ``compute`` per user or row (n,), NaN where undefined: what a paired test compares.

        ``user`` (n,) int64 beside them says whose each value is, 0 where nobody knows. Without it each is a unit of
        its own.
        """


WHO: dict[Form, str] = {
    "one": "it has an answer for each label",
    "list": "it compares the candidates of a row, which is for tasks.recommendation",
    "odds": "it learns odds, which is for tasks.watch_time",
    "cumulative": "it needs ordered classes, which is for tasks.ordinal",
    "quantiles": "it needs several quantiles, which is for tasks.quantiles",
}


def known(label: Tensor) -> Tensor:
    """Where a label is one that can be learnt: not missing, and no class that training never saw."""
    return label >= 0 if label.dtype == torch.int64 else ~label.isnan()


def within(label: Tensor, space: Tensor) -> Tensor:
    """``label`` (B, ...), missing where the row's ``space`` (B,) or (B, ...) is not 1."""
    outside = space != 1
    outside = outside.view(*outside.shape, *[1] * (label.ndim - outside.ndim))
    return label.masked_fill(outside, -1 if label.dtype == torch.int64 else torch.nan)


def joint(labels: Sequence[Label]) -> Label:
    """What a task on these columns learns: the one label, or a label of all columns, with one class for each.

    Raises:
        ValueError: labels of several kinds.
    """
    if len(labels) == 1:
        return labels[0]
    kinds = sorted({label.kind for label in labels})
    if len(kinds) != 1:
        raise ValueError(f"columns should be labels of one kind. Found {' and '.join(kinds)}.")
    return Label(", ".join(label.name for label in labels), labels[0].kind, len(labels))


def prior_of(label: Label, values: Tensor) -> Tensor:
    """The constant logits that predict the average of training labels ``values`` (missing ones are left out).

    A head that starts there learns differences from its first step on. From 0, rare positives make the first steps
    push every logit down, until the squared error of a sigmoid has no gradient left (as in T.-Y. Lin et al., Focal
    Loss, 2017, https://arxiv.org/abs/1708.02002, section 4.1). One label of each kind is added, so all is finite. A
    `joint` label has values (n, M) and a constant for each column (M,).
    """
    if label.kind == "category":
        count = torch.bincount(values[values >= 0], minlength=label.classes) + 1.0
        return (count / count.sum()).log()
    if label.classes > 1:
        one = Label(label.name, label.kind)
        return torch.stack([prior_of(one, column) for column in values.unbind(-1)])
    kept = values[~values.isnan()]
    if label.kind == "number":
        return kept.mean() if len(kept) else torch.zeros(())
    return ((kept.sum() + 1) / (len(kept) + 2)).logit()


def spread_of(label: Label, values: Tensor) -> Tensor:
    """The standard deviation of a number's training labels ``values``; 1 of other labels, and where none differ.

    A head learns numbers of this size: whether a label is in euros or in cents is nothing that a step should notice.
    """
    kept = values[~values.isnan()].double() if label.kind == "number" else torch.zeros(0)
    spread = kept.std().float() if len(kept) > 1 else torch.zeros(())
    return spread if spread > 0 and spread.isfinite() else torch.ones(())


def gathered(parts: Mapping[str, Sequence[Tensor]]) -> dict[str, Tensor]:
    """All processes' rows by name, on the CPU: a metric is computed on what it is about, never averaged over ranks.

    Every process has its part of each batch, so taking one part of each in turn gives the order that one process has.
    A process that took nothing in has no name, so one collective brings everything together.
    """
    everything = of_all({name: [value.cpu() for value in values] for name, values in parts.items() if values})
    names = dict.fromkeys(name for own in everything for name in own)
    dealt = {name: zip_longest(*(own.get(name, ()) for own in everything)) for name in names}
    return {name: torch.cat([part for turn in turns for part in turn if part is not None])
            for name, turns in dealt.items()}  # fmt: skip


def of_all(own: T) -> list[T]:
    """What every process has, in the order of their ranks; all of them have to ask."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return [own]
    everything: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everything, own)
    return everything
