"""The LightningModule: encoder -> trunk -> heads, L = sum L_source + sum L_target + lambda * sum L_shared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim.lr_scheduler import LRScheduler

from graftrec.data.batch import Aside, Batch, Encoded, Read, View
from graftrec.models import propagation
from graftrec.models.encoder import Encoder
from graftrec.models.interactions.base import Interaction
from graftrec.models.layers.module_names import ByName
from graftrec.models.layers.weight_decay import undecayed
from graftrec.models.trunks.base import Trunk
from graftrec.tasks.alignment import Alignment
from graftrec.tasks.base import Task
from graftrec.tasks.losses.base import everywhere
from graftrec.tasks.metrics.direction import sign
from graftrec.tasks.metrics.pointwise import Value
from graftrec.training.balancers.base import Balancer
from graftrec.training.checkpoints.checkpoint import check_data, check_fit
from graftrec.training.distributed import fsdp
from graftrec.training.gradients import averages, exchange, gramian, pulls, watched
from graftrec.training.nonfinite import Finite
from graftrec.training.optimizers.groups import paced, spare, without_decay
from graftrec.training.optimizers.rowwise import scale, total_norm
from graftrec.transfer.base import ROLES, Phase
from graftrec.utils.errors import DataError
from graftrec.utils.seeds import derived

Optimize = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
Schedule = Callable[[torch.optim.Optimizer, int], LRScheduler | None]


class GraftModule(pl.LightningModule):
    """A shared trunk and per-task heads.

    Args:
        encoder, interaction, trunk: shared by all tasks. tasks: by name. roles: task -> source, target or shared.
        balancer: losses (T,) -> scalar. lambda_shared: weight of the shared tasks' losses, at least 0.
        optimize: parameters -> optimizer. schedule: (optimizer, steps of the phase) -> scheduler or None.
        config: the plain dict that this was built from; saved in checkpoints and nothing else is.
    """

    def __init__(
        self,
        encoder: Encoder,
        trunk: Trunk,
        tasks: Mapping[str, Task],
        roles: Mapping[str, str],
        balancer: Balancer,
        lambda_shared: float,
        optimize: Optimize,
        schedule: Schedule,
        config: dict[str, Any],
        interaction: Interaction | None = None,
    ) -> None:
        super().__init__()
        if lambda_shared < 0:
            raise ValueError(f"lambda_shared should be at least 0. Found {lambda_shared}.")
        self.save_hyperparameters({"config": config})
        self.encoder, self.trunk, self.balancer = encoder, trunk, balancer
        self._inside = [name for name, task in tasks.items() if task.reads != "encoder"]  # whose gradients can meet
        directly = {stream for task in tasks.values() if task.reads == "encoder" for stream in task.streams}
        read = dict.fromkeys(stream for task in tasks.values() for stream in task.streams if stream not in directly)
        encoder.rest(list(read), trunk.reads_events, trunk.reads_fields)
        self.interaction = interaction
        self.tasks = ByName(dict(tasks))
        self.roles, self.lambda_shared = dict(roles), lambda_shared
        self._optimize, self._schedule = optimize, schedule
        self.phase = Phase("joint", ROLES, 1)
        self.data: dict[str, Any] = {}  # what the weights belong to, see `check_data`
        self.seed = 0  # of dropout and whatever else a step draws
        self.log_every = 20  # steps; what is not looked at is not computed
        self.finite = Finite()
        self._spreading = propagation.Spreading()
        self._learned = False  # whether a task learned since the optimizer's last step
        self._before: list[tuple[Tensor, Tensor]] = []  # the balancer's buffers, and what was in them before this step
        self._batches: dict[str, Batch] = {}  # of the step that is being made
        self._spread: propagation.Spread | None = None  # of the evaluation that is going on
        self._evaluates = False
        self.results: dict[str, dict[str, Value]] = {}  # of the last evaluation: task -> metric -> value

    @property
    def _ddp_params_and_buffers_to_ignore(self) -> list[str]:
        """DDP asks when a fit begins, with all that a strategy built: `exchange` brings these together.

        Of buffers, which DDP would send round before every step, only a trunk's depend on a process's own rows.
        """
        own = {id(part) for part in self.encoder.tables.by_rows()}
        kept = [name for name, part in self.named_parameters() if id(part) in own]
        return kept + [name for name, _ in self.named_buffers() if not name.startswith("trunk.")]

    def task(self, name: str) -> Task:
        """The task called ``name``."""
        task = self.tasks[name]
        if not isinstance(task, Task):
            raise TypeError(f"{name} should be a task. Found {type(task).__name__}.")
        return task

    def forward(self, stream: str, batch: Batch, names: Sequence[str]) -> dict[str, Tensor]:
        """Logits of the tasks ``names``, which all read ``stream``; a ranking's are (B, N), positions' (B, L)."""
        return {name: self.task(name)(*read) for name, read in self.read(stream, batch, names).items()}

    def read(
        self,
        stream: str,
        batch: Batch,
        names: Sequence[str],
        aside: list[Aside] | None = None,
        views: dict[str, View] | None = None,
        spread: propagation.Spread | None = None,
    ) -> dict[str, Read]:
        """What each task's head gets to see; the trunk's own losses go to ``aside``.

        What a task sees that compares streams goes to ``views``; ``spread`` is what `spread` says, if it is known.
        """
        schema = self.encoder.schema.streams[stream]
        known = self.spread() if spread is None else spread
        encoded = self.encoder(batch, schema, "candidate" in batch and stream not in known, self.trunk.by)
        encoded = replace(encoded, last="next" not in batch, aside=aside)
        encoded = propagation.into(encoded, batch, self.encoder, known)
        ranked = [name for name in names if self.task(name).ranks and "catalogue" in batch]
        catalogue = propagation.candidates(self.encoder, stream, batch["catalogue"], known)[None] if ranked else None
        inside = [name for name in names if self.task(name).reads != "encoder"]
        z = self._trunk(encoded, inside) if inside else {}
        found = {}
        for name in names:
            read = z[name] if name in z else encoded.fields.flatten(1)
            if read.ndim == 3 and (encoded.last or self.task(name).reads == "trunk"):
                read = read[:, -1]  # of all positions the last is asked
            if views is not None and self.task(name).compares:
                views[name] = View(stream, read, encoded.fields, batch)
                continue
            candidate, cross = (catalogue, batch.get("cross")) if name in ranked else (encoded.candidate, encoded.cross)
            found[name] = Read(read, candidate, cross)
        return found

    def spread(self) -> propagation.Spread:
        """All users and items, of the streams of which the trunk makes them; it runs once a step or evaluation."""
        return self._spreading(self.encoder, self.trunk)

    def _trunk(self, encoded: Encoded, names: Sequence[str]) -> dict[str, Tensor]:
        if self.interaction is not None:
            encoded = replace(encoded, fields=self.interaction(encoded.fields))
        found: dict[str, Tensor] = self.trunk(encoded, names)
        return found

    def weight(self, name: str) -> float:
        """What a task's loss is multiplied with before the balancer: its own weight, times lambda if it is shared."""
        return self.task(name).weight * (self.lambda_shared if self.roles[name] == "shared" else 1.0)

    def training_step(self, batches: dict[str, Batch], batch_idx: int) -> Tensor:
        """One backward for one batch of every stream."""
        self._batches = batches
        aside: list[Aside] = []
        with watched(self.trunk.meeting()) as outputs:
            losses = self._losses(batches, aside)
        own = self._own(aside) if outputs else None
        mean = averages(losses if own is None else {**losses, "trunk": own})  # all processes then decide the same
        left_out = self.finite.left_out(mean)
        self._learned |= len(left_out) < len(mean)
        for name in left_out:
            if name in losses:
                losses[name] = self._nothing()
                mean[name] = torch.zeros_like(mean[name])
            else:
                own = None
        weighted = {name: losses[name] * self.weight(name) for name in self.tasks if name in losses}
        meeting = [name for name in weighted if self.task(name).reads != "encoder"]
        # Lightning writes what the last step of every so many logged
        shown = self.global_step == 0 or (self.global_step + 1) % self.log_every == 0
        pull = None
        if len(meeting) > 1 and (self.balancer.needs_gramian or shown):
            pull = self._gramian([weighted[name] for name in meeting], outputs)
        weighed = {name: mean[name] * self.weight(name) for name in weighted}
        self._before = [(buffer, buffer.clone()) for buffer in self.balancer.buffers()]
        total, weights = self._balance(weighted, weighed, meeting, pull)
        if own is not None:  # the trunk's own is nobody's task: no balancer weighs it
            total = total + own
            if shown:
                self.log("train/loss/trunk", mean["trunk"])
        if shown:
            self._log_losses(losses, weights, total)
            if pull is not None:
                self.log_dict(pulls({name: weighed[name] for name in meeting}, pull))
            if self.finite.skipped:
                self.log_dict({f"train/skipped/{name}": float(times) for name, times in self.finite.skipped.items()})
        return total

    def _losses(self, batches: Mapping[str, Batch], aside: list[Aside] | None) -> dict[str, Tensor]:
        """The loss of each task that learns in this phase; what the trunk has to add goes to ``aside``."""
        losses: dict[str, Tensor] = {}
        active = [name for name in self.tasks if self.roles[name] in self.phase.roles]
        across: dict[str, dict[str, View]] = {}  # of tasks that compare streams: task -> stream
        spread = self.spread()
        for stream, batch in batches.items():
            names = [name for name in active if stream in self.task(name).streams]
            views: dict[str, View] = {}
            reads = self.read(stream, batch, names, aside, views, spread) if names else {}
            for name, view in views.items():
                across.setdefault(name, {})[stream] = view
            logits = {n: self.task(n)(*read) for n, read in reads.items() if not self.task(n).over_catalogue}
            for name, read in reads.items():
                task = self.task(name)
                if task.over_catalogue:
                    loss = task.learn(read, batch)
                else:
                    loss = task.loss(logits[name], batch, logits.get(task.given))
                for means in self.phase.means:
                    loss = means.loss(name, task, loss, logits.get(name), stream, batch)
                losses[name] = loss
        with torch.enable_grad():  # rows of all processes come together where there are gradients
            for name, seen in across.items():
                losses[name] = self._compared(name, seen)
        return losses

    def _own(self, aside: Sequence[Aside]) -> Tensor | None:
        """What the trunk adds to the tasks' losses: of the rows of all streams, and once a step of its weights."""
        parts = [part.total * everywhere(part.cases) for part in aside]
        penalty = self.trunk.penalty()
        parts += [] if penalty is None else [penalty]
        return torch.stack(parts).sum() if parts else None

    def _nothing(self) -> Tensor:
        """An exact 0 that has a graph, as DDP waits for every weight; tables by row and FSDP2's parts need none."""
        own = {id(part) for part in self.encoder.tables.by_rows()}
        parts = [p for p in self.parameters() if p.requires_grad and id(p) not in own and not isinstance(p, DTensor)]
        zeros = [(part * 0).nan_to_num().sum() for part in parts]
        return torch.stack(zeros or [torch.zeros((), requires_grad=True)]).sum()

    def _alignment(self, name: str) -> Alignment:
        task = self.task(name)
        if not isinstance(task, Alignment):
            raise TypeError(f"{name} should compare streams. Found {type(task).__name__}.")
        return task

    def _compared(self, name: str, seen: Mapping[str, View]) -> Tensor:
        """The loss of a task on what its streams were made into, as strong as its schedule says by now."""
        task = self._alignment(name)
        steps = float(self.trainer.estimated_stepping_batches)
        strength = task.strength(min(1.0, self.global_step / steps))
        return task.compare([seen[stream] for stream in task.across], strength)

    def _balance(
        self, losses: dict[str, Tensor], means: dict[str, Tensor], meeting: list[str], gramian: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar to minimise, and d scalar / d loss of each task.

        A balancer of gradients sees the tasks whose gradients meet; the others stay outside with the weight that they
        have (one that does not reach the place where gradients are measured would look free, and get everything). Every
        process gets the same weights, since the balancer sees ``means``, losses of all rows: with w = d scalar / d
        losses, the process's own part is w * loss.
        """
        inside = [name for name in self.tasks if name in losses]
        if self.balancer.needs_gramian:
            inside = meeting if len(meeting) > 1 else []
        weights = {name: torch.ones_like(loss) for name, loss in losses.items()}
        total = torch.stack([losses[name] for name in losses if name not in inside] or [torch.zeros(())]).sum()
        if inside:
            known = self._known
            vector, seen = self._vector(losses), self._vector(means).detach().requires_grad_()
            scalar = self.balancer(seen, gramian)
            (slopes,) = torch.autograd.grad(scalar, seen, retain_graph=True)
            weights |= {name: slope for name, slope in zip(known, slopes, strict=True) if name in losses}
            total = total + scalar + (slopes.detach() * (vector - vector.detach())).sum()
        return total, weights

    @property
    def _known(self) -> list[str]:
        """Tasks in the order in which the balancer knows them."""
        return self._inside if self.balancer.needs_gramian else list(self.tasks)

    def _vector(self, losses: Mapping[str, Tensor]) -> Tensor:
        """What a balancer sees: all tasks by position, those that rest in this phase as an exact 0."""
        zero = next(iter(losses.values())) * 0
        return torch.stack([losses.get(name, zero) for name in self._known])

    def look_again(self, batches: Mapping[str, Batch], batch_idx: int) -> None:
        """Tell the balancer the losses of the batch that a step was just made with, drawn as they were for it.

        Only the balancer learns from this: running means of the trunk are as they were.
        """
        running = [(buffer, buffer.clone()) for buffer in kept_buffers(self.trunk)]
        self.on_train_batch_start({}, batch_idx)  # the same dropout, and the same negatives
        with torch.no_grad(), self.trainer.precision_plugin.train_step_context():
            mean = averages(self._losses(batches, None))
            self.balancer.look(self._vector({name: mean[name] * self.weight(name) for name in mean}))
            for buffer, before in running:
                buffer.copy_(before)

    def _gramian(self, losses: list[Tensor], outputs: list[Tensor]) -> Tensor | None:
        """Of the tasks' gradients at the place that the balancer names; None where nothing trains there."""
        at = self.balancer.at
        scaler = None if self._trainer is None else getattr(self.trainer.precision_plugin, "scaler", None)
        scale = None if scaler is None else scaler.scale(torch.ones((), device=losses[0].device))  # of float16
        if at == "representation" and len(outputs) == 1 and outputs[0].requires_grad:
            return gramian(losses, outputs, own=True, scale=scale)
        place = self.trunk if at == "trunk" else self.trunk.meeting()
        parameters = [parameter for parameter in place.parameters() if parameter.requires_grad]
        return gramian(losses, parameters, own=False, scale=scale) if parameters else None

    def _log_losses(self, losses: dict[str, Tensor], weights: dict[str, Tensor], total: Tensor) -> None:
        values = {f"train/loss/{name}": loss for name, loss in losses.items()}
        for role in self.phase.roles:
            # of the equation's three parts lambda stands outside: a sweep over it compares the same quantity
            parts = [loss * self.task(name).weight for name, loss in losses.items() if self.roles[name] == role]
            if parts:
                values[f"train/loss/{role}"] = torch.stack(parts).sum()
        values |= {f"train/weight/{name}": weight * self.weight(name) for name, weight in weights.items()}
        values["train/loss/total"] = total
        self.log_dict(averages(values))

    def configure_model(self) -> None:
        """Under Lightning's ModelParallelStrategy, share the weights out over the processes (FSDP2).

        Raises:
            ValueError: a balancer that compares gradients at weights of which a process has a part.
        """
        if self._device_mesh is None:
            return
        blocks = fsdp.blocks_of(self.trunk) if self.trunk.sequential else []
        if blocks and self.balancer.at == "trunk":
            raise ValueError("balancer.at should be layer or representation where weights are shared out. Found trunk.")
        fsdp.shard(self, blocks, set(self.encoder.tables.by_rows()), self._device_mesh["data_parallel"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the phase's strategy keeps beside weights."""
        ours = checkpoint.setdefault("graftrec", {})
        ours |= {"phase": self.phase.name, "means": [means.state_dict() for means in self.phase.means]}
        ours |= {"finite": self.finite.state_dict(), "data": self.data}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Give it back to the strategy. UserError where the weights are of another model."""
        check_data(checkpoint, self.data, "the checkpoint")
        check_fit(checkpoint["state_dict"], self, "the checkpoint")
        for means, state in zip(self.phase.means, checkpoint["graftrec"].get("means", ()), strict=False):
            means.load_state_dict(state)
        if "finite" in checkpoint["graftrec"]:
            self.finite.load_state_dict(checkpoint["graftrec"]["finite"])

    def on_train_batch_start(self, batch: dict[str, Batch], batch_idx: int) -> None:
        """What a step draws depends on where it stands alone, so that a run that was stopped goes on the same."""
        torch.manual_seed(derived(self.seed, self.global_rank, self.current_epoch, batch_idx))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Bring the rows of the tables together over processes, which DDP leaves to us, and what FSDP2 does."""
        exchange(self.encoder.tables.by_rows())
        fsdp.average(self)
        for means in self.phase.means:
            means.gradients()

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: torch.optim.Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """A step and all that belongs to it: when a batch ends, and may be saved, nothing is left to be done."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        for means in self.phase.means:
            means.stepped()
        if self._before and self.balancer.looks_again:
            self.look_again(self._batches, batch_idx)
        self._batches = {}

    def on_train_batch_end(self, outputs: Any, batch: dict[str, Batch], batch_idx: int) -> None:
        """DataError where too many steps in a row were left out."""
        reads = {name: list(self.task(name).streams) for name in self.tasks}
        self.finite.check(f"step {self.global_step} of phase {self.phase.name}", batch, reads)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the norm over dense gradients and rows of tables together, which torch refuses.

        Gradients that are not finite go, and so does a step in which no task has learned: nothing has a step then, and
        neither the optimizer's state nor the balancer's moves.
        """
        norm, parts = total_norm(self.parameters())
        finite, learned = self.finite.steps(norm), self._learned
        self._learned = False
        if not (finite and learned):
            self.zero_grad(set_to_none=True)
            for buffer, before in self._before:
                buffer.copy_(before)
            self._before = []  # there is nothing to look at again
        elif gradient_clip_algorithm in (None, "norm") and gradient_clip_val:
            scale(parts, norm, float(gradient_clip_val))
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_validation_epoch_start(self) -> None:
        """Weights are at rest from here to the end of the evaluation."""
        self._spread, self._evaluates = None, True

    def on_test_epoch_start(self) -> None:
        """The same as in validation."""
        self.on_validation_epoch_start()

    def _spread_once(self) -> propagation.Spread:
        """All users and items: of an evaluation that is going on they are made once."""
        found = self.spread() if self._spread is None else self._spread
        self._spread = found if self._evaluates else None
        return found

    def validation_step(self, batches: dict[str, Batch], batch_idx: int) -> None:
        """Take in one batch; metrics come at the end of the stage."""
        for stream, batch in batches.items():
            ranking = "relevant" in batch
            ours = [name for name in self.tasks if stream in self.task(name).streams]
            names = [
                n
                for n in ours
                if self.task(n).compares
                or (self.task(n).ranks == ranking and (ranking or set(self.task(n).columns) <= set(batch)))
            ]
            views: dict[str, View] = {}
            reads = self.read(stream, batch, names, views=views, spread=self._spread_once()) if names else {}
            logits = {name: self.task(name)(*read) for name, read in reads.items()}
            for name in logits:
                if self.task(name).ranks and bool(logits[name].isnan().any()):
                    raise DataError("TRAIN-002", f"scores of task {name} are NaN; a lower optimizer.lr may help")
                self.task(name).update(logits[name], batch, logits.get(self.task(name).given))
            for name, view in views.items():
                self._alignment(name).see(view)

    def test_step(self, batches: dict[str, Batch], batch_idx: int) -> None:
        """The same as in validation."""
        self.validation_step(batches, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Compute and log ``val/<task>/<metric>``, and ``val/score``, by which checkpoints are chosen."""
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        """Compute and log ``test/<task>/<metric>``."""
        self._finish("test")

    def _finish(self, stage: str) -> None:
        self._spread, self._evaluates = None, False
        self.results = {name: self.task(name).compute() for name in self.tasks}
        values = {
            f"{stage}/{task}/{metric}": value.value
            for task, metrics in self.results.items()
            for metric, value in metrics.items()
            if value.value is not None
        }
        if stage == "val":
            if self.trainer.state.fn != TrainerFn.FITTING:
                return  # the best weights once more: they have been logged when they were found
            values["val/score"] = self.score()
            known = self.trainer.callback_metrics
            for name in [name for name in known if name.startswith("val/") and name not in values]:
                known.pop(name)  # undefined now, and perhaps not an epoch ago: no callback is to trust that
        self.log_dict({name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()})

    def score(self) -> float:
        """Mean of the targets' main metrics in the last evaluation, higher is better; NaN where there is none."""
        scores = []
        for name in self.tasks:
            if self.roles[name] == "target":
                main = self.task(name).main
                value = self.results[name].get(main, Value(None)).value
                scores.append(float("nan") if value is None else sign(main) * value)
        return sum(scores) / len(scores) if scores else float("nan")

    def configure_optimizers(self) -> Any:
        """The optimizer of what trains in this phase, with its schedule."""
        optimizer = self._optimize([parameter for parameter in self.parameters() if parameter.requires_grad])
        spare(optimizer, undecayed(self))
        paced(optimizer, dict(self.named_parameters()), self.phase.rates)
        if any(means.replaces_decay for means in self.phase.means):
            without_decay(optimizer)
        fsdp.regroup(optimizer)
        for means in self.phase.means:
            means.optimized_by(optimizer)
        schedule = self._schedule(optimizer, int(self.trainer.estimated_stepping_batches))
        if schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def kept_buffers(module: nn.Module) -> list[Tensor]:
    """What changes in training beside weights: buffers that checkpoints hold. Others are constants, often large."""
    return [
        buffer
        for part in module.modules()
        for name, buffer in part._buffers.items()
        if buffer is not None and name not in part._non_persistent_buffers_set
    ]
