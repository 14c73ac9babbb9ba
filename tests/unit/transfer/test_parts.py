"""What strategies do to a model, on small numbers worked out by hand or naively."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graftrec.models.layers.adapters import Bottleneck, LowRank, behind
from graftrec.models.layers.embedding_tables import Tables
from graftrec.models.layers.experts import BatchedLinear
from graftrec.training.optimizers.groups import paced, without_decay
from graftrec.training.optimizers.rowwise import RowWise
from graftrec.transfer.adapters import Adapters
from graftrec.transfer.base import Past
from graftrec.transfer.carry import carry
from graftrec.transfer.distillation import Distillation
from graftrec.transfer.emcdr import EMCDR, by_network, linear
from graftrec.transfer.gradual_unfreezing import GradualUnfreezing
from graftrec.transfer.l2_sp import L2SP, Pull
from graftrec.transfer.lora import LoRA, LowRankChanges
from graftrec.transfer.ptupcdr import Bridge, Bridged, Chosen
from graftrec.transfer.rows import NewRowsOnly, SeenRows

D = 4


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Encoder(nn.Module):
    def __init__(self, sparse: bool) -> None:
        super().__init__()
        self.tables = Tables({"user": 5, "item": 6}, D, sparse=sparse)
        self.map = nn.Linear(D, D)


class Model(nn.Module):
    """Tables, a dense layer, experts and a head."""

    def __init__(self, sparse: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = Encoder(sparse)
        self.trunk = nn.Sequential(nn.Linear(D, 3), BatchedLinear(2, 3, 3))
        self.tasks = nn.ModuleDict({"t": nn.Linear(3, 1)})

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        x = self.encoder.map(self.encoder.tables("user", users)) + self.encoder.tables("item", items)
        found: Tensor = self.tasks["t"](self.trunk(x).sum(0)).squeeze(-1)
        return found


USERS, ITEMS = torch.tensor([1, 2, 2]), torch.tensor([3, 4, 0])
BLOCK = "encoder.tables.block_4"


# --- carry


def test_a_wrong_name_says_the_nearest_right_ones() -> None:
    state = Model().state_dict()
    with pytest.raises(ValueError, match=r"nothing for 'encodr\.'.*did you mean encoder\.\?"):
        carry(Model(), state, ("encodr.", "trunk."))
    with pytest.raises(ValueError, match=r"nothing for 'encoder\.tabels\.'.*did you mean encoder\.tables\."):
        carry(Model(), state, ("encoder.tabels.",))
    with pytest.raises(ValueError, match=r"there are encoder\., trunk\., tasks\."):
        carry(Model(), state, ("x",))


def test_a_carry_over_says_what_it_did() -> None:
    state = Model().state_dict()
    state["encoder.old"] = torch.zeros(1)
    state["trunk.0.weight"] = torch.zeros(1, 1)
    report = carry(Model(), state, ("encoder.", "interaction.", "trunk."))
    assert report.mismatched == ["trunk.0.weight"]
    assert set(report.left) == {"encoder.old", "tasks.t.weight", "tasks.t.bias"}
    assert set(report.new) == {"tasks.t.weight", "tasks.t.bias"}
    assert "1 of another shape: trunk.0.weight" in report.line()
    with pytest.raises(ValueError, match=r"mismatched in shape: trunk\.0\.weight"):
        carry(Model(), {"trunk.0.weight": torch.zeros(1, 1)}, ("trunk.",))
    with pytest.raises(ValueError, match=r"there 'trunk\.0\.wait', here trunk\.0\.weight"):
        carry(Model(), {"trunk.0.wait": torch.zeros(1, 1)}, ("trunk.",))


# --- rates


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_the_longest_prefix_decides_the_rate(optimizer: type[torch.optim.Optimizer]) -> None:
    model = Model()
    made = optimizer(model.parameters(), lr=1.0, weight_decay=0.5)
    paced(made, dict(model.named_parameters()), {"encoder.": 0.1, "encoder.map.": 0.2, "trunk.": 0.1})
    rate = {id(part): group["lr"] for group in made.param_groups for part in group["params"]}
    for name, part in model.named_parameters():
        expected = 0.2 if ".map." in name else 1.0 if name.startswith("tasks") else 0.1
        assert rate[id(part)] == pytest.approx(expected), name
    assert {group["weight_decay"] for group in made.param_groups} == {0.5}
    without_decay(made)
    assert {group["weight_decay"] for group in made.param_groups} == {0.0}


def test_layers_thaw_from_the_last_to_the_first() -> None:
    plan = GradualUnfreezing(layers=("encoder.", "trunk.", "tasks."), decay=2.0).phases()
    assert [phase.frozen for phase in plan[1:]] == [("encoder.", "trunk.", "interaction."), ("encoder.",), ()]
    assert dict(plan[1].rates) == {"encoder.": 0.25, "trunk.": 0.5, "tasks.": 1.0, "interaction.": 0.5}
    assert [phase.start_from for phase in plan] == [None, "pretrain", "unfreeze_1", "unfreeze_2"]
    assert ["tasks." in phase.carry for phase in plan[1:]] == [False, True, True]  # a head goes on


def test_a_part_of_the_trunk_can_thaw_after_the_rest_of_it() -> None:
    layers = ("encoder.", "trunk.0.", "trunk.", "tasks.")
    plan = GradualUnfreezing(layers=layers, decay=2.0).phases()
    names = [name for name, _ in Model().named_parameters()]
    thawed = [{name for name in names if not name.startswith(phase.frozen)} for phase in plan[1:]]
    assert [sorted(new - old) for old, new in zip([set(), *thawed], thawed, strict=False)] == [
        ["tasks.t.bias", "tasks.t.weight"], ["trunk.1.bias", "trunk.1.weight"], ["trunk.0.bias", "trunk.0.weight"],
        sorted(name for name in names if name.startswith("encoder.")),
    ]  # fmt: skip
    # an interaction stands in front of the trunk: in none of its layers, it would train from the beginning
    assert ["interaction." in phase.frozen for phase in plan[1:]] == [True, True, False, False]
    assert plan[1].rates["interaction."] == plan[1].rates["trunk.0."] == 0.25
    own = GradualUnfreezing(layers=("encoder.", "interaction.", "trunk.", "tasks."), decay=2.0).phases()
    assert [phase.frozen for phase in own[1:]] == [("encoder.", "interaction.", "trunk."), ("encoder.", "interaction."),
                                                   ("encoder.",), ()]  # fmt: skip


# --- rows


def trained(sparse: bool) -> SeenRows:
    """Rows that one step of the model reads."""
    model, seen = Model(sparse), SeenRows()
    seen.start(model, Past())
    model(USERS, ITEMS).pow(2).sum().backward()
    seen.gradients()
    seen.finish(model)
    return seen


@pytest.mark.parametrize("sparse", [False, True])
def test_rows_that_were_read_are_known_by_table(sparse: bool) -> None:
    rows = trained(sparse).rows
    assert rows["encoder.tables.user.weight"].nonzero().flatten().tolist() == [1, 2]
    assert rows["encoder.tables.item.weight"].nonzero().flatten().tolist() == [0, 3, 4]


@pytest.mark.parametrize("sparse", [False, True])
def test_only_new_rows_move(sparse: bool) -> None:
    model, means = Model(sparse), NewRowsOnly(trained(sparse))
    before = model.encoder.tables.block.detach().clone()
    means.start(model, Past())
    optimizer = torch.optim.SGD([model.encoder.tables.block], 0.1, weight_decay=0.0 if sparse else 0.5)
    model(torch.tensor([1, 3]), torch.tensor([4, 5])).pow(2).sum().backward()
    means.gradients()
    optimizer.step()
    means.stepped()
    moved = (model.encoder.tables.block != before).any(1).nonzero().flatten().tolist()
    if sparse:
        assert moved == [3, 5 + 5]
    else:  # weight decay moves what is new and was not read
        assert moved == [0, 3, 4, 5 + 1, 5 + 2, 5 + 5]
    assert means.finish(model) == "6 of 11 rows of tables were new and could learn"


# --- L2-SP


SGD: Any = partial(torch.optim.SGD, lr=0.1)
ADAM: Any = partial(torch.optim.AdamW, lr=0.1, weight_decay=0.0)
ROWS: Any = partial(RowWise, lr=0.1, table_lr=0.3)


@pytest.mark.parametrize(("optimizer", "sparse"), [(SGD, False), (ADAM, False), (ROWS, True)])
def test_a_step_pulls_towards_the_source(optimizer: Any, sparse: bool) -> None:
    alpha, beta = 0.3, 0.7
    model, seen = Model(sparse), trained(sparse)
    model.tasks.add_module("norm", nn.LayerNorm(3))
    loaded = tuple(name for name in model.state_dict() if name.startswith(("encoder.", "trunk.")))
    means = Pull(alpha, beta, seen)
    means.start(model, Past(loaded=loaded))
    start = {name: part.detach().clone() for name, part in model.named_parameters()}
    with torch.no_grad():
        for number, part in enumerate(model.parameters()):
            part += draw(*part.shape, seed=number)
    rule = optimizer(model.parameters())
    means.optimized_by(rule)
    alone = copy.deepcopy(model)
    plain = optimizer(alone.parameters())
    for each, step in ((model, rule), (alone, plain)):
        (each(USERS, ITEMS).pow(2).sum() + each.tasks["norm"](draw(2, 3)).pow(3).sum()).backward()
        step.step()

    known = torch.zeros(11, 1, dtype=torch.bool)
    known[[1, 2, 5, 5 + 3, 5 + 4]] = True
    read = known if sparse else torch.ones_like(known)
    for name, part in model.named_parameters():
        w = alone.get_parameter(name).detach()
        if name == BLOCK:
            pull = torch.where(known, alpha * (w - start[name]), beta * w) * read * (3 if sparse else 1)
        elif name.startswith("tasks."):
            # a new bias and a new norm say something at 0 and at 1, and are let alone
            pull = beta * w if name == "tasks.t.weight" else torch.zeros_like(w)
        else:
            pull = alpha * (w - start[name])
        torch.testing.assert_close(part.detach(), w - 0.1 * pull, msg=name)


def test_a_weight_without_a_step_is_not_pulled() -> None:
    model, seen = Model(), trained(False)
    means = Pull(0.3, 0.7, seen)
    means.start(model, Past(loaded=("trunk.0.weight",)))
    rule = SGD(model.parameters())
    means.optimized_by(rule)
    model.trunk[0].weight.data.add_(1.0)
    before = model.trunk[0].weight.detach().clone()
    rule.step()  # no gradient: a step that was left out
    assert torch.equal(model.trunk[0].weight, before)
    assert (
        means.finish(model) == f"the penalty towards the source's weights ended at {3 * D * 0.3 / 2 + rest(model):.4g}"
    )


def rest(model: Model) -> float:
    """beta / 2 |w|^2 of all other weights, where nothing was carried."""
    weights = [
        part for name, part in model.named_parameters() if not name.endswith("bias") and name != "trunk.0.weight"
    ]
    return 0.35 * sum(float(part.detach().square().sum()) for part in weights)


# --- LoRA and adapters


@pytest.mark.parametrize("sparse", [False, True])
def test_lora_is_the_base_at_first_learns_and_merges(sparse: bool) -> None:
    model = Model(sparse)
    before = model(USERS, ITEMS)
    names = set(model.state_dict())
    for part in model.parameters():
        part.requires_grad_(False)
    means = LowRankChanges(rank=2, alpha=4.0)
    means.build(model)
    assert torch.equal(model(USERS, ITEMS), before)
    learning = {name: part for name, part in model.named_parameters() if part.requires_grad}
    assert {name.rsplit(".", 1)[0] for name in learning} == {
        "encoder.tables.low.4", "encoder.map.parametrizations.weight.0",
        "trunk.0.parametrizations.weight.0", "trunk.1.parametrizations.weight.0",
    }  # fmt: skip
    with torch.no_grad():
        for number, part in enumerate(learning.values()):
            part.copy_(draw(*part.shape, seed=number))
    saved = {name: value.clone() for name, value in model.state_dict().items()}
    after = model(USERS, ITEMS)
    assert not torch.allclose(after, before)

    low = model.get_submodule("trunk.0.parametrizations.weight.0")
    assert isinstance(low, LowRank)
    original = saved["trunk.0.parametrizations.weight.original"]
    expected = original + 4.0 / 2 * low.b @ low.a  # equation 3
    rows = (
        saved["encoder.tables.item.weight"]
        + 2.0 * saved["encoder.tables.low.4.a"][5:] @ saved["encoder.tables.low.4.b"]
    )
    means.finish(model)
    assert set(model.state_dict()) == names
    torch.testing.assert_close(model.get_parameter("trunk.0.weight"), expected)
    torch.testing.assert_close(model.state_dict()["encoder.tables.item.weight"], rows)
    torch.testing.assert_close(model(USERS, ITEMS), after, rtol=1e-4, atol=1e-4)


def test_rows_of_several_ids_are_changed_as_single_ones() -> None:
    tables = Tables({"item": 6}, D)
    tables.adapt(2, 1.5)
    with torch.no_grad():
        tables.get_parameter("low.4.a").copy_(draw(6, 2))
    ids = torch.tensor([[1, 2, 0], [3, 0, 0]])
    bag = tables.bag(ids, ids > 0)
    one, two, three = (tables("item", torch.tensor(i)) for i in (1, 2, 3))
    torch.testing.assert_close(bag, torch.stack([(one + two) / 2, three]))
    torch.testing.assert_close(tables.gather(ids)[0, 0], one)


@pytest.mark.parametrize(("items", "rank"), [(6, D), (3, 3)])
def test_a_change_of_rows_is_no_wider_than_they_are_and_reaches_any_other_rows(items: int, rank: int) -> None:
    tables = Tables({"item": items}, D)
    wanted = draw(items, D)
    with torch.no_grad():
        change = wanted - tables.block
        tables.adapt(1_000, 0.5)
        a, b = tables.get_parameter("low.4.a"), tables.get_parameter("low.4.b")
        assert (a.shape, b.shape) == ((items, rank), (rank, D))
        left, sizes, right = torch.linalg.svd(change, full_matrices=False)
        a.copy_(left * sizes / 0.5)
        b.copy_(right)
    tables.merge()
    torch.testing.assert_close(tables.block.detach(), wanted)


@pytest.mark.parametrize("layer", [nn.Linear(3, 5), BatchedLinear(2, 3, 5)])
def test_a_bottleneck_changes_nothing_at_first_and_then_its_layers_output(layer: nn.Linear | BatchedLinear) -> None:
    x = draw(7, 3)
    before = layer(x)
    layer.add_module("adapter", Bottleneck(layer.weight, 2))
    layer.register_forward_hook(behind)
    assert torch.equal(layer(x), before)
    adapter = layer.get_submodule("adapter")
    for number, part in enumerate(adapter.parameters()):
        part.data.copy_(draw(*part.shape, seed=number))
    down, up = adapter.get_submodule("down"), adapter.get_submodule("up")
    expected = before + up(down(before).clamp_min(0))
    torch.testing.assert_close(layer(x), expected)


# --- EMCDR


def test_the_linear_map_is_the_least_squares_one() -> None:
    source = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 2.0]])
    target = torch.tensor([[3.0, 1.0], [2.0, 4.0], [6.0, 4.0]])
    # normal equations by hand: S^T S = [[2, 2], [2, 8]], S^T T = [[9, 5], [16, 16]]
    expected = torch.tensor([[8.0, -2.0], [-2.0, 2.0]]) @ torch.tensor([[9.0, 5.0], [16.0, 16.0]]) / 12
    torch.testing.assert_close(linear(source, target), expected)


def test_the_network_learns_a_map_that_is_not_linear() -> None:
    source = draw(200, 2)
    target = source.abs()
    state = torch.get_rng_state()
    found = by_network(source[:150], target[:150], source[150:], 8, 500)
    assert torch.equal(torch.get_rng_state(), state)
    assert (found - target[150:]).square().mean() < 0.1 * (
        source[150:] @ linear(source[:150], target[:150]) - target[150:]
    ).square().mean()
    assert torch.equal(found, by_network(source[:150], target[:150], source[150:], 8, 500))


# --- PTUPCDR


def bridge() -> Bridge:
    torch.manual_seed(0)
    return Bridge(draw(5, D), torch.tensor([[0, 0], [0, 3], [1, 2], [0, 0], [2, 2]]), draw(6, D, seed=1), hidden=3)


def test_a_bridge_is_made_of_what_the_user_chose() -> None:
    made = bridge()
    found = made(torch.tensor([2, 1, 3]))
    h1, _, h2 = made.attention
    g1, _, g2 = made.decoder
    for row, (user, items) in enumerate(((2, [1, 2]), (1, [3]), (3, []))):
        scores = [float(h2((h1(made.vectors[i])).clamp_min(0)).detach()) for i in items]
        top = [torch.tensor(score).exp() for score in scores]
        p = sum((w / sum(top) * made.vectors[i] for w, i in zip(top, items, strict=True)), torch.zeros(D))
        matrix = g2(g1(p).clamp_min(0)).view(D, D)
        torch.testing.assert_close(found[row], made.users[user] @ matrix)


def test_only_known_users_go_over_the_bridge_and_only_those_of_the_source_keep_it() -> None:
    made, block = bridge(), nn.Parameter(draw(9, D, seed=2), requires_grad=False)
    both, alone = torch.tensor([1]), torch.tensor([4])
    change = Bridged(made, block, 3, both, alone)  # users are rows 3 to 7
    rows = torch.tensor([[3 + 1, 3 + 4], [0, 3 + 2]])
    found = block[rows] + change(rows)
    torch.testing.assert_close(found[0], made(torch.tensor([1, 4])))
    assert torch.equal(found[1], block[rows[1]])
    nobody = change(torch.tensor([0]))
    assert nobody.requires_grad  # so that a batch without a user has a backward pass
    assert not nobody.any()
    after = block + change.change()
    torch.testing.assert_close(after[3 + 4], made(alone)[0])
    assert (after != block).any(1).nonzero().flatten().tolist() == [3 + 4]


def test_the_longest_history_of_a_user_is_kept() -> None:
    chosen = Chosen(3)
    chosen.items = torch.zeros(4, 3, dtype=torch.int64)
    chosen._take(torch.tensor([1, 2, 1, 0]), torch.tensor([[0, 5], [6, 7], [8, 9], [1, 1]]))
    chosen._take(torch.tensor([2]), torch.tensor([[0, 4]]))
    assert chosen.items.tolist() == [[0, 0, 0], [0, 8, 9], [0, 6, 7], [0, 0, 0]]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: L2SP(alpha=-1), "alpha"),
        (lambda: LoRA(alpha=0), "alpha"),
        (lambda: LoRA(rank=0), "rank"),
        (lambda: Adapters(width=0), "width"),
        (lambda: Distillation(share=0), "share"),
        (lambda: Distillation(temperature=0), "temperature"),
        (lambda: EMCDR(hidden=-1), "hidden"),
        (lambda: GradualUnfreezing(decay=0.5), "decay"),
        (lambda: GradualUnfreezing(layers=["tasks."]), "layers"),
        (lambda: GradualUnfreezing(layers=["encoder.", "trunk.", "trunk.0.", "tasks."]), "layers"),
    ],
)
def test_wrong_values_are_refused(make: object, said: str) -> None:
    with pytest.raises(ValueError, match=rf"{said}.* should be.*Found"):
        make()  # type: ignore[operator]
