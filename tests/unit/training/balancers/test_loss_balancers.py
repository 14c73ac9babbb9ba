"""Balancers that read losses alone: against their equations worked out on small numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from graftrec.config.instantiate import problems_of_tree
from graftrec.training.balancers.base import Balancer
from graftrec.training.balancers.dwa import Dwa
from graftrec.training.balancers.famo import Famo
from graftrec.training.balancers.fixed import Fixed
from graftrec.training.balancers.geometric import Geometric
from graftrec.training.balancers.imtl_l import ImtlL
from graftrec.training.balancers.rlw import Rlw
from graftrec.training.balancers.stch import Stch
from graftrec.training.balancers.uncertainty import Uncertainty

AB = ["a", "b"]


def weights(balancer: Balancer, *losses: float) -> Tensor:
    leaf = torch.tensor(losses, dtype=torch.float32, requires_grad=True)
    (found,) = torch.autograd.grad(balancer(leaf), leaf)
    return found


def close(found: Tensor, *expected: float) -> None:
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32), rtol=1e-4, atol=1e-6)


def test_fixed_weighs_by_name_and_leaves_others_at_one() -> None:
    balancer = Fixed(["a", "b", "c"], {"c": 0.25, "a": 2, "elsewhere": 9})
    close(weights(balancer, 1, 1, 1), 2, 1, 0.25)
    assert balancer(torch.tensor([1.0, 2.0, 4.0])) == 5
    close(weights(Fixed(["a"], {"a": 3.0}), 1), 1)  # alone
    assert not balancer.state_dict()


@pytest.mark.parametrize("wrong", [-1.0, math.inf, math.nan])
def test_fixed_refuses_what_is_no_weight(wrong: float) -> None:
    with pytest.raises(ValueError, match=r"weights should be finite and at least 0\. Found"):
        Fixed(AB, {"a": wrong})


def test_a_weight_of_no_task_is_a_problem_of_the_configuration() -> None:
    tree = {
        "balancer": {
            "_target_": "graftrec.training.balancers.fixed.Fixed",
            "weights": {"intrest": 0.5, "recommend": 1},
        },
        "source": {"interest": {}},
        "target": {"recommend": {}},
    }
    assert problems_of_tree(tree) == ["balancer.weights.intrest: is no task that is selected; did you mean 'interest'?"]


def test_dwa_compares_the_means_of_two_epochs() -> None:
    balancer = Dwa(AB, temperature=2.0, every=2)
    for epoch in ([(4.0, 1.0), (2.0, 3.0)], [(1.0, 2.0), (2.0, 2.0)]):  # means 3, 2 and then 1.5, 2
        for losses in epoch:
            close(weights(balancer, *losses), 1, 1)
    a, b = math.exp(1.5 / 3 / 2), math.exp(2 / 2 / 2)
    close(weights(balancer, 5, 6), 2 * a / (a + b), 2 * b / (a + b))


def test_dwa_leaves_out_what_is_not_there() -> None:
    balancer = Dwa(AB, every=1)
    for losses in ((1.0, 3.0), (0.5, 0.0), (0.5, 0.0)):
        found = weights(balancer, *losses)
    assert found[0] == 1
    assert balancer.last.tolist()[0] == 0.5
    close(weights(balancer, 1, 1), 1, 1)


def test_rlw_is_a_softmax_of_normal_draws() -> None:
    balancer = Rlw(seed=3)
    found = torch.stack([weights(balancer, 1, 1, 1) for _ in range(4000)])
    torch.testing.assert_close(found.sum(1), torch.full((4000,), 3.0))
    torch.testing.assert_close(found.mean(0), torch.ones(3), atol=0.05, rtol=0)
    logs = found.log()
    spread = (logs[:, 0] - logs[:, 1]).std()  # of the difference of two standard normals
    assert float(spread) == pytest.approx(math.sqrt(2), rel=0.05)
    assert not torch.equal(weights(Rlw(seed=3), 1, 1), weights(Rlw(seed=4), 1, 1))


def test_geometric_is_the_mean_of_logs() -> None:
    assert float(Geometric()(torch.tensor([1.0, 8.0, 1.0]))) == pytest.approx(6)  # 3 * 8^(1/3)
    close(weights(Geometric(), 1, 8, 1), 2, 0.25, 2)
    close(weights(Geometric(), 4, 0, 1), 0.5, 0, 2)  # of those with rows
    assert Geometric()(torch.zeros(2)) == 0


def test_imtl_l_comes_to_scaled_losses_of_one() -> None:
    balancer = ImtlL(AB)
    losses = torch.tensor([0.2, 5.0])
    assert float(balancer(losses).detach()) == pytest.approx(5.2)
    optimizer = torch.optim.SGD(balancer.parameters(), 0.1)
    for _ in range(500):
        optimizer.zero_grad()
        balancer(losses).backward()
        optimizer.step()
    torch.testing.assert_close(balancer.log_scale.exp() * losses, torch.ones(2), rtol=1e-3, atol=0)


@pytest.mark.parametrize("cls", [ImtlL, Uncertainty])
def test_what_is_learned_rests_with_its_task(cls: type[Any]) -> None:
    balancer = cls(AB)
    (parameter,) = balancer.parameters()
    balancer(torch.tensor([2.0, 0.0])).backward()
    assert parameter.grad[0] != 0
    assert parameter.grad[1] == 0
    assert not next(cls(["a"]).parameters()).requires_grad  # alone, its weight stays 1


def test_famo_falls_at_one_relative_rate() -> None:
    balancer = Famo(AB, lr=0.1, decay=0.0, look="next")
    close(weights(balancer, 1, 4), 1.6, 0.4)  # 2 (z / L) / sum (z / L) with z = 1/2
    # a fell to a half, b not at all: the gradient is z (log 2 - log 2 / 2) = +-log 2 / 4; Adam's first step is its sign
    found = weights(balancer, 0.5, 4)
    a, b = math.exp(-0.1) / 0.5, math.exp(0.1) / 4
    close(found, 2 * a / (a + b), 2 * b / (a + b))
    close(balancer.logits, -0.1, 0.1)
    torch.testing.assert_close(balancer.first, 0.1 * torch.tensor([1.0, -1.0]) * math.log(2) / 4)


def test_famo_is_adam_on_the_logits() -> None:
    balancer = Famo(["a", "b", "c"], lr=0.05, decay=0.01, look="next")
    logits = torch.zeros(3, requires_grad=True)
    adam = torch.optim.Adam([logits], lr=0.05, weight_decay=0.01)
    losses = torch.rand(20, 3, generator=torch.Generator().manual_seed(0)) + 0.1
    for before, after in zip([None, *losses], losses, strict=False):
        balancer(after)
        if before is not None:
            adam.zero_grad()
            logits.softmax(0).backward((before / after).log())
            adam.step()
    torch.testing.assert_close(balancer.logits, logits.detach(), rtol=1e-4, atol=1e-5)


class Official:
    """FAMO's weights as its authors' code and LibMTL update them, by autograd and torch's own Adam."""

    def __init__(self, tasks: int) -> None:
        self.w = torch.zeros(tasks, requires_grad=True)
        self.adam = torch.optim.Adam([self.w], lr=0.025, weight_decay=0.001)

    def step(self, before: Tensor, after: Tensor) -> None:
        fallen = (before + 1e-8).log() - (after + 1e-8).log()
        (self.w.grad,) = torch.autograd.grad(self.w.softmax(-1), self.w, grad_outputs=fallen)
        self.adam.step()


def falling(step: int) -> Tensor:
    """Losses of two tasks, of which one falls four times as fast."""
    return torch.tensor([0.2 + 0.5 * math.exp(-step / 150), 0.4 + 0.3 * math.exp(-step / 600)])


@pytest.mark.parametrize("spread", [0.0, 0.1, 0.3])
def test_famo_adapts_as_the_authors_do_however_much_batches_differ(spread: float) -> None:
    balancer, next_batch, official = Famo(AB), Famo(AB, look="next"), Official(2)
    random = torch.Generator().manual_seed(0)
    for step in range(100):
        batch = torch.exp(spread * torch.randn(2, generator=random))
        before, after = falling(step) * batch, falling(step + 1) * batch
        balancer(before)
        balancer.look(after)
        next_batch(before)
        official.step(before, after)
    torch.testing.assert_close(balancer.logits, official.w.detach(), rtol=1e-3, atol=1e-4)
    apart = [float(x[0] - x[1]) for x in (balancer.logits, next_batch.logits)]
    assert apart[0] < -1
    assert apart[1] == pytest.approx(apart[0], rel=0.05) if not spread else apart[1] > 0.4 * apart[0]
    weights(balancer, 0.5, 0.5)
    z = balancer.logits.softmax(0)
    close(weights(balancer, 0.5, 0.5), *(2 * z).tolist())


def test_famo_of_one_task_needs_no_second_look() -> None:
    assert Famo(AB).looks_again
    assert not Famo(["a"]).looks_again
    assert not Famo(AB, look="next").looks_again


def test_stch_is_a_smooth_maximum_of_relative_losses() -> None:
    balancer = Stch(AB, mu=0.5, warmup=2)
    for losses in ((1.0, 10.0), (3.0, 30.0)):  # means 2 and 20
        close(weights(balancer, *losses), 1, 1)
    scale = 4 / (1 / 2 + 1 / 20)
    x, y = 1 / 2, 30 / 20
    total = balancer(torch.tensor([1.0, 30.0]))
    assert float(total) == pytest.approx(scale * 0.5 * math.log(math.exp(x / 0.5) + math.exp(y / 0.5)), rel=1e-5)
    close(weights(balancer, 2, 20), scale / 2 / 2, scale / 2 / 20)  # equal: they add up to T
    sharp = Stch(AB, mu=1e-3, warmup=1)
    weights(sharp, 1, 1)
    close(weights(sharp, 1, 1.5), 0, 2)


@pytest.mark.parametrize("balancer", [Geometric(), Famo(AB), ImtlL(AB), Stch(AB)])
def test_a_negative_loss_is_named(balancer: Balancer) -> None:
    with pytest.raises(ValueError, match=r"needs losses of at least 0. Found \[1.0, -0.5\]; balancer=sum takes any"):
        balancer(torch.tensor([1.0, -0.5]))


@pytest.mark.parametrize(
    ("cls", "settings", "words"),
    [
        (Dwa, {"temperature": 0.0}, "temperature should be above 0"),
        (Dwa, {"every": 0}, "every should be at least 1"),
        (Stch, {"mu": 0.0}, "mu should be above 0"),
        (Stch, {"warmup": 0}, "warmup should be at least 1"),
        (Famo, {"lr": 0.0}, "lr should be above 0"),
        (Famo, {"decay": -1.0}, "decay should be at least 0"),
        (Famo, {"look": "twice"}, "look should be again or next. Found twice"),
    ],
)
def test_wrong_values_are_named(cls: type[Any], settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        cls(AB, **settings)
