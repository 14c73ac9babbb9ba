"""Row-wise rules against their equations, and that nothing else of training notices them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from graftrec.training.optimizers.rowwise import RowWise, clip, summed

STEPS = [torch.tensor([1, 3, 1]), torch.tensor([3, 4]), torch.tensor([1])]


def pair(**more: Any) -> tuple[nn.Parameter, nn.Parameter, RowWise]:
    torch.manual_seed(0)
    table, rest = nn.Parameter(torch.randn(6, 2)), nn.Parameter(torch.randn(3))
    return table, rest, RowWise([table, rest], lr=0.1, **more)


def loss(table: nn.Parameter, rest: nn.Parameter, ids: torch.Tensor, sparse: bool = True) -> torch.Tensor:
    rows = nn.functional.embedding(ids, table, sparse=sparse)
    return (rows.sum(1) * torch.arange(1.0, len(ids) + 1)).pow(2).sum() * rest.sum().cos() + rest.pow(2).sum()


@pytest.mark.parametrize("rule", ["adagrad", "adam"])
def test_each_rule_is_its_equation_and_touches_only_the_rows_it_read(rule: Any) -> None:
    table, rest, optimizer = pair(rule=rule, table_lr=0.3, table_decay=0.2, betas=(0.8, 0.9))
    mine = table.detach().clone()
    v, m, times = torch.zeros(6), torch.zeros(6, 2), torch.zeros(6)
    for ids in STEPS:
        optimizer.zero_grad()
        other = nn.Parameter(mine.clone())
        (gradient,) = torch.autograd.grad(loss(other, rest, ids, sparse=False), other)
        loss(table, rest, ids).backward()
        before = table.detach().clone()
        optimizer.step()
        for row in set(ids.tolist()):
            g = gradient[row]
            if rule == "adagrad":
                v[row] += (g**2).mean()
                step = g / (v[row].sqrt() + 1e-8)
            else:
                times[row] += 1
                m[row] = 0.8 * m[row] + 0.2 * g
                v[row] = 0.9 * v[row] + 0.1 * (g**2).mean()
                corrected = v[row] / (1 - 0.9 ** times[row])
                step = m[row] / (1 - 0.8 ** times[row]) / (corrected.sqrt() + 1e-8)
            mine[row] = mine[row] - 0.3 * (step + 0.2 * mine[row])
        torch.testing.assert_close(table.detach(), mine)
        untouched = [row for row in range(6) if row not in ids]
        assert torch.equal(table.detach()[untouched], before[untouched])


def test_the_rest_follows_adamw() -> None:
    table, rest, optimizer = pair(weight_decay=0.1)
    other = nn.Parameter(rest.detach().clone())
    adamw = torch.optim.AdamW([other], lr=0.1, weight_decay=0.1)
    for ids in STEPS:
        optimizer.zero_grad()
        loss(table, rest, ids).backward()
        other.grad = rest.grad.clone()  # type: ignore[union-attr]
        optimizer.step()
        adamw.step()
        torch.testing.assert_close(rest.detach(), other.detach())


@pytest.mark.parametrize("rule", ["adagrad", "adam"])
def test_a_state_continues_bit_by_bit(rule: Any) -> None:
    table, rest, optimizer = pair(rule=rule)
    twin = None
    for number, ids in enumerate(STEPS):
        for pair_of in [(table, rest, optimizer), *([twin] if twin else [])]:
            pair_of[2].zero_grad()
            loss(pair_of[0], pair_of[1], ids).backward()
            pair_of[2].step()
        if number == 0:
            one, other = nn.Parameter(table.detach().clone()), nn.Parameter(rest.detach().clone())
            twin = (one, other, RowWise([one, other], lr=0.1, rule=rule))
            twin[2].load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert twin is not None
    assert torch.equal(twin[0], table)
    assert torch.equal(twin[1], rest)


def test_a_schedule_moves_both_rates() -> None:
    table, rest, optimizer = pair(table_lr=0.5)
    before = table.detach().clone(), rest.detach().clone()
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    loss(table, rest, STEPS[0]).backward()
    optimizer.step()
    assert torch.equal(before[0], table)
    assert torch.equal(before[1], rest)


@pytest.mark.parametrize("largest", [0.5, 1e6])
def test_clipping_is_the_norm_over_dense_and_sparse_together(largest: float) -> None:
    table, rest, _ = pair()
    loss(table, rest, STEPS[0]).backward()
    norm = clip([table, rest], largest)
    dense = [nn.Parameter(part.detach().clone()) for part in (table, rest)]
    loss(dense[0], dense[1], STEPS[0], sparse=False).backward()
    expected = nn.utils.clip_grad_norm_(dense, largest)
    torch.testing.assert_close(norm, expected)
    assert table.grad is not None
    torch.testing.assert_close(table.grad.to_dense(), dense[0].grad)
    torch.testing.assert_close(rest.grad, dense[1].grad)


def test_rows_of_an_uncoalesced_gradient_are_summed() -> None:
    gradient = torch.sparse_coo_tensor(torch.tensor([[3, 1, 3]]), torch.tensor([[1.0], [2.0], [4.0]]), (5, 1),
                                       check_invariants=True)  # fmt: skip
    rows, values = summed(gradient)
    assert rows.tolist() == [1, 3]
    assert values.tolist() == [[2.0], [5.0]]


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"rule": "sgd"}, "rule"), ({"table_lr": -1.0}, "at least 0"), ({"betas": (0.9, 1.0)}, "betas")],
)
def test_a_wrong_value_is_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        RowWise([nn.Parameter(torch.zeros(1))], **settings)
