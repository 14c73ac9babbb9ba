"""CoNet and CMF against their equations, row by row."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from graftrec.data.batch import Encoded
from graftrec.models.heads.dot import Dot
from graftrec.models.trunks.cmf import CMF
from graftrec.models.trunks.conet import CoNet

B, F, D, L = 3, 2, 4, 5


def encoded(stream: str = "s") -> Encoded:
    torch.manual_seed(1)
    mask = torch.arange(L)[None] >= torch.arange(B)[:, None]
    return Encoded(torch.randn(B, F, D), torch.randn(B, L, D), mask, stream=stream)


@pytest.mark.parametrize("tasks", [["a"], ["a", "b"], ["a", "b", "c"]])
def test_conet(tasks: list[str]) -> None:
    torch.manual_seed(0)
    trunk = CoNet(F, D, True, tasks, hidden=(6, 5))
    e = encoded()
    assert e.history is not None
    assert e.mask is not None
    found = trunk(e, tasks)
    for row in range(B):
        events = e.history[row][e.mask[row]]
        x = torch.cat([e.fields[row].flatten(), events.mean(0)])
        h: dict[str, Tensor] = dict.fromkeys(tasks, x)
        for layer, crossing in zip(trunk.networks.layers, trunk.crossings, strict=True):
            weight, bias = layer.weight, layer.bias
            new = {}
            for number, task in enumerate(tasks):
                z = weight[number] @ h[task] + bias[number]
                for other in tasks:
                    if other != task:
                        z = z + crossing.weight @ h[other]
                new[task] = z.clamp_min(0)
            h = new
        for task in tasks:
            torch.testing.assert_close(found[task][row], h[task], rtol=1e-4, atol=1e-5)


def test_a_sparse_conet_pays_for_its_crossings() -> None:
    trunk = CoNet(F, D, True, ["a", "b"], hidden=(6, 5), sparse=0.5)
    penalty = trunk.penalty()
    assert penalty is not None
    expected = 0.5 * sum(float(abs(x)) for part in trunk.crossings for x in part.weight.detach().flatten())
    assert float(penalty.detach()) == pytest.approx(expected, rel=1e-5)
    penalty.backward()
    assert all(part.weight.grad.any() for part in trunk.crossings)
    assert CoNet(F, D, True, ["a", "b"]).penalty() is None
    with pytest.raises(ValueError, match="sparse should be at least 0"):
        CoNet(F, D, True, ["a"], sparse=-1.0)


def test_cmf_is_one_user_for_all_domains() -> None:
    trunk = CMF(D, {"a/baskets": ["user", "age"], "b/baskets": ["age", "user"], "rows": ["user", "item"]})
    with torch.no_grad():
        trunk.common.mean.copy_(torch.arange(D))
    m, candidates = torch.arange(D), torch.randn(B, 7, D)
    head = Dot(D, D)
    for stream, place in (("a/baskets", 0), ("b/baskets", 1)):
        e = encoded(stream)
        logits = head(trunk(e, ["t"])["t"], candidates)
        for row in range(B):
            for c in range(7):
                expected = torch.dot(e.fields[row, place] + m, candidates[row, c]) / D**0.5
                assert float(logits[row, c].detach()) == pytest.approx(float(expected), abs=1e-4)
    e = encoded("rows")
    torch.testing.assert_close(trunk(e, ["t"])["t"].sum(1), ((e.fields[:, 0] + m) * e.fields[:, 1]).sum(1))
    with pytest.raises(ValueError, match="user should name a field of stream 's'"):
        CMF(D, {"s": ["item"]})
