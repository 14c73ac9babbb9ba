"""OMoE: one gate, one z."""

import pytest
import torch
from naive import FIELDS, WIDTH, expert, gate, mix, rows

from graftrec.models.trunks.omoe import OMoE


def test_it_is_its_equation() -> None:
    trunk, e = OMoE(FIELDS, WIDTH, False, experts=3, hidden=[5, 2]).double(), rows()
    x = e.fields.flatten(1)
    weights = gate(trunk.gate.weight, trunk.gate.bias, x)
    torch.testing.assert_close(trunk(e, ["a"])["a"], mix(weights, [expert(trunk.experts, k, x) for k in range(3)]))


def test_all_tasks_read_the_same_tensor() -> None:
    z = OMoE(FIELDS, WIDTH, False).double()(rows(), ["b", "a"])
    assert list(z) == ["b", "a"]
    assert z["a"] is z["b"]


@pytest.mark.parametrize(("wrong", "said"), [({"experts": 0}, "experts"), ({"hidden": []}, "hidden")])
def test_what_is_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=f"{said} should be"):
        OMoE(FIELDS, WIDTH, False, **wrong)
