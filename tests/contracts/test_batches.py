"""What a batch may be: no row, one row, no event, no length, half precision, and numbers that are not finite.

Batches of no row are part of the design: the last one of an evaluation may have fewer rows than there are processes.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_contracts import CLASSES, TOLD, C, D, F, K, draw, make, name_of
from torch import Tensor, nn

from discovery import classes
from graftrec.config.instantiate import arguments
from graftrec.data.batch import Aside, Encoded
from graftrec.models.heads.base import Head
from graftrec.models.interactions.base import Interaction
from graftrec.models.trunks.base import Trunk

STREAMS = {"s": ["user", "item", "numbers"], "t": ["user", "item", "numbers"]}
TASKS: list[str] = TOLD["tasks"]
SEVERAL = {**TOLD, "streams": STREAMS, "edges": dict.fromkeys(STREAMS, TOLD["edges"]["s"])}
SEVERAL["behaviours"] = dict.fromkeys(STREAMS, TOLD["behaviours"]["s"])
SHAPES = {  # how many events each row has, and the length of the history
    "ragged": ([4, 0, 1, 3], 4),
    "no row": ([], 4),
    "one row": ([2], 4),
    "one empty row": ([0], 4),
    "no event": ([0, 0, 0], 4),
    "no length": ([0, 0], 0),
    "no row and no length": ([], 0),
}
PRECISIONS = [torch.float32, torch.bfloat16, torch.float16]
NORMED = {"HoME", "STAR"}  # whose running statistics move in training
PENALTIES = ("sparse", "sparsity")  # arguments that weigh what a trunk pays for its weights
WITHOUT_DROPOUT = {"CMF", "MeLU"}  # a product, and layers that learn from a few rows
MODES = list(itertools.product(SHAPES, PRECISIONS))


def trunk_of(cls: type[Trunk], **more: Any) -> Trunk:
    torch.manual_seed(0)
    made: Trunk = make(cls, history=True, **SEVERAL, **more)
    return made


def encoded(cls: type[Trunk], counts: list[int], length: int, stream: str = "s", seed: int = 0) -> Encoded:
    rows = len(counts)
    mask = torch.arange(length) >= length - torch.tensor(counts, dtype=torch.int64)[:, None]
    events = draw(rows, length, D, seed=seed + 1)
    return Encoded(
        draw(rows, F, D, seed=seed), events, mask, stream=stream, items=events, aside=[],
        kinds=1 << torch.arange(rows * length).view(rows, length) % 5,
        times=torch.arange(length).repeat(rows, 1), hidden=mask if cls.cloze else None,
    )  # fmt: skip


def own(aside: list[Aside] | None) -> list[Tensor]:
    return [part.total / part.cases.clamp_min(1) for part in aside or ()]


def still(cls: type[Trunk]) -> dict[str, float]:
    return {"dropout": 0.0} if "dropout" in arguments(cls) else {}


def opened(trunk: Trunk) -> Trunk:
    """In training, with every gate that is drawn open, so that only dropout is drawn."""
    for name, parameter in trunk.named_parameters():
        if name.endswith("log_alpha"):
            nn.init.constant_(parameter, 50.0)
    return trunk.train()


def made_of(trunk: Trunk) -> Tensor:
    """What a trunk makes of rows, or of all users and items, where it spreads their vectors."""
    if trunk.spreads:
        known = {s: (draw(3, D, seed=1), draw(3, D, seed=2)) for s in trunk.spreads}
        return torch.cat([part for parts in trunk.spread(known).values() for part in parts])
    return trunk(encoded(type(trunk), *SHAPES["ragged"]), TASKS)["a"]


@pytest.mark.parametrize("cls", classes("models.trunks"), ids=name_of)
class TestTrunks:
    @pytest.mark.parametrize("training", [True, False])
    def test_any_batch_is_finite_and_gives_every_weight_a_gradient(self, cls: type[Trunk], training: bool) -> None:
        trunk = trunk_of(cls).train(training)
        for (shape, precision), last in itertools.product(MODES, (False, True) if cls.sequential else (False,)):
            if precision == torch.float16 and any(isinstance(part, nn.LSTM) for part in trunk.modules()):
                continue  # torch has none for CPUs
            said = f"{shape}, {precision}, last {last}"
            counts, length = SHAPES[shape]
            e = replace(encoded(cls, counts, length), last=last)
            trunk.zero_grad()
            with torch.autocast("cpu", precision, enabled=precision != torch.float32):
                z = trunk(e, TASKS)
            events = (1 if last else length,) if cls.sequential else ()
            for each in z.values():
                assert each.shape == (len(counts), *events, trunk.out_dim), said
                assert each.isfinite().all(), said
            penalty = trunk.penalty()
            parts = [each.float().pow(2).sum() for each in z.values()] + own(e.aside)
            torch.stack([*parts, *([] if penalty is None else [penalty])]).sum().backward()
            for name, parameter in trunk.named_parameters():  # processes that exchange gradients wait for each
                assert parameter.grad is not None, (said, name)
                assert parameter.grad.isfinite().all(), (said, name)

    @pytest.mark.parametrize("odd", [torch.inf, torch.nan])
    def test_a_batch_that_is_not_finite_leaves_no_trace(self, cls: type[Trunk], odd: float) -> None:
        trunk, (counts, length) = trunk_of(cls), SHAPES["ragged"]
        trunk(encoded(cls, counts, length), TASKS)
        before = {name: buffer.clone() for name, buffer in trunk.named_buffers()}
        e = encoded(cls, counts, length)
        assert e.history is not None
        e.fields[0, 0, 0] = e.history[0, -1, 0] = odd
        trunk(e, TASKS)
        for name, buffer in trunk.named_buffers():
            assert torch.equal(buffer, before[name]), name

    def test_a_stream_has_statistics_of_its_own(self, cls: type[Trunk]) -> None:
        """Where buffers move in training: evaluation sees each stream as training does, however far apart they are."""
        trunk = trunk_of(cls, **still(cls))
        batches = {s: encoded(cls, [4] * 64, 4, s) for s in STREAMS}
        batches["t"] = replace(batches["t"], fields=batches["t"].fields * 3 + 5)
        before = {name: buffer.clone() for name, buffer in trunk.named_buffers()}
        trunk(batches["s"], TASKS)
        moved = [name for name, buffer in trunk.named_buffers() if not torch.equal(buffer, before[name])]
        assert bool(moved) == (cls.__name__ in NORMED)
        if not moved:
            return
        for _ in range(100):
            trained = {s: trunk(e, TASKS)["a"].detach() for s, e in batches.items()}
        trunk.eval()
        for s, e in batches.items():
            torch.testing.assert_close(trunk(e, TASKS)["a"], trained[s], rtol=0.05, atol=0.05)

    def test_what_it_pays_for_its_weights_is_paid_once_a_step(self, cls: type[Trunk]) -> None:
        weighed = {name: 0.5 for name in PENALTIES if name in arguments(cls)}
        trunk, aside = trunk_of(cls, **weighed), list[Aside]()
        assert (trunk.penalty() is not None) == bool(weighed)
        for s in STREAMS:
            e = replace(encoded(cls, *SHAPES["ragged"], stream=s), aside=aside)
            read = [part.requires_grad_() for part in (e.fields, e.history, e.items) if part is not None]
            already = len(aside)
            trunk(e, TASKS)
            for part in aside[already:]:  # which come once for each stream, and so must be about its rows
                found = torch.autograd.grad(part.total, read, retain_graph=True, allow_unused=True)
                assert any(gradient is not None and gradient.any() for gradient in found)

    def test_it_says_whether_it_reads_fields_by_name(self, cls: type[Trunk]) -> None:
        orders = (["user", "item", "numbers"], ["numbers", "user", "item"])
        found = []
        for order in orders:
            torch.manual_seed(0)
            made: Trunk = make(cls, history=True, **{**TOLD, "streams": {"s": order}}).eval()
            found.append(made(encoded(cls, *SHAPES["ragged"]), TASKS)["a"])
        assert cls.by_name == (not torch.equal(*found))

    def test_dropout_is_of_training_alone(self, cls: type[Trunk]) -> None:
        assert ("dropout" in arguments(cls)) == (cls.__name__ not in WITHOUT_DROPOUT)
        if cls.__name__ in WITHOUT_DROPOUT:
            return
        plain, dropping = (opened(trunk_of(cls, dropout=share)) for share in (0.0, 0.5))
        assert torch.equal(made_of(plain), made_of(plain))
        assert not torch.equal(made_of(dropping), made_of(dropping))
        dropping.load_state_dict(plain.state_dict())  # statistics have moved by what was dropped
        torch.testing.assert_close(made_of(dropping.eval()), made_of(plain.eval()))
        for wrong in (-0.1, 1.0):
            with pytest.raises(ValueError, match=r"dropout should be in \[0, 1\)"):
                trunk_of(cls, dropout=wrong)


@pytest.mark.parametrize("cls", classes("models.interactions"), ids=name_of)
class TestInteractions:
    @pytest.mark.parametrize("precision", PRECISIONS, ids=str)
    @pytest.mark.parametrize("rows", [0, 1, 4])
    def test_any_batch(self, cls: type[Interaction], rows: int, precision: torch.dtype) -> None:
        torch.manual_seed(0)
        interaction: Interaction = make(cls, fields=F, width=D)
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            found = interaction(draw(rows, F, D))
        assert found.shape == (rows, interaction.fields, D)
        assert found.isfinite().all()
        if list(interaction.parameters()):
            found.float().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in interaction.parameters())

    def test_it_says_whether_it_keeps_fields(self, cls: type[Interaction]) -> None:
        torch.manual_seed(0)
        fields = draw(4, F, D)
        assert cls.keeps_fields == torch.equal(make(cls, fields=F, width=D)(fields)[:, :F], fields)


@pytest.mark.parametrize("cls", classes("models.heads"), ids=name_of)
class TestHeads:
    @pytest.mark.parametrize("precision", PRECISIONS, ids=str)
    @pytest.mark.parametrize("rows", [0, 1, 4])
    def test_any_batch(self, cls: type[Head], rows: int, precision: torch.dtype) -> None:
        torch.manual_seed(0)
        for items, cross, shape in (
            (draw(rows, C, D, seed=1), draw(rows, C, K, seed=2), (rows, C)),
            (draw(1, C, D, seed=1), draw(rows, C, K, seed=2), (rows, C)),
            (None, None, (rows,)),
            (None, None, (rows, CLASSES)),
        ):
            sizes = {"item_dim": D, "cross_dim": K} if items is not None else {"item_dim": 0, "cross_dim": 0}
            try:
                head: Head = make(cls, in_dim=D, classes=shape[-1] if shape[1:] and items is None else 1, **sizes)
            except (TypeError, ValueError):
                assert items is None  # a head may need candidates: tests/contracts/test_contracts.py
                continue
            if items is None and shape[1:] and "classes" not in arguments(cls):
                continue
            with torch.autocast("cpu", precision, enabled=precision != torch.float32):
                found = head(draw(rows, D), items, cross)
            assert found.shape == shape
            assert found.isfinite().all()
            found.float().sum().backward()
            assert all(p.grad is None or p.grad.isfinite().all() for p in head.parameters())
