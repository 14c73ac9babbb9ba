"""SNR: routes of sub-networks, and the distribution of their gates."""

import math

import pytest
import torch
from naive import FIELDS, WIDTH, expert, reached, rows

from graftrec.models.trunks.snr import SNR, Routes

TASKS = ["a", "b"]


@pytest.mark.parametrize("transform", [True, False])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_it_is_its_equation(levels: int, transform: bool) -> None:
    trunk = SNR(FIELDS, WIDTH, False, TASKS, levels, 3, [5, 4], transform).double().eval()
    stages = [*trunk.below, trunk.last, trunk.routes]
    v = [rows().fields.flatten(1)] * 3
    for networks, routes in zip(stages[::2], stages[1::2], strict=True):
        with torch.no_grad():
            routes.log_alpha.normal_(std=2.0)
        u, above = [expert(networks, k, v[k]) for k in range(3)], []
        for j, row in enumerate(routes.log_alpha.tolist()):
            above.append(torch.zeros_like(u[0]))
            for i, log_alpha in enumerate(row):
                z = min(1.0, max(0.0, 1.2 / (1 + math.exp(-log_alpha)) - 0.1))
                above[j] = above[j] + z * (u[i] @ routes.weight[j, :, i].T if transform else u[i])
        v = above
    found = trunk(rows(), TASKS)
    for task, want in zip(TASKS, v, strict=True):
        torch.testing.assert_close(found[task], want)


@pytest.mark.parametrize("log_alpha", [-1.0, 0.0, 2.0])
def test_a_draw_is_closed_and_open_as_often_as_the_distribution_says(log_alpha: float) -> None:
    """P(z <= at) = sigmoid(beta logit(t) - log alpha), t = (at - gamma) / (zeta - gamma), for at in [0, 1)."""

    def below(at: float) -> float:
        t = (at + 0.1) / 1.2
        return 1 / (1 + math.exp(log_alpha - 2 / 3 * math.log(t / (1 - t))))

    torch.manual_seed(0)
    routes = Routes(200, 200, 1, transform=False)
    with torch.no_grad():
        routes.log_alpha.fill_(log_alpha)
        z = routes.gates().double()
    assert 0 <= float(z.min()) <= float(z.max()) <= 1
    for at in (0.0, 0.25, 0.5, 0.75):
        assert float((z <= at).double().mean()) == pytest.approx(below(at), abs=0.01)
    assert float((z < 1).double().mean()) == pytest.approx(below(1.0), abs=0.01)


def test_a_closed_route_carries_nothing_either_way() -> None:
    trunk = SNR(FIELDS, WIDTH, False, TASKS, levels=1, experts=3).double().eval()
    with torch.no_grad():
        trunk.routes.log_alpha.copy_(torch.tensor([[-9.0, 9.0, 9.0], [9.0, 9.0, -9.0]]))
    z = trunk(rows(), TASKS)
    assert reached(z["a"], trunk.last.layers[0].weight) == [False, True, True]
    assert reached(z["b"], trunk.last.layers[0].weight) == [True, True, False]
    before = trunk(rows(), ["a"])["a"]
    with torch.no_grad():
        trunk.last.layers[0].weight[0] += 1
    assert torch.equal(trunk(rows(), ["a"])["a"], before)


def test_gates_are_drawn_in_training_only_and_learnt() -> None:
    torch.manual_seed(0)
    trunk = SNR(FIELDS, WIDTH, False, TASKS).double()
    first, again = trunk(rows(), ["a"])["a"], trunk(rows(), ["a"])["a"]
    assert not torch.equal(first, again)
    routes = [module for module in trunk.modules() if isinstance(module, Routes)]
    assert len(routes) == 2
    for module in routes:
        (gradient,) = torch.autograd.grad(first.sum(), module.log_alpha, retain_graph=True)
        assert gradient.any()
    trunk.eval()
    assert torch.equal(trunk(rows(), ["a"])["a"], trunk(rows(), ["a"])["a"])


def test_its_penalty_is_the_expected_number_of_open_routes() -> None:
    trunk = SNR(FIELDS, WIDTH, False, TASKS, levels=2, experts=3, sparsity=0.5).double()
    expected = 0.0
    for routes in (trunk.below[1], trunk.routes):
        with torch.no_grad():
            routes.log_alpha.normal_(std=2.0)
        for log_alpha in routes.log_alpha.flatten().tolist():
            expected += 0.5 / (1 + math.exp(2 / 3 * math.log(0.1 / 1.1) - log_alpha))
    penalty = trunk.penalty()
    assert penalty.item() == pytest.approx(expected)
    for gradient in torch.autograd.grad(penalty, [trunk.below[1].log_alpha, trunk.routes.log_alpha]):
        assert (gradient > 0).all()  # it closes every route
    assert 0 < SNR(FIELDS, WIDTH, False, TASKS).penalty().item() < 0.01  # 24 routes by default
    assert SNR(FIELDS, WIDTH, False, TASKS, sparsity=0.0).penalty() is None


def test_the_penalty_is_what_the_draws_say() -> None:
    torch.manual_seed(0)
    routes = Routes(200, 200, 1, transform=False)
    with torch.no_grad():
        routes.log_alpha.fill_(-1.0)
        assert float((routes.gates() > 0).double().mean()) == pytest.approx(float(routes.open()) / 200**2, abs=0.01)


@pytest.mark.parametrize("wrong", [{"sparsity": -1.0}, {"levels": 0}, {"experts": 0}, {"hidden": []}])
def test_what_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} should be"):
        SNR(FIELDS, WIDTH, False, TASKS, **wrong)
