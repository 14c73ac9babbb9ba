"""AdaTT: fusion of all experts plus a residual of a unit's own."""

import pytest
import torch
from naive import FIELDS, WIDTH, expert, gate, mix, reached, rows

from graftrec.models.trunks.adatt import AdaTT

TASKS = ["a", "b"]


@pytest.mark.parametrize(("experts", "shared"), [(1, 0), (1, 1), (2, 0), (2, 3), (1, 2), (3, 1)])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_it_is_its_equation(levels: int, experts: int, shared: int) -> None:
    trunk, e = AdaTT(FIELDS, WIDTH, False, TASKS, levels, experts, shared, [5, 4]).double(), rows()
    counts = {"a": experts, "b": experts} | ({"shared": shared} if shared else {})
    z = dict.fromkeys(counts, e.fields.flatten(1))
    for level in [*trunk.below, trunk.last]:
        h, owners = [], []
        for unit, count in counts.items():
            for _ in range(count):
                h.append(expert(level.experts, len(h), z[unit]))
                owners.append(unit)
        above = {}
        for u, unit in enumerate(TASKS if level is trunk.last else counts):
            above[unit] = mix(gate(level.gates.weight[u], level.gates.bias[u], z[unit]), h)
            for k, owner in enumerate(owners):
                if owner == unit:
                    weight = level.native[k] if max(experts, shared) > 1 else 1.0
                    above[unit] = above[unit] + weight * h[k]
        z = above
    found = trunk(e, TASKS)
    assert list(z) == list(found)
    for task in TASKS:
        torch.testing.assert_close(found[task], z[task])


@pytest.mark.parametrize("shared", [0, 1, 2])
def test_every_task_reads_every_expert_and_nothing_is_left_untrained(shared: int) -> None:
    trunk = AdaTT(FIELDS, WIDTH, False, TASKS, experts=2, shared=shared).double()
    found = trunk(rows(), TASKS)
    for z in found.values():
        for level in [*trunk.below, trunk.last]:
            assert reached(z, level.experts.layers[0].weight) == [True] * (4 + shared)
        assert all(reached(z, trunk.meeting().weight))
    total = sum(z.pow(2).sum() for z in found.values())
    assert all(g.any() for g in torch.autograd.grad(total, list(trunk.parameters())))


def test_the_residual_stays_when_the_gate_looks_away() -> None:
    trunk, e = AdaTT(FIELDS, WIDTH, False, TASKS, levels=1, experts=1, shared=0).double(), rows()
    with torch.no_grad():
        trunk.last.gates.weight.zero_()
        trunk.last.gates.bias.copy_(torch.tensor([[-1e4, 0.0], [0.0, -1e4]]))  # each gate reads the other's expert
    h = [expert(trunk.last.experts, k, e.fields.flatten(1)) for k in range(2)]
    for z in trunk(e, TASKS).values():
        torch.testing.assert_close(z, h[0] + h[1])


def test_native_weights_start_within_their_units_bound() -> None:
    native = AdaTT(FIELDS, WIDTH, False, TASKS, experts=4, shared=100).below[0].native
    assert native.shape == (108,)
    assert native[:8].abs().max() <= 0.5
    assert native[8:].abs().max() <= 0.1


@pytest.mark.parametrize("wrong", [{"levels": 0}, {"experts": 0}, {"shared": -1}, {"hidden": []}])
def test_what_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} should be"):
        AdaTT(FIELDS, WIDTH, False, TASKS, **wrong)
