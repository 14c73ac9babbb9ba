"""CGC: a task's gate reads its own and the shared experts, never another's."""

import pytest
import torch
from naive import FIELDS, WIDTH, expert, gate, mix, reached, rows

from graftrec.models.trunks.cgc import CGC

TASKS = ["a", "b", "c"]


def test_it_is_its_equation() -> None:
    trunk, e = CGC(FIELDS, WIDTH, False, TASKS, experts=2, shared=3, hidden=[5, 2]).double(), rows()
    x, level, found = e.fields.flatten(1), trunk.level, trunk(e, TASKS)
    shared = [expert(level.shared, k, x) for k in range(3)]
    for t, task in enumerate(TASKS):
        own = [expert(level.own, 2 * t + k, x) for k in range(2)]
        weights = gate(level.gates.weight[t], level.gates.bias[t], x)
        torch.testing.assert_close(found[task], mix(weights, own + shared))


def test_no_gradient_reaches_the_experts_of_another_task() -> None:
    trunk = CGC(FIELDS, WIDTH, False, TASKS, experts=2, shared=1).double()
    z = trunk(rows(), TASKS)["b"]
    for own, shared in zip(trunk.level.own.layers, trunk.level.shared.layers, strict=True):
        assert reached(z, own.weight) == [False, False, True, True, False, False]
        assert reached(z, shared.weight) == [True]
    assert reached(z, trunk.level.gates.weight) == [False, True, False]


def test_only_what_is_asked_comes_back() -> None:
    trunk, e = CGC(FIELDS, WIDTH, False, TASKS).double(), rows()
    every, some = trunk(e, TASKS), trunk(e, ["c", "a"])
    assert list(some) == ["c", "a"]
    for task, z in some.items():
        torch.testing.assert_close(z, every[task])


@pytest.mark.parametrize("wrong", [{"experts": 0}, {"shared": 0}, {"hidden": []}])
def test_what_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} should be"):
        CGC(FIELDS, WIDTH, False, TASKS, **wrong)
