"""HoME against its equations, and who sees whom."""

import pytest
import torch
from torch import Tensor

from graftrec.data.batch import Encoded
from graftrec.models.layers.stream_norm import StreamNorm
from graftrec.models.trunks.home import FeatureGate, HoME, NormedExperts

FIELDS, WIDTH, ROWS, STREAM = 2, 3, 6, 1
TASKS = ["click", "long_view", "like", "share"]
GROUPS = {"watch": ["long_view", "click"], "interact": ["like", "share"]}
STREAMS = {"films": ["user", "item"], "books": ["user", "item"]}
OF = {"click": 0, "long_view": 0, "like": 1, "share": 1}


def encoded(rows: int = ROWS) -> Encoded:
    generator = torch.Generator().manual_seed(0)
    fields = torch.randn(rows, FIELDS, WIDTH, generator=generator, dtype=torch.float64)
    return Encoded(fields, stream=list(STREAMS)[STREAM])


def trunk(experts: int = 2, groups: dict[str, list[str]] | None = GROUPS, tasks: list[str] = TASKS) -> HoME:
    torch.manual_seed(0)
    home = HoME(FIELDS, WIDTH, False, tasks, STREAMS, groups, experts, meta=[5, 4], hidden=[3], rank=2).double()
    with torch.no_grad():
        for module in home.modules():
            if isinstance(module, StreamNorm):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_()
                module.mean.normal_()
                module.var.uniform_(0.5, 1.5)
    return home


def gated(gate: FeatureGate, block: int, v: Tensor) -> Tensor:
    low = v @ gate.down.weight[block].T + gate.down.bias[block]
    return v * 2 / (1 + (-(low @ gate.up.weight[block].T + gate.up.bias[block])).exp())


def expert(experts: NormedExperts, number: int, x: Tensor, training: bool) -> Tensor:
    for layer, norm in zip(experts.layers, experts.norms, strict=True):
        h = x @ layer.weight[number].T + layer.bias[number]
        part = slice(number * h.shape[1], (number + 1) * h.shape[1])
        mean, var = norm.mean[STREAM, part], norm.var[STREAM, part]
        if training:
            mean, var = h.mean(0), h.var(0, unbiased=False)
        h = norm.weight[part] * (h - mean) / (var + 1e-5).sqrt() + norm.bias[part]
        x = h * h.sigmoid()
    return x


def linear(layer: torch.nn.Module, at: int, x: Tensor) -> Tensor:
    return x @ layer.weight[at].T + layer.bias[at]


def mix(gate: Tensor, outputs: list[Tensor]) -> Tensor:
    return sum((gate[:, i : i + 1] * output for i, output in enumerate(outputs)), torch.zeros(()))


@pytest.mark.parametrize("experts", [1, 2])
@pytest.mark.parametrize("training", [True, False])
def test_it_is_its_equations(experts: int, training: bool) -> None:
    home, e = trunk(experts).train(training), encoded()
    with torch.no_grad():  # running statistics move in training, and are read before that here
        expected = _by_hand(home, e.fields.reshape(ROWS, -1), experts, training)
        z = home(e, ["share", "click", "like", "long_view"])
    for task in TASKS:
        torch.testing.assert_close(z[task], expected[task])


def _by_hand(home: HoME, x: Tensor, count: int, training: bool) -> dict[str, Tensor]:
    def own(scores: Tensor, outputs: list[Tensor]) -> Tensor:
        return mix(scores.softmax(-1) if count > 1 else scores.sigmoid(), outputs)

    def block(experts: NormedExperts, at: int, read: Tensor) -> list[Tensor]:
        return [expert(experts, at * count + i, read, training) for i in range(count)]

    h = [block(home.meta, at, gated(home.meta_features, at, x)) for at in range(3)]  # shared, watch, interact
    meta = []
    for at in range(3):
        seen = [0, 1, 2] if at == 0 else [0, at]
        scores = linear(home.meta_gates, at, x)
        scores = torch.cat([scores[:, b * count : (b + 1) * count] for b in seen], 1)
        mixed = mix(scores.softmax(-1), [output for b in seen for output in h[b]])
        meta.append(mixed + own(linear(home.meta_selves, at, x), h[at]))
    common = [block(home.experts, at, gated(home.features, at, meta[at])) for at in range(3)]
    z = {}
    for t, task in enumerate(TASKS):
        group = 1 + OF[task]
        mine = block(home.experts, 3 + t, gated(home.features, 3 + t, meta[group]))
        gate = linear(home.gates, t, torch.cat([meta[group], meta[0]], 1)).softmax(-1)
        z[task] = mix(gate, [*common[0], *common[group], *mine]) + own(linear(home.selves, t, meta[group]), mine)
    return z


def test_a_task_trains_its_own_experts_its_groups_and_the_shared_ones() -> None:
    home = trunk()
    home(encoded(), ["like"])["like"].pow(2).sum().backward()
    trained = home.experts.layers[0].weight.grad.flatten(1).abs().sum(1).view(7, 2) > 1e-12
    # shared, watch, interact, then the tasks; experts of a block learn together
    assert trained.all(1).tolist() == trained.any(1).tolist() == [True, False, True, False, False, True, False]
    assert (home.meta.layers[0].weight.grad.flatten(1).abs().sum(1) > 1e-12).all()  # all by way of the shared block


def test_a_training_batch_of_one_row_takes_running_statistics() -> None:
    home, e = trunk(), encoded(rows=1)
    assert torch.equal(home(e, ["like"])["like"], home.eval()(e, ["like"])["like"])
    home.train()
    both = home(e, ["like"])["like"].sum() + home(encoded(), ["click"])["click"].sum()
    both.backward()  # the second has moved running statistics by now


def test_groups_name_each_task_once_and_may_name_those_that_rest() -> None:
    assert trunk(groups=None).groups == 1
    assert trunk().groups == 2
    alone = trunk(tasks=["share"])
    assert alone.groups == 1
    assert list(alone(encoded(), ["share"])) == ["share"]
    for wrong in ({"watch": TASKS[:3]}, {"watch": TASKS, "interact": ["like"]}, {"watch": [*TASKS[:3], "shar"]}):
        with pytest.raises(ValueError, match="groups should name each of"):
            trunk(groups=wrong)
    with pytest.raises(ValueError, match="experts and rank"):
        trunk(experts=0)
