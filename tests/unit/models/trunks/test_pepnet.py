"""PEPNet against its equations, and what its gates do not train."""

import pytest
import torch
from torch import Tensor

from graftrec.data.batch import Encoded
from graftrec.models.trunks.pepnet import Gate, PEPNet

WIDTH, ROWS, TASKS = 3, 5, ["a", "b"]
STREAMS = {"books": ["user", "item", "numbers"], "films": ["item", "numbers", "user"]}


def encoded(stream: str) -> Encoded:
    generator = torch.Generator().manual_seed(0)
    return Encoded(torch.randn(ROWS, 3, WIDTH, generator=generator, dtype=torch.float64), stream=stream)


def trunk(prior: tuple[str, ...] = ("user", "item"), gamma: float = 2.0) -> PEPNet:
    torch.manual_seed(0)
    return PEPNet(3, WIDTH, False, TASKS, STREAMS, prior, gamma, [5, 4]).double()


def gate(unit: Gate, x: Tensor, gamma: float) -> Tensor:
    inner = (x @ unit.inner.weight.T + unit.inner.bias).clamp_min(0)
    return gamma / (1 + (-(inner @ unit.outer.weight.T + unit.outer.bias)).exp())


@pytest.mark.parametrize(("stream", "places"), [("books", [0, 1]), ("films", [2, 0])])
def test_it_is_its_equations_with_the_prior_where_each_stream_has_it(stream: str, places: list[int]) -> None:
    pepnet, e = trunk(gamma=1.5), encoded(stream)
    x = e.fields.reshape(ROWS, -1)
    domain = pepnet.embedding.domains[list(STREAMS).index(stream)]
    o = gate(pepnet.embedding.gate, torch.cat([domain.expand(ROWS, -1), x], 1), 1.5) * x
    given = torch.cat([*(e.fields[:, place] for place in places), o], 1)
    z = pepnet(e, ["b", "a"])
    for t, task in enumerate(TASKS):
        h = o
        for layer, unit in zip(pepnet.towers, pepnet.gates, strict=True):
            scales = gate(unit, given, 1.5)
            size = scales.shape[1] // 2
            h = (h @ layer.weight[t].T + layer.bias[t]).clamp_min(0) * scales[:, t * size : (t + 1) * size]
        torch.testing.assert_close(z[task], h)


def test_gates_stop_the_gradient_of_what_they_judge() -> None:
    pepnet, e = trunk(prior=("user",)), encoded("books")
    e.fields.requires_grad_(True)
    x = e.fields.flatten(1)
    seen: list[Tensor] = []
    pepnet.embedding.gate.register_forward_hook(lambda module, given, output: seen.append(output))
    o = pepnet.embedding(x, 0)
    (into,) = torch.autograd.grad(o.sum(), x)
    torch.testing.assert_close(into, seen[0])  # of gate(E) * E only the second factor
    scale = pepnet.embedding.gate(torch.cat([pepnet.embedding.domains[:1].expand(ROWS, -1), x], 1))
    assert torch.autograd.grad(scale.sum(), x)[0].any()  # which a gradient through the gate would have shown

    # with towers that give a constant, the way into the fields is the prior's alone
    with torch.no_grad():
        for layer in pepnet.towers:
            layer.weight.zero_()
            layer.bias.fill_(1.0)
    (into,) = torch.autograd.grad(pepnet(e, ["a"])["a"].sum(), e.fields)
    assert into[:, 0].any()
    assert not into[:, 1:].any()


def test_a_task_and_a_domain_train_their_own() -> None:
    pepnet = trunk()
    pepnet(encoded("films"), ["b"])["b"].pow(2).sum().backward()
    for layer in pepnet.towers:
        assert not layer.weight.grad[0].any()
        assert layer.weight.grad[1].any()
    domains = pepnet.embedding.domains.grad
    assert not domains[0].any()
    assert domains[1].any()


def test_a_prior_that_a_stream_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'books', \['user', 'item', 'numbers'\]. Found \['author'\]"):
        trunk(prior=("author",))
    with pytest.raises(ValueError, match="at least one field"):
        trunk(prior=())
    with pytest.raises(ValueError, match="gamma should be above 0"):
        trunk(gamma=0.0)
    with pytest.raises(ValueError, match="Found 'games'"):
        trunk()(encoded("games"), ["a"])
