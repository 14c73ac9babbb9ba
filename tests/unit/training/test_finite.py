"""A loss or a gradient that is not finite: left out, counted, never in the weights, and in the end a reason to stop."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from test_module import Batches, evaluation, fit, module, training
from torch import Tensor

from graftrec.data.batch import Batch
from graftrec.training.balancers.base import Balancer
from graftrec.training.balancers.cagrad import CaGrad
from graftrec.training.balancers.famo import Famo
from graftrec.training.balancers.pcgrad import PcGrad
from graftrec.training.balancers.sum import Sum
from graftrec.training.balancers.uncertainty import Uncertainty
from graftrec.training.callbacks.checkpointing import Keeper
from graftrec.training.checkpoints.checkpoint import BEST, LAST, weights
from graftrec.training.lightning_module import GraftModule
from graftrec.training.nonfinite import GRADIENTS, Finite, first_odd, ranges_of
from graftrec.utils.errors import DataError, outcome

TASKS = ["interest", "recommend", "relevance"]
BALANCERS = [Sum(), PcGrad(), CaGrad(), Uncertainty(TASKS), Famo(TASKS)]


def broken(seed: int = 0) -> dict[str, Batch]:
    """A batch in which the loss of ``recommend`` is infinite."""
    batches = training(seed)
    batches["baskets"]["bought"][1, 1] = torch.inf
    return batches


@pytest.fixture(autouse=True)
def quiet_module(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Without a trainer there is nothing to log to."""
    if "tmp_path" not in request.fixturenames:
        monkeypatch.setattr(GraftModule, "log_dict", lambda *_: None)


@pytest.mark.parametrize("balancer", BALANCERS, ids=lambda balancer: type(balancer).__name__)
def test_a_task_without_a_finite_loss_does_not_reach_the_trunk_of_the_others(balancer: Balancer) -> None:
    model = module(balancer)
    model.training_step(broken(), 0).backward()
    assert model.finite.skipped == {"recommend": 1}
    assert first_odd({name: p.grad for name, p in model.named_parameters() if p.grad is not None}) is None
    assert any(p.grad is not None and p.grad.any() for p in model.trunk.parameters())
    assert not any(p.grad is not None and p.grad.any() for p in model.task("recommend").parameters())


@pytest.mark.parametrize("balancer", [Sum, PcGrad])
def test_the_others_learn_as_if_it_were_not_there(balancer: Any) -> None:
    model, alone = module(balancer()), module(balancer())
    alone.tasks.pop("recommend")
    model.training_step(broken(), 0).backward()
    alone.training_step(training(), 0).backward()
    for (name, ours), theirs in zip(model.trunk.named_parameters(), alone.trunk.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name)


class Cursed(torch.autograd.Function):
    """Passes a loss on, and gives it a gradient of NaN."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor) -> Tensor:
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * torch.nan


class Watched(Keeper):
    """Puts a curse on some steps, and remembers weights and the optimizer's steps after each."""

    def __init__(self, folder: Path, cursed: set[int]) -> None:
        super().__init__(folder, monitored=True)
        self.cursed = cursed
        self.seen: list[tuple[Tensor, float]] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, number: int) -> None:
        pl_module.cursed = number in self.cursed

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        made = max((float(state["step"]) for state in trainer.optimizers[0].state.values()), default=0.0)
        self.seen.append((torch.cat([p.detach().flatten().clone() for p in pl_module.parameters()]), made))


@pytest.mark.parametrize("clipped", [None, 1.0])
def test_a_step_without_finite_gradients_is_not_made(
    clipped: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pytorch_lightning as pl

    from graftrec.training.fit import quiet

    step = GraftModule.training_step
    monkeypatch.setattr(
        GraftModule, "training_step",
        lambda self, *given: Cursed.apply(step(self, *given)) if self.cursed else step(self, *given),
    )  # fmt: skip
    model = module()
    model._optimize = lambda parameters: torch.optim.AdamW(parameters, lr=0.1)
    watched = Watched(tmp_path, {1, 2})
    with quiet():
        trainer = pl.Trainer(
            max_epochs=1, logger=False, callbacks=[watched], accelerator="cpu", devices=1, num_sanity_val_steps=0,
            enable_model_summary=False, enable_progress_bar=False, gradient_clip_val=clipped,
        )  # fmt: skip
        trainer.fit(model, Batches([training(seed) for seed in range(4)]), Batches(evaluation()))
    states, made = [state for state, _ in watched.seen], [steps for _, steps in watched.seen]
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])
    assert not torch.equal(states[2], states[3])
    assert made == [1, 1, 1, 2]
    assert model.finite.skipped == {GRADIENTS: 2}
    assert model.finite.lines("joint") == ["joint: 2 steps left out, whose gradients were not finite"]


@pytest.mark.parametrize("balancer", [Sum, PcGrad])
def test_a_bad_step_is_counted_and_the_best_weights_are_finite(
    balancer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("test_module.training", lambda seed: broken(seed) if seed == 12 else training(seed))
    model = module(balancer())
    fit(model, tmp_path, steps=16)
    with (tmp_path / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss/total"]]
    assert [row["train/skipped/recommend"] for row in rows] == [""] * 12 + ["1"] * 4
    assert float(rows[12]["train/loss/recommend"]) == 0
    assert all(math.isfinite(float(row["train/loss/total"])) for row in rows)
    for name in (BEST, LAST):
        assert first_odd(weights(tmp_path / name)) is None
    other = Finite()
    other.load_state_dict(torch.load(tmp_path / LAST, weights_only=True)["graftrec"]["finite"])
    assert other.skipped == {"recommend": 1}


def test_too_many_in_a_row_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("test_module.training", lambda seed: training(seed) if seed in (0, 3) else broken(seed))
    model = module()
    model.finite = Finite(limit=3)
    with pytest.raises(DataError) as caught:
        fit(model, tmp_path, steps=9)
    said = str(caught.value)
    assert outcome(caught.value)[0] == 65
    assert "TRAIN-001 the loss of recommend is not finite 3 steps in a row" in said
    assert "step 7 of phase joint" in said  # 1 and 2 were followed by a good one
    assert "bought 0..1 (2 not finite)" in said  # one is unknown
    assert "similarity" not in said  # which it does not read


def test_a_limit_below_1_is_refused() -> None:
    with pytest.raises(ValueError, match="skip_limit should be at least 1 step"):
        Finite(0)


def test_ranges_of_a_batch() -> None:
    batch = {
        "a": torch.tensor([1.0, torch.nan, -2.5]), "b": torch.tensor([3, 4]), "c": torch.zeros(0),
        "d": torch.full((2,), torch.inf), "e": torch.tensor([True, False]),
    }  # fmt: skip
    found = ranges_of(batch)
    assert found == "a -2.5..1 (1 not finite), b 3..4, d without a finite number (2 not finite), e 0..1"


def test_weights_that_are_not_finite_are_never_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GraftModule, "score", lambda _: 1.0)  # whatever they score
    model = module()
    with torch.no_grad():
        next(model.task("relevance").parameters()).fill_(torch.nan)
    with pytest.raises(DataError, match=r"TRAIN-002 tasks\.relevance\.head.* is not finite at step 2"):
        fit(model, tmp_path, steps=2)
    assert not (tmp_path / BEST).exists()
    assert model.finite.skipped["relevance"] == 2
