"""A batch that is not finite leaves no trace: neither in weights nor in what an optimizer or a balancer remembers."""

from __future__ import annotations

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from test_finite import Cursed, broken
from test_module import ROLES_OF, module, training
from torch import Tensor

from discovery import classes
from graftrec.config.instantiate import arguments
from graftrec.data.batch import Batch
from graftrec.training.balancers.base import Balancer
from graftrec.training.fit import quiet
from graftrec.training.lightning_module import GraftModule

Step = tuple[dict[str, Batch], bool]
"""A batch, and whether its gradients are made NaN."""


def infinite(seed: int = 0) -> dict[str, Batch]:
    """A batch in which no task has a finite loss."""
    batches = broken(seed)
    batches["baskets"]["days"][:] = torch.inf
    batches["pairs"]["similarity"][0] = torch.inf
    return batches


def unlabelled(seed: int = 0) -> dict[str, Batch]:
    """A batch without a label of ``recommend``."""
    batches = training(seed)
    batches["baskets"]["bought"][:] = torch.nan
    return batches


def after(cls: type[Balancer], *steps: Step) -> dict[str, Tensor]:
    """All that there is after a training of these steps: weights, buffers and the optimizer's state."""
    balancer = cls(**{k: v for k, v in {"tasks": tasks_of(cls), "seed": 1}.items() if k in arguments(cls)})
    model = module(balancer)
    with quiet():
        model.trainer = pl.Trainer(logger=False, accelerator="cpu", enable_checkpointing=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.1)
    for number, (batches, cursed) in enumerate(steps):
        optimizer.zero_grad()
        total = model.training_step(batches, number)
        (Cursed.apply(total) if cursed else total).backward()
        model.configure_gradient_clipping(optimizer, 1.0, "norm")
        model.optimizer_step(0, number, optimizer, lambda: None)
        model.on_train_batch_end(None, batches, number)
    names = [name for name, _ in model.named_parameters()]
    kept = optimizer.state_dict()["state"]
    return model.state_dict() | {f"{names[i]} {key}": x for i, own in kept.items() for key, x in own.items()}


def tasks_of(cls: type[Balancer]) -> list[str]:
    return [name for name in ROLES_OF if name != "relevance" or not cls.needs_gramian]  # which reads the encoder


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0, equal_nan=True, msg=name)


@pytest.fixture(autouse=True)
def quiet_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GraftModule, "log_dict", lambda *_: None)


def test_these_batches_are_what_they_say() -> None:
    for batches, skipped in ((training(), set()), (broken(), {"recommend"}), (infinite(), set(ROLES_OF))):
        model = module()
        model.training_step(batches, 0)
        assert set(model.finite.skipped) == skipped


@pytest.mark.parametrize("cls", classes("training.balancers"), ids=lambda cls: cls.__name__)
class TestEveryBalancer:
    def test_a_step_without_a_finite_loss_or_gradient_is_as_if_it_had_not_been(self, cls: type[Any]) -> None:
        good, then = (training(0), False), (training(1), False)
        without = after(cls, good, then, then)
        for bad in ((infinite(2), False), (training(2), True)):
            same(after(cls, good, bad, then, then), without)
            same(after(cls, bad, good, then, then), without)

    def test_a_task_without_a_finite_loss_is_as_one_without_a_label(self, cls: type[Any]) -> None:
        good, then = (training(0), False), (training(1), False)
        same(after(cls, good, (broken(2), False), then), after(cls, good, (unlabelled(2), False), then))
