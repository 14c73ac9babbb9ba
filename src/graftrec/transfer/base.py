"""The contract of every transfer strategy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from graftrec.data.batch import Batch
from graftrec.models.layers.stream_norm import StreamNorm
from graftrec.tasks.base import Task

ROLES = ("source", "target", "shared")
SHARED = ("encoder.", "interaction.", "trunk.")  # what all tasks read; not every model has an interaction
OPTIONAL = ("interaction.",)
State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Past:
    """What a phase finds: weights of earlier phases.

    Attributes:
        states: phase -> names of a state dict -> tensors.
        loaded: names of the state dict that were carried into this phase.
        teacher: (phase, stream, source or empty for any) -> a model with that phase's weights, whose source tasks read
            ``stream``; ValueError where they cannot.
        trained: (table, roles) -> which of its rows (rows,) bool the training rows of these roles' streams have.
    """

    states: Mapping[str, State] = field(default_factory=dict)
    loaded: tuple[str, ...] = ()
    teacher: Callable[[str, str, str], nn.Module] | None = None
    trained: Callable[[str, tuple[str, ...]], Tensor] | None = None


class Means:
    """What a phase adds to plain training; each method does nothing unless a strategy says otherwise.

    It serves one phase of one run. ``model`` has the parts ``encoder``, ``trunk`` and ``tasks``, and perhaps
    ``interaction``.
    """

    stays = False  # True: what it builds is still there when the phase has ended, so a model that serves needs it too
    replaces_decay = False  # True: the optimizer's own weight decay is 0 in this phase
    gives_users = False  # True: users of the sources have vectors when the phase has ended

    def build(self, model: nn.Module) -> None:
        """Put parts into a model whose weights are there, and whose frozen parameters are frozen.

        Raises:
            ValueError: a model that has no place for them.
        """

    def told(self) -> str:
        """Which weights `build` has reached, and which not, to be reported; empty: it is not about weights."""
        return ""

    def start(self, model: nn.Module, past: Past) -> None:
        """Look at the model and at what earlier phases left, before the first step.

        Called once more before anything is trained, with the weights that all begin with.

        Raises:
            ValueError: what this phase needs is not there.
        """

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values that a phase in the middle, and the phases after it, need beside the weights."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with what `state_dict` was; after `start`, or, where the phase has ended, without it."""

    def loss(self, name: str, task: Task, loss: Tensor, logits: Tensor | None, stream: str, batch: Batch) -> Tensor:
        """What a task learns by in place of ``loss``; there are no logits where it learns over a catalogue."""
        return loss

    def optimized_by(self, optimizer: torch.optim.Optimizer) -> None:
        """Look at the optimizer of the phase before its first step; hooks of it may be registered."""

    def gradients(self) -> None:
        """Change gradients after a backward pass, before they are clipped."""

    def stepped(self) -> None:
        """Change weights after a step."""

    def finish(self, model: nn.Module) -> str:
        """Leave the model, which has its best weights, as the next phase and the evaluation want it; what to report."""
        return ""


@dataclass(frozen=True)
class Phase:
    """One ``fit``: which roles train, for how many passes over the targets, what is frozen and where weights start.

    Attributes:
        frozen: prefixes of parameter names that do not train.
        start_from: name of an earlier phase whose weights are carried over.
        carry: prefixes of parameter names that are carried over.
        rates: prefix of parameter names -> what the learning rate is multiplied with; the longest that fits counts.
        means: what is done beside plain training, in this order.
    """

    name: str
    roles: tuple[str, ...]
    epochs: int
    frozen: tuple[str, ...] = ()
    start_from: str | None = None
    carry: tuple[str, ...] = SHARED
    rates: Mapping[str, float] = field(default_factory=dict)
    means: tuple[Means, ...] = ()

    def learnt(self, table: str) -> tuple[str, ...]:
        """Roles whose training rows the vectors of a table have learnt from: its own, or all where it starts from an
        earlier phase's vectors, or its means give them."""
        name = f"encoder.tables.{table.replace('.', '_')}.weight"
        carried = self.start_from is not None and name.startswith(tuple(self.carry))
        given = table.rpartition("/")[2] == "user" and any(means.gives_users for means in self.means)
        return ROLES if carried or given else self.roles


class Transfer(ABC):
    """An ordered training plan."""

    whole_weights = False  # True: it reads or changes weights outside a step's forward, which FSDP2 has in parts there

    @abstractmethod
    def phases(self) -> list[Phase]:
        """The phases in order; the last one leaves the model that is evaluated."""


def changeable(model: nn.Module) -> nn.Module:
    """The trunk of a model, in which parts can be put beside weights; ValueError where it steps on its own weights."""
    trunk = model.get_submodule("trunk")
    if getattr(trunk, "steps_inside", False):
        name = type(trunk).__name__
        raise ValueError(
            f"the trunk {name} takes steps on its own weights for each row, and would on what is put there."
        )
    return trunk


def only(model: nn.Module, prefix: str) -> None:
    """Let nothing of a model learn but parameters under ``prefix``: running means rest as well as weights."""
    for name, part in model.named_parameters():
        part.requires_grad_(name.startswith(prefix))
    norms_rest(model)


def norms_rest(model: nn.Module) -> None:
    """Norms with running means take these in training as well, and leave them as they are."""
    for part in model.modules():
        if isinstance(part, StreamNorm):
            part.eval()


def share(model: nn.Module) -> str:
    """How many numbers of a model train, by part; empty where all do."""
    parts: dict[str, list[int]] = {}
    for name, parameter in model.named_parameters():
        part, _, rest = name.partition(".")
        part = "tables" if rest.startswith("tables.") else "heads" if part == "tasks" else part
        count = parts.setdefault(part, [0, 0])
        count[0] += parameter.numel() * parameter.requires_grad
        count[1] += parameter.numel()
    trained, whole = (sum(count[at] for count in parts.values()) for at in (0, 1))
    if trained == whole:
        return ""
    each = ", ".join(f"{part} {own:,} of {of:,}" for part, (own, of) in parts.items() if of)
    return f"{trained:,} of {whole:,} numbers train ({100 * trained / whole:.3g} %): {each}"


def at_least_one(**numbers: int) -> None:
    """ValueError where one of the ``numbers`` is below 1."""
    if min(numbers.values()) < 1:
        names, found = " and ".join(numbers), " and ".join(map(str, numbers.values()))
        raise ValueError(f"{names} should be at least 1. Found {found}.")
