"""Cross-stitch: what a unit mixes, and what it does not when it is the identity."""

import pytest
import torch
from naive import FIELDS, WIDTH, expert, reached, rows

from graftrec.models.trunks.cross_stitch import CrossStitch

TASKS = ["a", "b", "c"]


def test_it_is_its_equation() -> None:
    trunk, e = CrossStitch(FIELDS, WIDTH, False, TASKS, [5, 2]).double(), rows()
    with torch.no_grad():
        for stitch in trunk.stitches:
            stitch.weight.normal_()
    h = {task: e.fields.flatten(1) for task in TASKS}
    for layer, unit in zip(trunk.networks.layers, trunk.stitches, strict=True):
        out = {
            task: (h[task] @ layer.weight[t].T + layer.bias[t]).clamp_min(0) for t, task in enumerate(TASKS)
        }  # what the units of this layer read
        h = {task: sum(unit.weight[t, s] * out[other] for s, other in enumerate(TASKS)) for t, task in enumerate(TASKS)}
    for task, z in trunk(e, TASKS).items():
        torch.testing.assert_close(z, h[task])


def test_units_start_near_the_identity() -> None:
    trunk = CrossStitch(FIELDS, WIDTH, False, TASKS, own=0.8)
    want = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])
    assert len(trunk.stitches) == 2
    for stitch in trunk.stitches:
        torch.testing.assert_close(stitch.weight.detach(), want)


def test_with_the_identity_every_task_has_a_network_of_its_own() -> None:
    trunk, e = CrossStitch(FIELDS, WIDTH, False, TASKS, [5, 2], own=1.0).double(), rows()
    z = trunk(e, ["c", "a"])
    torch.testing.assert_close(z["a"], expert(trunk.networks, 0, e.fields.flatten(1)))
    torch.testing.assert_close(z["c"], expert(trunk.networks, 2, e.fields.flatten(1)))
    for layer in trunk.networks.layers:
        assert reached(z["c"], layer.weight) == [False, False, True]


def test_gradients_of_tasks_meet_in_every_network() -> None:
    trunk, e = CrossStitch(FIELDS, WIDTH, False, TASKS).double(), rows()
    for z in trunk(e, TASKS).values():
        assert reached(z, trunk.meeting().weight) == [True, True, True]


def test_a_task_alone_is_one_network() -> None:
    trunk, e = CrossStitch(FIELDS, WIDTH, False, ["a"]).double(), rows()
    torch.testing.assert_close(trunk(e, ["a"])["a"], expert(trunk.networks, 0, e.fields.flatten(1)))


@pytest.mark.parametrize(("wrong", "said"), [({"own": 1.1}, "own"), ({"hidden": []}, "hidden")])
def test_what_is_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=f"{said} should be"):
        CrossStitch(FIELDS, WIDTH, False, TASKS, **wrong)
