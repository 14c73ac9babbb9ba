"""AITM against its equations along the chain."""

import math

import pytest
import torch
from torch import Tensor

from graftrec.data.batch import Encoded
from graftrec.models.trunks.aitm import AITM

FIELDS, WIDTH, ROWS, K = 2, 3, 5, 8
TASKS = ["click", "order", "pay"]


def encoded() -> Encoded:
    generator = torch.Generator().manual_seed(0)
    return Encoded(torch.randn(ROWS, FIELDS, WIDTH, generator=generator, dtype=torch.float64))


def trunk(order: list[str] | None = None, tasks: list[str] = TASKS) -> AITM:
    torch.manual_seed(0)
    return AITM(FIELDS, WIDTH, False, tasks, [6, K], order).double()


def q(aitm: AITM, x: Tensor, place: int) -> Tensor:
    for layer in aitm.towers.layers:
        x = (x @ layer.weight[place].T + layer.bias[place]).clamp_min(0)
    return x


def test_it_is_its_equations_in_the_order_of_the_chain() -> None:
    chain = ["pay", "click", "order"]
    aitm, e = trunk(chain).requires_grad_(False), encoded()
    aitm.scale.weight.uniform_(0.5, 2.0)
    x = e.fields.reshape(ROWS, -1) * aitm.scale.weight
    parts = zip(aitm.attention.weight.split(K), aitm.attention.bias.split(K), strict=True)
    h1, h2, h3 = (lambda u, w=w, b=b: u @ w.T + b for w, b in parts)
    before, z = q(aitm, x, 0), aitm(e, TASKS)
    torch.testing.assert_close(z["pay"], before)
    for place, task in enumerate(chain[1:], 1):
        transfer = aitm.transfers[place - 1]
        told = (before @ transfer.weight.T + transfer.bias).clamp_min(0)
        rows = []
        for row in range(ROWS):
            inputs = [told[row], q(aitm, x, place)[row]]
            powers = [math.exp(float(h2(u) @ h3(u)) / math.sqrt(K)) for u in inputs]
            rows.append(sum(p / sum(powers) * h1(u) for p, u in zip(powers, inputs, strict=True)))
        before = torch.stack(rows)
        torch.testing.assert_close(z[task], before)


def test_weights_sum_to_1() -> None:
    aitm, constant = trunk(), torch.arange(1.0, K + 1, dtype=torch.float64)
    with torch.no_grad():  # then h1 says the same of both inputs, and so does every mean of the two
        aitm.attention.weight[:K] = 0
        aitm.attention.bias[:K] = constant
    torch.testing.assert_close(aitm(encoded(), ["pay"])["pay"], constant.expand(ROWS, K))


def test_a_task_reads_those_before_it_and_none_after() -> None:
    aitm = trunk()
    for place, task in enumerate(TASKS):
        gradients = torch.autograd.grad(aitm(encoded(), [task])[task].pow(2).sum(), list(aitm.towers.parameters()))
        for gradient in gradients:
            assert all(gradient[: place + 1].flatten(1).any(1))
            assert not gradient[place + 1 :].any()


def test_the_order_names_each_task_once_and_may_name_those_that_rest() -> None:
    assert trunk().order == TASKS
    assert trunk(["pay", "click", "order"], ["click", "pay"]).order == ["pay", "click"]
    alone = trunk(TASKS, ["pay"])
    alone(encoded(), ["pay"])["pay"].sum().backward()
    assert all(parameter.grad is not None for parameter in alone.parameters())
    for wrong in (["click", "order"], ["click", "order", "pai"], ["click", "order", "pay", "pay"], []):
        with pytest.raises(ValueError, match="order should name each of"):
            trunk(wrong)
