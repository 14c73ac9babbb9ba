"""PLE: what each gate reads, level by level."""

import pytest
import torch
from naive import FIELDS, WIDTH, expert, gate, mix, reached, rows

from graftrec.models.trunks.cgc import CGC
from graftrec.models.trunks.ple import PLE

TASKS = ["a", "b"]


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_it_is_its_equation(levels: int) -> None:
    trunk, e = PLE(FIELDS, WIDTH, False, TASKS, levels, experts=2, shared=3, hidden=[5, 4]).double(), rows()
    z = dict.fromkeys([*TASKS, "shared"], e.fields.flatten(1))
    for level in [*trunk.below, trunk.last]:
        shared = [expert(level.shared, k, z["shared"]) for k in range(3)]
        own = {task: [expert(level.own, 2 * t + k, z[task]) for k in range(2)] for t, task in enumerate(TASKS)}
        above = {}
        for t, task in enumerate(TASKS):
            weights = gate(level.gates.weight[t], level.gates.bias[t], z[task])
            above[task] = mix(weights, own[task] + shared)
        if level is not trunk.last:
            weights = gate(level.shared_gate.weight, level.shared_gate.bias, z["shared"])
            above["shared"] = mix(weights, [*own["a"], *own["b"], *shared])
        z = above
    found = trunk(e, TASKS)
    assert list(z) == list(found)
    for task in TASKS:
        torch.testing.assert_close(found[task], z[task])


def test_the_shared_gate_reads_the_experts_of_every_task() -> None:
    """So a task's gradient reaches the others' experts at every level but the last."""
    trunk = PLE(FIELDS, WIDTH, False, TASKS, levels=2, experts=2, shared=2).double()
    for task, own in (("a", [True, True, False, False]), ("b", [False, False, True, True])):
        z = trunk(rows(), TASKS)[task]
        assert reached(z, trunk.below[0].own.layers[0].weight) == [True] * 4
        assert reached(z, trunk.below[0].shared.layers[0].weight) == [True] * 2
        assert reached(z, trunk.last.own.layers[0].weight) == own
        assert reached(z, trunk.meeting().weight) == [True] * 2


def test_a_task_reads_another_only_through_the_shared_experts() -> None:
    trunk = PLE(FIELDS, WIDTH, False, TASKS, levels=2).double()
    with torch.no_grad():
        trunk.last.gates.bias[:, 1:] = -1e4  # the last gates read own experts only
    assert reached(trunk(rows(), ["a"])["a"], trunk.below[0].own.layers[0].weight) == [True, False]


def test_one_level_is_cgc() -> None:
    ple = PLE(FIELDS, WIDTH, False, TASKS, levels=1, hidden=[5, 2]).double()
    cgc, e = CGC(FIELDS, WIDTH, False, TASKS, hidden=[5, 2]).double(), rows()
    cgc.level.load_state_dict(ple.last.state_dict())
    for task, z in ple(e, TASKS).items():
        assert torch.equal(z, cgc(e, TASKS)[task])


def test_the_last_level_has_no_shared_gate() -> None:
    trunk = PLE(FIELDS, WIDTH, False, TASKS, levels=3).double()
    assert [level.shared_gate is None for level in [*trunk.below, trunk.last]] == [False, False, True]
    total = sum(z.pow(2).sum() for z in trunk(rows(), TASKS).values())
    assert all(g.any() for g in torch.autograd.grad(total, list(trunk.parameters())))  # and nothing is left untrained


@pytest.mark.parametrize("wrong", [{"levels": 0}, {"experts": 0}, {"shared": 0}, {"hidden": []}])
def test_what_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} should be"):
        PLE(FIELDS, WIDTH, False, TASKS, **wrong)
