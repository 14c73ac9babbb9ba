"""What every trunk, head, loss, balancer, transfer, task, dataset and protocol holds.

Classes are found by walking their packages and built from what the program knows, as `config.instantiate.build` does
it: a new file is enough to be tested here.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from discovery import classes
from graftrec.config import instantiate
from graftrec.data.batch import Batch, Encoded
from graftrec.data.datasets.base import Dataset
from graftrec.data.datasets.files import Files
from graftrec.data.datasets.multi import Several
from graftrec.data.protocols.base import Protocol
from graftrec.data.protocols.cross_platform import CrossPlatform
from graftrec.data.schema import Edges, Label
from graftrec.data.splits.base import Split
from graftrec.data.streams.base import Part
from graftrec.data.streams.sampling_config import Candidates
from graftrec.models.encoder import Encoder
from graftrec.models.heads.base import Head
from graftrec.models.heads.dot import Dot
from graftrec.models.heads.linear import Linear
from graftrec.models.interactions.base import Interaction
from graftrec.models.trunks.base import Trunk
from graftrec.tasks.base import Task
from graftrec.tasks.escm2 import ESCM2
from graftrec.tasks.esmm import ESMM
from graftrec.tasks.losses.base import Loss, masked_mean
from graftrec.tasks.losses.cross_entropy import CrossEntropy
from graftrec.tasks.losses.ordinal import Ordinal as OrdinalLoss
from graftrec.tasks.losses.quantile import Quantile
from graftrec.tasks.losses.squared import Squared
from graftrec.tasks.losses.weighted_logistic import WeightedLogistic
from graftrec.tasks.metrics.direction import sign
from graftrec.tasks.multi_label import MultiLabel
from graftrec.tasks.ordinal import Ordinal
from graftrec.tasks.quantiles import Quantiles
from graftrec.tasks.watch_time import WatchTime
from graftrec.training.balancers.base import Balancer
from graftrec.transfer.base import ROLES, Transfer
from graftrec.utils.errors import DataError, UserError

B, F, D, L, C, K, CLASSES = 5, 3, 8, 4, 7, 2, 6
TASKS = ["a", "b"]
STREAMS = {"s": ["user", "item", "numbers"]}
BEHAVIOURS = {"s": 5}
EDGES = {"s": Edges(torch.tensor([1, 1, 2]), torch.tensor([1, 2, 2]), 3, 3, "user")}  # who chose what
TOLD = {"fields": F, "width": D, "tasks": TASKS, "streams": STREAMS, "edges": EDGES, "behaviours": BEHAVIOURS}


def loss_for(label: Label) -> Loss:
    return CrossEntropy() if label.kind == "category" else Squared()


def make(cls: type[Any], **known: Any) -> Any:
    """An instance with the arguments that it takes of those known."""
    return cls(**{name: value for name, value in known.items() if name in instantiate.arguments(cls)})


def name_of(cls: type[Any]) -> str:
    return cls.__name__


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


PACKAGES = ["models.interactions", "models.trunks", "models.heads", "tasks.losses", "training.balancers", "transfer"]


@pytest.mark.parametrize("package", [*PACKAGES, "tasks"])
def test_classes_are_found_and_are_abstract_or_final(package: str) -> None:
    found = classes(package)
    assert len(found) >= 2
    for cls in found:
        assert not [other for other in found if other is not cls and issubclass(other, cls)]
        assert cls.__doc__


# --- trunks


def encoded(cls: type[Trunk]) -> Encoded:
    """B rows, of which the last has an empty history; the newest event is hidden where a trunk guesses what is."""
    mask = torch.arange(L)[None] >= torch.arange(B)[:, None]
    assert not mask[-1].any()
    hidden = mask & (torch.arange(L) == L - 1) if cls.cloze else None
    kinds = 1 << torch.arange(B * L).view(B, L) % 5
    items = draw(B, L, D, seed=2)
    return Encoded(draw(B, F, D), draw(B, L, D, seed=1), mask, stream="s", hidden=hidden, items=items, kinds=kinds)


@pytest.mark.parametrize("cls", classes("models.trunks"), ids=name_of)
class TestTrunks:
    def trunk(self, cls: type[Trunk]) -> Trunk:
        torch.manual_seed(0)
        return make(cls, history=True, **TOLD)

    @pytest.mark.parametrize("tasks", [TASKS, ["b"]])
    def test_one_representation_for_each_task(self, cls: type[Trunk], tasks: list[str]) -> None:
        z = self.trunk(cls)(encoded(cls), tasks)
        assert list(z) == tasks
        shape = (B, L, self.trunk(cls).out_dim) if cls.sequential else (B, self.trunk(cls).out_dim)
        assert {tuple(value.shape) for value in z.values()} == {shape}

    def test_of_a_sequence_the_last_can_be_asked_alone(self, cls: type[Trunk]) -> None:
        if not cls.sequential:
            return
        trunk, e = self.trunk(cls).eval(), encoded(cls)
        last = trunk(replace(e, last=True), TASKS)
        for task, z in trunk(e, TASKS).items():
            assert last[task].shape == (B, 1, trunk.out_dim)
            torch.testing.assert_close(last[task][:-1], z[:-1, -1:])  # the last row is empty
            assert last[task].isfinite().all()

    def test_eval_is_deterministic_finite_and_row_by_row(self, cls: type[Trunk]) -> None:
        trunk, e = self.trunk(cls).eval(), encoded(cls)
        first, again = trunk(e, TASKS), trunk(e, TASKS)
        assert e.history is not None
        assert e.mask is not None
        hidden = None if e.hidden is None else e.hidden[-1:]
        assert e.items is not None
        assert e.kinds is not None
        one = Encoded(e.fields[-1:], e.history[-1:], e.mask[-1:], stream="s", hidden=hidden)
        alone = trunk(replace(one, items=e.items[-1:], kinds=e.kinds[-1:]), TASKS)
        for task in TASKS:
            assert torch.equal(first[task], again[task])
            assert first[task].isfinite().all()
            torch.testing.assert_close(first[task][-1:], alone[task])

    def test_what_the_mask_hides_is_not_read(self, cls: type[Trunk]) -> None:
        trunk, e = self.trunk(cls).eval(), encoded(cls)
        assert e.history is not None
        assert e.mask is not None
        other = replace(e, history=torch.where(e.mask[..., None], e.history, torch.full_like(e.history, 9.0)))
        for task, z in trunk(e, TASKS).items():
            torch.testing.assert_close(trunk(other, TASKS)[task], z)

    def test_a_gradient_of_each_task_reaches_the_meeting_and_the_input(self, cls: type[Trunk]) -> None:
        trunk = self.trunk(cls)
        e = encoded(cls)
        read = e.history if cls.sequential else e.fields
        assert read is not None
        read.requires_grad_(True)
        shared, seen = list(trunk.meeting().parameters()), []
        assert shared
        assert trunk.meeting() in list(trunk.modules())
        trunk.meeting().register_forward_hook(lambda module, given, output: seen.append(output))
        for task in TASKS:
            loss = trunk(e, TASKS)[task].pow(2).sum()
            gradients = torch.autograd.grad(loss, [*shared, read, seen.pop()])
            assert all(g.isfinite().all() and g.abs().sum() > 0 for g in gradients)
            assert not seen  # once a batch

    def test_without_history_it_works_or_says_so(self, cls: type[Trunk]) -> None:
        try:
            trunk = make(cls, history=False, **TOLD)
        except ValueError as error:
            assert "history" in str(error)  # noqa: PT017  it may also work: see the else
        else:
            assert trunk(Encoded(draw(B, F, D), stream="s"), ["a"])["a"].shape == (B, trunk.out_dim)


# --- interactions


@pytest.mark.parametrize("cls", classes("models.interactions"), ids=name_of)
class TestInteractions:
    def interaction(self, cls: type[Interaction]) -> Interaction:
        torch.manual_seed(0)
        return make(cls, fields=F, width=D)

    def test_it_gives_as_many_fields_as_it_says_and_each_row_its_own(self, cls: type[Interaction]) -> None:
        interaction, fields = self.interaction(cls).eval(), draw(B, F, D)
        found = interaction(fields)
        assert found.shape == (B, interaction.fields, D)
        torch.testing.assert_close(interaction(fields[-1:]), found[-1:])

    def test_every_parameter_and_every_field_matters(self, cls: type[Interaction]) -> None:
        interaction, fields = self.interaction(cls), draw(B, F, D).requires_grad_(True)
        gradients = torch.autograd.grad(interaction(fields).pow(2).sum(), [fields, *interaction.parameters()])
        assert all(g.isfinite().all() and g.abs().sum() > 0 for g in gradients)
        assert (gradients[0].abs().sum((0, 2)) > 0).all()


# --- heads


@pytest.mark.parametrize("cls", classes("models.heads"), ids=name_of)
class TestHeads:
    def test_rows(self, cls: type[Head]) -> None:
        try:
            head = make(cls, in_dim=D, item_dim=0, cross_dim=0, classes=1)
        except ValueError as error:
            assert "candidate" in str(error)  # noqa: PT017  a head may need one: it says so
        else:
            assert head(draw(B, D)).shape == (B,)

    def test_classes(self, cls: type[Head]) -> None:
        if "classes" in instantiate.arguments(cls):
            assert make(cls, in_dim=D, item_dim=0, cross_dim=0, classes=CLASSES)(draw(B, D)).shape == (B, CLASSES)
        else:  # then it must refuse what has no candidate
            with pytest.raises(ValueError, match="candidate"):
                make(cls, in_dim=D, item_dim=0, cross_dim=0)

    def test_ranking_is_scoring_the_same_candidates(self, cls: type[Head]) -> None:
        torch.manual_seed(0)
        head = make(cls, in_dim=D + 1, item_dim=D, cross_dim=K, classes=1).eval()
        z, items, cross = draw(B, D + 1), draw(C, D, seed=1), draw(B, C, K, seed=2)
        ranked = head(z, items[None], cross)
        assert ranked.shape == (B, C)
        torch.testing.assert_close(ranked, head(z, items.expand(B, C, D), cross))
        blocks = [head(z, items[None, part], cross[:, part]) for part in (slice(0, 3), slice(3, C))]
        torch.testing.assert_close(torch.cat(blocks, 1), ranked)  # a block at a time, as a large catalogue is ranked

    def test_every_parameter_and_the_candidate_matter(self, cls: type[Head]) -> None:
        torch.manual_seed(0)
        head = make(cls, in_dim=D, item_dim=D, cross_dim=K, classes=1).eval()
        candidate = draw(B, C, D, seed=1).requires_grad_(True)
        loss = head(draw(B, D), candidate, draw(B, C, K, seed=2)).pow(2).sum()
        gradients = torch.autograd.grad(loss, [candidate, *head.parameters()])
        assert all(g.abs().sum() > 0 for g in gradients)


# --- losses


NUMBERS = torch.tensor([0.5, 2.0, 0.0, 3.0, 1.0])
SANE = {"binary": (draw(B) * 3, torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0])),
        "candidates": (draw(B, C) * 3, (draw(B, C, seed=4) > 0).float()),
        "category": (draw(B, CLASSES) * 3, torch.tensor([0, 5, 2, 2, 1])),
        "cumulative": (draw(B, CLASSES - 1) * 3, torch.tensor([0, 5, 2, 2, 1])),
        "number": (draw(B) * 3, NUMBERS),
        "odds": (draw(B) * 3, NUMBERS),
        "quantiles": (draw(B, C) * 3, NUMBERS)}  # fmt: skip


def fitting(loss: Loss) -> list[str]:
    """Kinds of output and label that a loss says it is for."""
    if loss.form != "one":
        return ["candidates" if loss.form == "list" else loss.form]
    return [*loss.kinds, *["candidates"] * ("binary" in loss.kinds)]


def output_of(loss: Loss, kind: str, logits: Tensor) -> Tensor:
    return logits.sigmoid() if loss.of == "prediction" and kind in ("binary", "candidates") else logits


def right_and_wrong(kind: str) -> tuple[Tensor, Tensor]:
    """Logits, or numbers, that say what the labels are, and the contrary."""
    label = SANE[kind][1]
    if kind in ("number", "quantiles"):
        right = label if kind == "number" else label[:, None].expand(-1, C)
        return right, right + 3
    hot = {
        "category": lambda: torch.nn.functional.one_hot(label, CLASSES).float(),
        "cumulative": lambda: (label[:, None] > torch.arange(CLASSES - 1)).float(),
        "odds": lambda: (label > 0).float(),
    }.get(kind, lambda: label)()
    return (2 * hot - 1) * 4, (1 - 2 * hot) * 4


@pytest.mark.parametrize("cls", classes("tasks.losses"), ids=name_of)
class TestLosses:
    def test_one_value_per_label(self, cls: type[Loss]) -> None:
        fits = fitting(cls())
        assert fits
        assert all(cls()(*SANE[kind]).shape == SANE[kind][1].shape for kind in fits)
        assert cls().of in ("logits", "prediction")

    @pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
    def test_non_negative_with_finite_gradients(self, cls: type[Loss], scale: float) -> None:
        loss = cls()
        for kind in fitting(loss):
            logits, label = (SANE[kind][0] * scale).requires_grad_(True), SANE[kind][1]
            values = loss(output_of(loss, kind, logits), label)
            assert (values >= 0).all()
            (gradient,) = torch.autograd.grad(values.sum(), logits)
            assert values.isfinite().all()
            assert gradient.isfinite().all()

    def test_the_right_answer_costs_less_than_the_wrong_one(self, cls: type[Loss]) -> None:
        loss = cls()
        for kind in fitting(loss):
            label = SANE[kind][1]
            right, wrong = (loss(output_of(loss, kind, x), label) for x in right_and_wrong(kind))
            counted = loss.measure(SANE[kind][0], label, torch.ones_like(label, dtype=torch.bool))[1]
            assert counted.any()
            assert counted.all() or loss.form == "list"  # which counts positives
            assert (right < wrong)[counted].all()

    def test_hidden_labels_leave_no_trace(self, cls: type[Loss]) -> None:
        loss = cls()
        for kind in fitting(loss):
            logits, label = SANE[kind][0].clone().requires_grad_(True), SANE[kind][1]
            mask = torch.zeros_like(label, dtype=torch.bool)
            mask[0] = True
            values, counted = loss.measure(output_of(loss, kind, logits), label, mask)
            assert not counted[1:].any()
            (gradient,) = torch.autograd.grad(masked_mean(values, counted), logits)
            assert gradient[0].abs().sum() > 0
            assert not gradient[1:].any()


# --- balancers


def pulls(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Losses (T,) and a Gramian (T, T) of gradients of different lengths, many of which conflict."""
    gradients = draw(rows, 6, seed=seed).double() * torch.exp(draw(rows, 1, seed=seed + 1000).double())
    return torch.exp(draw(rows, seed=seed + 2000).double()), gradients @ gradients.T


@pytest.mark.parametrize("cls", classes("training.balancers"), ids=name_of)
class TestBalancers:
    def balancer(self, cls: type[Balancer], tasks: int = 4) -> Balancer:
        return make(cls, tasks=list("abcdefgh"[:tasks]), seed=7, warmup=1)

    def weights(self, balancer: Balancer, losses: Tensor, gramian: Tensor) -> Tensor:
        losses = losses.clone().requires_grad_()
        total = balancer(losses, gramian if balancer.needs_gramian else None)
        assert total.shape == ()
        (found,) = torch.autograd.grad(total, losses)
        return found

    def test_a_scalar_that_pulls_every_loss_down(self, cls: type[Balancer]) -> None:
        losses = torch.tensor([0.5, 2.0, 10.0])
        balancer = self.balancer(cls, 3)
        assert (self.weights(balancer, losses, torch.eye(3)) > 0).all()
        if not cls.needs_gramian:  # those weights are constants for the backward, and may depend on the losses
            assert balancer(losses + 1) > balancer(losses)
        for seed in range(10):  # no conflict turns a loss around
            losses, gramian = pulls(4, seed)
            assert (self.weights(self.balancer(cls), losses, gramian) >= 0).all()

    def test_equal_tasks_weigh_equally_and_as_in_the_plain_sum(self, cls: type[Balancer]) -> None:
        balancer = self.balancer(cls)
        drawn = not cls.permutation_equivariant and not cls.needs_gramian
        found = [self.weights(balancer, torch.ones(4), torch.eye(4)) for _ in range(4000 if drawn else 3)]
        torch.testing.assert_close(torch.stack(found).mean(0), torch.ones(4), atol=0.05 if drawn else 1e-5, rtol=0)

    def test_a_task_alone_has_weight_one(self, cls: type[Balancer]) -> None:
        balancer = self.balancer(cls, 1)
        for seed in range(3):
            losses, gramian = pulls(1, seed)
            assert float(self.weights(balancer, losses, gramian)) == pytest.approx(1)
        assert not any(parameter.requires_grad for parameter in balancer.parameters())

    def test_a_task_at_rest_takes_no_part(self, cls: type[Balancer]) -> None:
        balancer, smaller = self.balancer(cls), self.balancer(cls, 3)
        rest = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64)  # the last
        for seed in range(3):
            losses, gramian = pulls(4, seed)
            found = self.weights(balancer, losses * rest, gramian * rest * rest[:, None])
            expected = self.weights(smaller, losses[:3], gramian[:3, :3])
            assert found.isfinite().all()
            if cls.permutation_equivariant:  # what is drawn is drawn for another number of tasks
                torch.testing.assert_close(found[:3], expected, rtol=1e-5, atol=1e-6)
        losses, gramian = pulls(4, 3)
        assert not balancer(losses * 0, gramian * 0).isnan()
        assert self.weights(balancer, losses, gramian).isfinite().all()

    def test_what_is_undefined_shows(self, cls: type[Balancer]) -> None:
        balancer = self.balancer(cls)
        for seed in range(2):
            losses, gramian = pulls(4, seed)
            losses[1] = torch.nan
            assert balancer(losses, gramian).isnan()
        losses, gramian = pulls(4, 3)
        assert balancer(losses, gramian).isfinite()  # and is not kept
        if cls.needs_gramian:
            gramian[1, 2] = torch.nan
            assert balancer(losses, gramian).isnan()
        try:
            total = self.balancer(cls)(-losses, pulls(4, 3)[1])
        except ValueError as error:
            assert "at least 0" in str(error)  # noqa: PT017  a method may be defined for negative losses: see the else
        else:
            assert total.isfinite()

    def test_a_run_goes_on_where_its_checkpoint_ends(self, cls: type[Balancer]) -> None:
        first, second = self.balancer(cls), self.balancer(cls)
        for seed in range(5):
            self.weights(first, *pulls(4, seed))
        second.load_state_dict(first.state_dict())
        torch.manual_seed(1)
        state = torch.get_rng_state()
        for seed in range(5, 8):
            assert torch.equal(self.weights(first, *pulls(4, seed)), self.weights(second, *pulls(4, seed)))
        assert torch.equal(torch.get_rng_state(), state)

    def test_only_training_changes_the_state(self, cls: type[Balancer]) -> None:
        balancer = self.balancer(cls).eval()
        before = {name: value.clone() for name, value in balancer.state_dict().items()}
        found = [self.weights(balancer, *pulls(4, 0)) for _ in range(2)]
        assert torch.equal(*found)
        for name, value in balancer.state_dict().items():
            torch.testing.assert_close(value, before[name], equal_nan=True, rtol=0, atol=0)

    def test_a_sum_of_parts_is_the_whole_where_it_says_so(self, cls: type[Balancer]) -> None:
        balancer = self.balancer(cls)
        with torch.no_grad():
            for parameter in balancer.parameters():
                parameter.copy_(draw(*parameter.shape))
        parts = [pulls(4, seed)[0] for seed in range(3)]
        if cls.additive:
            whole = balancer(torch.stack(parts).mean(0))
            torch.testing.assert_close(torch.stack([balancer(part) for part in parts]).mean(), whole)

    @pytest.mark.parametrize("tasks", [2, 3, 5])
    def test_properties(self, cls: type[Balancer], tasks: int) -> None:
        for seed in range(10):
            losses, gramian = pulls(tasks, seed)
            found = self.weights(self.balancer(cls, tasks), losses, gramian)
            if cls.permutation_equivariant:
                order = draw(tasks, seed=seed).argsort()
                moved = self.weights(self.balancer(cls, tasks), losses[order], gramian[order][:, order])
                torch.testing.assert_close(moved, found[order], rtol=1e-4, atol=1e-6)
            if cls.scale_invariant:
                unit = torch.ones_like(losses)
                unit[0] = 10
                directions = []
                for each in (torch.ones_like(losses), unit):
                    balancer = self.balancer(cls, tasks)
                    for step in (seed, seed + 100):  # the first is a warm-up, if there is one
                        size, inner = pulls(tasks, step)
                        pull = self.weights(balancer, size * each, inner * each * each[:, None]) * each
                    directions.append(pull / pull.norm())
                torch.testing.assert_close(*directions, rtol=1e-4, atol=1e-6)
            if cls.no_conflict:
                update = gramian @ found
                assert (update / gramian.diagonal().sqrt() >= -1e-6 * (found @ update).sqrt()).all()


# --- transfer


def plans() -> list[Any]:
    """Each strategy as it is, and with each of its switches the other way."""
    found = []
    for cls in classes("transfer"):
        found.append(pytest.param(cls, {}, id=cls.__name__))
        for name, slot in instantiate.arguments(cls).items():
            if isinstance(slot.default, bool):
                found.append(pytest.param(cls, {name: not slot.default}, id=f"{cls.__name__}-{name}"))
    return found


@pytest.mark.parametrize(("cls", "settings"), plans())
def test_a_plan_ends_with_the_target_and_starts_from_what_is_there(
    cls: type[Transfer], settings: dict[str, bool]
) -> None:
    phases = cls(**settings).phases()
    names = [phase.name for phase in phases]
    assert phases
    assert "target" in phases[-1].roles
    assert len(set(names)) == len(names)
    assert {role for phase in phases for role in phase.roles} == set(ROLES)  # no role is left untrained
    for number, phase in enumerate(phases):
        assert phase.epochs >= 1
        assert set(phase.roles) <= set(ROLES)
        assert phase.roles
        assert phase.start_from is None or phase.start_from in names[:number]
        assert phase.carry
        assert all(prefix.endswith(".") for prefix in (*phase.frozen, *phase.carry))
    with pytest.raises(ValueError, match="at least 1"):
        cls(**{next(name for name, slot in instantiate.arguments(cls).items() if type(slot.default) is int): 0})


# --- tasks


def labelled(kind: str) -> tuple[Label, Tensor, Tensor, Tensor]:
    """A label of a kind; answers with one missing; logits that are right; logits that are wrong."""
    if kind == "category":
        label = Label("y", "category", CLASSES)
        answer = torch.tensor([0, 5, 2, 3, -1])
        right = torch.nn.functional.one_hot(answer.clamp_min(0), CLASSES).float() * 5
        return label, answer, right, -right
    answer = torch.tensor([0.0, 1.0, 1.0, 0.0, torch.nan])
    if kind == "number":
        answer = torch.tensor([0.5, 2.0, -1.0, 0.0, torch.nan])
    right = answer.nan_to_num() * 5 - 2 if kind == "binary" else answer.nan_to_num()
    return Label("y", "binary" if kind == "binary" else "number"), answer, right, -right


LOSSES: dict[type[Task], Loss] = {Ordinal: OrdinalLoss(), Quantiles: Quantile(), WatchTime: WeightedLogistic(True)}
ENTIRE: dict[str, Any] = {"space": "click", "given": "clicks"}
SETTINGS: dict[type[Task], dict[str, Any]] = {ESMM: ENTIRE, ESCM2: ENTIRE}
CLICKS = torch.full((B,), 2.0)  # logits of the task that these two are given


def made(cls: type[Task], label: Label, loss: Loss | None = None) -> Any:
    """A task on a label, with a loss that fits it."""
    loss = loss or LOSSES.get(cls) or loss_for(label)
    columns: dict[str, Any] = {"columns": ["y", "also"]} if cls is MultiLabel else {"column": "y"}
    head = Linear(D, classes=cls.outputs(label))
    return cls(head=head, loss=loss, stream="s", label=label, **columns, **SETTINGS.get(cls, {}))


def without_label(cls: type[Task]) -> Any:
    """A task that compares two streams."""
    sizes = {"in_dim": D, "fields": F, "width": D}
    return cls(across=["s", "t"], **{key: n for key, n in sizes.items() if key in inspect.signature(cls).parameters})


def said(cls: type[Task], kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """`labelled` for the logits that a task has: answers, logits that are right, logits that are wrong."""
    _, answer, right, wrong = labelled(kind)
    if cls is Ordinal:
        right, wrong = ((y[:, None] > torch.arange(CLASSES - 1)) * 10.0 - 5 for y in (answer, CLASSES - 1 - answer))
        return answer, right, wrong
    if cls is MultiLabel:
        return answer, torch.stack((right, right), -1), torch.stack((wrong, wrong), -1)
    if cls is ESCM2:  # which imputes the same error in both
        return answer, *(torch.stack((cvr, torch.zeros(B)), -1) for cvr in (right, wrong))
    if cls is Quantiles:
        return answer, right[:, None].expand(-1, C), wrong[:, None].expand(-1, C)
    if cls is WatchTime:
        answer = answer.abs()
        right = (answer.nan_to_num() + 0.1).log()
        return answer, right, -right
    return answer, right, wrong


def task_kinds() -> list[Any]:
    # what learns over a catalogue has no logits of its labels: tests/unit/tasks/test_next_item.py holds it to the same
    found = [cls for cls in classes("tasks") if not cls.over_catalogue]
    return [pytest.param(cls, kind, id=f"{cls.__name__}-{kind}") for cls in found for kind in cls.kinds]


@pytest.mark.parametrize(("cls", "kind"), task_kinds())
class TestTasks:
    def task(self, cls: type[Task], kind: str) -> Task:
        loss = None if cls in LOSSES else CrossEntropy() if kind == "category" else Squared()
        task: Task = made(cls, labelled(kind)[0], loss)
        return task

    def batch(self, answer: Tensor) -> Batch:
        return {"y": answer, "also": answer, "click": torch.ones(len(answer))}

    def evaluated(self, task: Task, logits: Tensor, answer: Tensor) -> Batch:
        if not task.ranks:
            return self.batch(answer)
        return {
            "query": torch.arange(2),
            "relevant": answer[None].eq(1).expand(2, -1),
            "fresh": torch.ones(2, len(answer), dtype=torch.bool),
        }

    def score(self, task: Task, logits: Tensor, answer: Tensor) -> float:
        task.update(logits.expand(2, -1) if task.ranks else logits, self.evaluated(task, logits, answer), CLICKS)
        value = task.compute()[task.main].value
        assert value is not None
        return sign(task.main) * value

    def test_the_main_metric_prefers_the_right_answer(self, cls: type[Task], kind: str) -> None:
        answer, right, wrong = said(cls, kind)
        task = self.task(cls, kind)
        assert self.score(task, right, answer) > self.score(task, wrong, answer)

    def test_compute_starts_over(self, cls: type[Task], kind: str) -> None:
        answer, right, wrong = said(cls, kind)
        task = self.task(cls, kind)
        first = self.score(task, right, answer)
        self.score(task, wrong, answer)
        assert self.score(task, right, answer) == first

    def test_the_loss_ignores_what_is_missing(self, cls: type[Task], kind: str) -> None:
        answer, right, wrong = said(cls, kind)
        task = self.task(cls, kind)
        right, wrong = right.clone().requires_grad_(True), wrong.clone().requires_grad_(True)
        for logits in (right, wrong):
            (gradient,) = torch.autograd.grad(task.loss(logits, self.batch(answer), CLICKS), logits)
            assert not gradient[-1].any()
        assert gradient[:-1].any()
        assert task.loss(right, self.batch(answer), CLICKS) < task.loss(wrong, self.batch(answer), CLICKS)
        nothing = torch.full_like(answer, -1 if kind == "category" else torch.nan)
        zero = task.loss(right, self.batch(nothing), CLICKS)
        assert zero == 0
        (gradient,) = torch.autograd.grad(zero, right)
        assert not gradient.any()

    def test_every_other_kind_of_label_is_refused(self, cls: type[Task], kind: str) -> None:
        for other in {"binary", "number", "category"} - set(cls.kinds):
            with pytest.raises(ValueError, match=f"is a {other} label, and {cls.__name__} learns {cls.kinds[0]}"):
                made(cls, Label("y", other, 2), Squared())

    def test_a_head_gives_the_logits_that_are_learnt(self, cls: type[Task], kind: str) -> None:
        label = labelled(kind)[0]
        if cls is MultiLabel:
            label = Label("y, also", "binary", 2)
        task = made(cls, label)
        logits = task(draw(B, D))
        assert len(logits) == B
        assert task.loss(logits, self.batch(said(cls, kind)[0]), CLICKS).isfinite()


@pytest.mark.parametrize("cls", classes("tasks"), ids=name_of)
def test_nothing_taken_in_is_undefined_with_a_reason(cls: type[Task]) -> None:
    if cls.compares:
        task = without_label(cls)
    else:
        label = labelled(cls.kinds[0])[0]
        task = cls(Dot(D, D), CrossEntropy(), "s", "y", label) if cls.over_catalogue else made(cls, label)
    empty = task.compute()
    assert empty[task.main].value is None
    assert empty[task.main].reason
    assert not task.units()


# --- datasets, protocols and splits


def files(shop: Path, **more: Any) -> Files:
    columns = {role: role for role in ("user", "item", "time", "basket")}
    return Files(str(shop / "lines.parquet"), **columns, items=f"{shop}/products.parquet", **more)


LABELLED: dict[str, Any] = {
    "features": {"weekday": "id", "price": "number"},
    "labels": {"click": "binary"},
    "split": "part",
}


@pytest.mark.parametrize("cls", classes("data.datasets"), ids=name_of)
def test_a_dataset_hands_over_cleaned_rows_or_says_which_file_is_missing(
    cls: type[Dataset], shop: Path, tmp_path: Path
) -> None:
    if "root" in instantiate.arguments(
        cls
    ):  # the real files are elsewhere: tests/unit/data/datasets/test_datasets.py reads them
        with pytest.raises(DataError, match="DATA-011") as error:
            cls(root=str(tmp_path)).parts()  # type: ignore[call-arg]
        assert cls.origin.split()[0] in str(error.value)
        assert list(tmp_path.iterdir()) == []
        return
    one = files(shop, **LABELLED)
    datasets = {Files: one, Several: Several({"a": one, "b": files(shop)})}
    dataset = datasets.get(cls) or cls()
    for name, data in dataset.parts().items():
        assert data.name
        assert data.size > 0
        assert all(len(ids.codes) == data.size and int(ids.codes.min()) >= 0 for ids in data.keys.values())
        assert data.codes.shape == (data.size, len(data.ids))
        assert data.values.shape == (data.size, len(data.numbers))
        assert data.answers.shape == (data.size, len(data.asked))
        assert {*data.ids, *data.numbers} >= {n for n, c in data.columns.items() if c.kind in ("id", "number")}
        assert data.time is None or np.isfinite(data.time).all()
        assert all(count > 0 for count in data.refused.values())
        again = dataset.parts()[name]
        assert all(np.array_equal(again.keys[role].codes, ids.codes) for role, ids in data.keys.items())


PAIRS = [(protocol, split) for protocol in classes("data.protocols") for split in classes("data.splits")]


@pytest.mark.parametrize(("cls", "split"), PAIRS, ids=lambda cls: cls.__name__)
class TestProtocols:
    def prepared(self, cls: type[Protocol], split: type[Split], shop: Path) -> Protocol:
        candidates = Candidates(negatives=6, min_users=1)
        several = cls is CrossPlatform
        dataset = files(shop, domain="department" if several else "", **LABELLED)
        protocol: Protocol = make(cls, dataset=dataset, split=split(), candidates=candidates)
        protocol.prepare([])
        return protocol

    @pytest.mark.parametrize("missing", ["user", "item", "time", "split", "user, item, labels"])
    def test_what_it_cannot_do_without_is_named(
        self, cls: type[Protocol], split: type[Split], missing: str, shop: Path
    ) -> None:
        gone = missing.split(", ")
        columns = {role: role for role in ("user", "item", "time", "basket") if role not in gone}
        labelled = {key: value for key, value in LABELLED.items() if key not in gone}
        dataset = Files(
            str(shop / "lines.parquet"), **columns, domain="like" if cls is CrossPlatform else "", **labelled
        )
        protocol: Protocol = make(cls, dataset=dataset, split=split(), candidates=Candidates(min_users=1))
        try:
            protocol.prepare([])
        except UserError as error:
            named = [name for name in gone if name.removesuffix("s") in str(error)]
            assert named
            assert type(protocol).__name__ in str(error) or re.search(r"(protocol|split)=\w+", str(error))  # noqa: PT017
        else:
            assert protocol.streams
            assert all(stream.rows for stream in protocol.streams.values())

    def test_all_offered_streams_are_made(self, cls: type[Protocol], split: type[Split], shop: Path) -> None:
        protocol = self.prepared(cls, split, shop)
        kinds = {name.rpartition("/")[2] for name in protocol.streams}
        assert kinds == {"baskets", "sequences", "pairs", "rows"}
        for name, stream in protocol.streams.items():
            assert stream.schema.name == name
            assert set(stream.splits) == {"train", "val", "test"}
            assert stream.splits["train"] == stream.rows > 0
            if not name.endswith("pairs"):
                assert all(rows > 0 for rows in stream.splits.values())
        card = protocol.card
        assert card["splits"] == {name: stream.splits for name, stream in protocol.streams.items()}
        assert {"dataset", "rows", "refused", "fingerprint", "domains", "stamps"} <= set(card)
        assert bool(card["stamps"]) == (split.__name__ != "ByTime")  # what is not time-safe says so

    def test_batches_are_what_the_schema_says(self, cls: type[Protocol], split: type[Split], shop: Path) -> None:
        protocol = self.prepared(cls, split, shop)
        schema = protocol.schema(protocol.streams)
        for name, stream in protocol.streams.items():
            rows = torch.arange(min(3, stream.rows))
            batch = stream.batch(rows, torch.Generator().manual_seed(0))
            for feature in schema.streams[name].features:
                values = batch[feature.name]
                if feature.kind in ("number", "vector"):
                    assert values.is_floating_point()
                    continue
                assert values.ndim == (1 if feature.kind == "id" else 2)
                assert 0 <= int(values.min()) <= int(values.max()) < schema.tables[feature.table].entities
                if feature.kind == "history":
                    assert batch[f"{feature.name}_age"].shape == values.shape
            for label in schema.streams[name].labels:
                values = batch[label.name]
                assert (values.dtype == torch.int64) == (label.kind == "category")
                if label.kind == "category":
                    assert -1 <= int(values.min()) <= int(values.max()) < label.classes
            if schema.streams[name].candidate:
                size = schema.tables[schema.streams[name].candidate].entities
                assert int(batch["candidate"].max()) < size
            if schema.streams[name].cross:
                assert batch["cross"].shape == (*batch["candidate"].shape, len(schema.streams[name].cross))
        for table in schema.tables.values():
            assert table.rows is None or int(table.rows.max()) < table.size
            for other, content in table.content.items():
                assert len(content) == table.entities
                assert int(content.max()) < schema.tables[other].entities

    def test_the_encoder_takes_every_batch(self, cls: type[Protocol], split: type[Split], shop: Path) -> None:
        protocol = self.prepared(cls, split, shop)
        encoder = Encoder(protocol.schema(protocol.streams), width=4)
        for name, stream in protocol.streams.items():
            batches = [batch for stage in ("val", "test") for batch in stream.evaluation(stage)]
            for batch in [stream.batch(torch.arange(stream.rows), torch.Generator()), *batches]:
                encoded = encoder(batch, encoder.schema.streams[name], with_candidate="candidate" in batch)
                assert encoded.fields.isfinite().all()

    def test_two_processes_share_a_batch(self, cls: type[Protocol], split: type[Split], shop: Path) -> None:
        protocol = self.prepared(cls, split, shop)
        for stream in protocol.streams.values():
            for count in (1, min(7, stream.rows)):  # of one row the second process has none
                rows = torch.arange(count)
                whole = stream.batch(rows, torch.Generator().manual_seed(0))
                for rank in range(2):
                    mine = slice(rank, None, 2)
                    own = stream.batch(rows, torch.Generator().manual_seed(0), mine)
                    assert own.keys() == whole.keys()
                    for name, values in own.items():
                        at = torch.arange(len(whole[name]))
                        at = at if name == "catalogue" else at.view(-1, count)[:, mine].flatten()  # drawn pairs follow
                        torch.testing.assert_close(values, whole[name][at], rtol=0, atol=0, equal_nan=True)
            for world in (2, 30):  # of which some have no row
                parts = [stream.evaluation("val", Part(rank, world)) for rank in range(world)]
                for batch in stream.evaluation("val"):
                    own = [next(part) for part in parts]
                    for name, values in batch.items():
                        of_items = "relevant" in batch and name in ("catalogue", "popularity", "cold_item")
                        together = own[0][name] if of_items else torch.cat([each[name] for each in own])
                        torch.testing.assert_close(together, values, rtol=0, atol=0, equal_nan=True, msg=f"{name}")
                assert not any(True for part in parts for _ in part)

    def test_a_seed_decides_the_batches(self, cls: type[Protocol], split: type[Split], shop: Path) -> None:
        batches = []
        for seed in (0, 0, 1):
            protocol = self.prepared(cls, split, shop)
            large = [name for name, stream in protocol.streams.items() if stream.rows > 20]
            protocol.use(large, large, seed)
            batches.append(next(iter(protocol.train_dataloader())))
        same = [
            all(torch.equal(values.nan_to_num(), other[s][name].nan_to_num()) for name, values in batch.items())
            for other in batches[1:]
            for s, batch in batches[0].items()
        ]
        half = len(batches[0])
        assert all(same[:half])
        assert not any(same[half:])
