"""The contract of shared tasks that compare what several streams are made into."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather

from graftrec.data.batch import Batch, View
from graftrec.tasks.base import Task, gathered
from graftrec.tasks.metrics.pointwise import Value

Place = Literal["trunk", "encoder"]
Rise = Literal["constant", "ramp"]
KEPT = 1024  # rows of each stream that an evaluation compares
STEEP = 10.0


class Alignment(Task):
    """A loss on the representations z of several streams, without a label or a head; select it as ``shared``.

    What it adds to training is strength * weight * lambda_shared * loss. ``ramp`` is the schedule of Y. Ganin, V.
    Lempitsky, Unsupervised Domain Adaptation by Backpropagation, ICML 2015, https://arxiv.org/abs/1409.7495, section 4:
    2 / (1 + exp(-10 p)) - 1, with the share p of the steps that are done, so that tasks learn before they are aligned.

    An evaluation says ``loss``, at full strength, of the first 1,024 rows of each stream.

    Args:
        across: the streams, at least ``least`` of them. reads: ``trunk`` compares z, ``encoder`` all fields side by
            side. weight: of the loss, above the role's. rise: of its strength in training.
    """

    main = "loss"
    kinds = ()
    compares = True
    rises_by_loss = True  # the strength is a factor of the loss, and not of a gradient inside
    least = 2

    def __init__(
        self,
        across: Sequence[str],
        reads: Place = "trunk",
        weight: float = 1.0,
        rise: Rise = "constant",
    ) -> None:
        nn.Module.__init__(self)  # a task's label, head and loss are not there
        if len(set(across)) < max(self.least, len(across)):
            raise ValueError(f"across should be {self.least} or more streams, each once. Found {', '.join(across)}.")
        if not 0 < weight < float("inf"):
            raise ValueError(f"weight should be positive. Found {weight}.")
        if rise not in get_args(Rise):
            raise ValueError(f"rise should be constant or ramp. Found {rise}.")
        self.across, self.stream, self.column = tuple(across), across[0], ""
        self.reads, self.weight, self.rise, self.given = reads, weight, rise, ""
        self._seen: dict[str, list[View]] = {}

    @property
    def streams(self) -> tuple[str, ...]:
        return self.across

    @property
    def columns(self) -> tuple[str, ...]:
        return ()

    @abstractmethod
    def compare(self, views: Sequence[View], strength: float = 1.0) -> Tensor:
        """The loss of one batch of each stream, in the order of ``across``; an exact 0 where it is not defined."""

    def strength(self, progress: float) -> float:
        """What the schedule says after a share ``progress`` in [0, 1] of all steps."""
        return 1.0 if self.rise == "constant" else 2 / (1 + math.exp(-STEEP * progress)) - 1

    def predict(self, logits: Tensor) -> Tensor:
        """The representation as it is."""
        return logits

    def update(self, logits: Tensor, batch: Batch, given: Tensor | None = None) -> None:
        """Take in z (B, D) of a batch of the first stream."""
        self.see(View(self.stream, logits, logits[:, None], batch))

    def see(self, view: View) -> None:
        """Take in one evaluation batch of the stream that it names; what is beyond the first rows is left."""
        kept = self._seen.setdefault(view.stream, [])
        left = max(0, KEPT - sum(len(part.z) for part in kept))
        if left:
            batch = {name: values[:left].cpu() for name, values in view.batch.items() if name == "user"}
            z, fields = (values[:left].detach().float().cpu() for values in (view.z, view.fields))
            kept.append(View(view.stream, z, fields, batch))

    def compute(self) -> dict[str, Value]:
        views = [self._whole(stream, self._seen.get(stream, [])) for stream in self.across]
        self._seen = {}
        if not all(len(view.z) for view in views):
            return {self.main: Value(None, "0 rows of one of the streams")}
        device = next((part.device for part in self.parameters()), torch.device("cpu"))
        there = [View(v.stream, v.z.to(device), v.fields.to(device), _on(v.batch, device)) for v in views]
        with torch.no_grad():
            return self.judged(there)

    def judged(self, views: Sequence[View]) -> dict[str, Value]:
        """Metrics of the rows that an evaluation kept."""
        return {self.main: Value(float(self.compare(views)))}

    @staticmethod
    def _whole(stream: str, parts: Sequence[View]) -> View:
        own = {name: [getattr(part, name) for part in parts] for name in ("z", "fields")}
        own["user"] = [part.batch["user"] for part in parts if "user" in part.batch]
        found = gathered(own)
        nothing = torch.zeros(0)
        z, fields, users = (found.get(name, nothing) for name in ("z", "fields", "user"))
        return View(stream, z, fields, {"user": users.long()} if len(users) == len(z) else {})

    def units(self) -> dict[str, Tensor]:
        return {}


def everybodys(rows: Tensor) -> Tensor:
    """Rows (n, ...) of all processes, with their gradients: what is no mean over rows is computed of all of them.

    Every process computes the same loss L, and the gather hands each its own rows' gradients from all W of them: W
    times L's, of which DDP takes the mean over processes, so that training sees L as one process would. An evaluation,
    which has no gradients, has brought everybody's rows together already.
    """
    alone = not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1)
    if alone or not torch.is_grad_enabled():
        return rows
    count = torch.tensor([len(rows)], device=rows.device)
    counts = [torch.zeros_like(count) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, count)
    most = int(torch.cat(counts).max())
    padded = F.pad(rows, (*(0, 0) * (rows.ndim - 1), 0, most - len(rows))).contiguous()
    everything: tuple[Tensor, ...] = all_gather(padded)  # type: ignore[no-untyped-call]
    return torch.cat([part[: int(n)] for part, n in zip(everything, counts, strict=True)])


def nothing(views: Sequence[View]) -> Tensor:
    """An exact 0 with a graph."""
    return torch.stack([view.z.sum() * 0 for view in views]).sum()


def _on(batch: Mapping[str, Tensor], device: torch.device) -> Batch:
    return {name: values.to(device) for name, values in batch.items()}
