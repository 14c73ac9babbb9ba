"""BiTGCF against its equations written out densely, user by user."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from graftrec.data.batch import Encoded
from graftrec.data.schema import Edges
from graftrec.models import propagation
from graftrec.models.layers.graph import Bipartite
from graftrec.models.trunks.bitgcf import BiTGCF
from graftrec.runs.recommender import Recommender
from graftrec.training.builder import assemble, prepare
from graftrec.utils.errors import UserError

Compose = Callable[[list[str]], dict[str, Any]]
U, E, D = 5, 4, 3  # numbers of entities, 0 the unknown one
CHOSEN = {  # user 1 and 2 are in both domains, 3 in a alone, 4 in b alone
    "a": [(1, 1), (1, 2), (2, 1), (3, 2), (3, 1), (3, 3)],
    "b": [(1, 2), (2, 3), (2, 1), (2, 2), (4, 1)],
}
STREAMS = {name: ["user", "numbers"] for name in CHOSEN}
RETAIN = 0.7


def edges(people: tuple[str, str] = ("user", "user")) -> dict[str, Edges]:
    pairs = {name: torch.tensor(chosen).T for name, chosen in CHOSEN.items()}
    return {name: Edges(*pairs[name], U, E, table) for name, table in zip(CHOSEN, people, strict=True)}


def known() -> dict[str, tuple[Tensor, Tensor]]:
    random = torch.Generator().manual_seed(3)
    users = torch.randn(U, D, generator=random, dtype=torch.float32)
    return {name: (users, torch.randn(E, D, generator=random)) for name in CHOSEN}


def by_hand(vectors: dict[str, tuple[Tensor, Tensor]], layers: int, shared: bool = True) -> dict[str, Tensor]:
    """Users and items of each domain as one dense matrix (U + E, D)."""
    adjacency, degree = {}, {}
    for name, chosen in CHOSEN.items():
        matrix = torch.zeros(U + E, U + E)
        for user, item in chosen:
            matrix[user, U + item] = matrix[U + item, user] = 1.0
        degree[name] = matrix.sum(1)
        scale = torch.where(degree[name] > 0, degree[name].clamp_min(1) ** -0.5, torch.zeros(()))
        adjacency[name] = scale[:, None] * matrix * scale
    e = {name: torch.cat(pair) for name, pair in vectors.items()}
    kept = {name: [each] for name, each in e.items()}
    for _ in range(layers):
        new = {}
        for name in CHOSEN:
            side = adjacency[name] @ e[name]
            new[name] = e[name] + side + e[name] * side
        e = {name: each.clone() for name, each in new.items()}
        for name, other in (("a", "b"), ("b", "a")):
            for user in range(U) if shared else ():
                mine, theirs = float(degree[name][user]), float(degree[other][user])
                if mine and theirs:
                    common = (mine * new[name][user] + theirs * new[other][user]) / (mine + theirs)
                    own = RETAIN * new[name][user] + (1 - RETAIN) * new[other][user]
                    e[name][user] = (common + own) / 2
        for name in CHOSEN:
            kept[name].append(e[name] / e[name].norm(dim=1, keepdim=True))
    return {name: torch.stack(each).mean(0) for name, each in kept.items()}


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("shared", [True, False])
def test_it_is_its_equation(layers: int, shared: bool) -> None:
    people = ("user", "user" if shared else "b/user")
    trunk = BiTGCF(D, STREAMS, edges(people), layers=layers, retain=RETAIN).eval()
    found, expected = trunk.spread(known()), by_hand(known(), layers, shared)
    for name in CHOSEN:
        torch.testing.assert_close(torch.cat(found[name]), expected[name])


def test_gradients_go_through_the_sparse_product_as_through_a_dense_one() -> None:
    trunk = BiTGCF(D, STREAMS, edges(), layers=2, retain=RETAIN).eval()
    weights = torch.randn(U + E, D, generator=torch.Generator().manual_seed(5))
    gradients = []
    for spread in (lambda v: {n: torch.cat(pair) for n, pair in trunk.spread(v).items()}, lambda v: by_hand(v, 2)):
        vectors = known()
        users = vectors["a"][0].requires_grad_()
        items = [pair[1].requires_grad_() for pair in vectors.values()]
        found = spread({name: (users, own) for name, own in zip(CHOSEN, items, strict=True)})
        loss = torch.stack([(each * weights).sum() for each in found.values()]).sum()
        gradients.append(torch.autograd.grad(loss, [users, *items]))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_a_single_domain_transfers_nothing_and_a_stranger_keeps_the_own_vector() -> None:
    alone = BiTGCF(D, {"a": STREAMS["a"]}, {"a": edges()["a"]}, layers=1).eval().spread({"a": known()["a"]})
    expected = by_hand(known(), 1, shared=False)["a"]
    torch.testing.assert_close(torch.cat(alone["a"]), expected)
    own = known()["a"][0][0]
    torch.testing.assert_close(alone["a"][0][0], (own + own / own.norm()) / 2)


def test_what_is_refused_and_what_z_is() -> None:
    for wrong, said in (({"layers": 0}, "layers"), ({"retain": 1.5}, "retain")):
        with pytest.raises(ValueError, match=said):
            BiTGCF(D, STREAMS, edges(), **wrong)  # type: ignore[arg-type]
    trunk = BiTGCF(D, STREAMS, edges())
    with torch.no_grad():
        trunk.common.mean.copy_(torch.arange(D))
    fields = torch.randn(6, 2, D)
    z = trunk(Encoded(fields, stream="b"), ["t"])["t"]
    torch.testing.assert_close(z, fields[:, 0] + torch.arange(D))


def test_degrees_count_distinct_items() -> None:
    graph = Bipartite(edges()["a"])
    assert graph.degree.tolist() == [0, 2, 1, 3, 0]


@pytest.fixture
def tree(compose: Compose, shop_settings: list[str]) -> dict[str, Any]:
    return compose([
        "protocol=cross_domain", "++dataset.domain=department", "trunk=bitgcf", "task@source=[grocery_recommend]",
        "task@target=[produce_recommend]", "task@shared=[]", "head@target.produce_recommend.head=dot", *shop_settings,
    ])  # fmt: skip


def test_a_model_ranks_with_what_the_graph_makes_and_knows_training_rows_alone(
    tree: dict[str, Any], tmp_path: Path
) -> None:
    protocol, _ = prepare(tree)
    module = assemble(tree, protocol, ("source", "target", "shared"), 0).eval()
    stream = protocol.streams["produce/baskets"]
    made = stream.edges()
    lines = stream.lines
    pairs = {(int(u), int(i)) for u, i in zip(lines.user[lines.part == 0], lines.item[lines.part == 0], strict=True)}
    assert set(zip(made.user.tolist(), made.item.tolist(), strict=True)) == pairs
    with torch.no_grad():
        users, items = module.spread()["produce/baskets"]
        batch = next(b for b in stream.evaluation("test") if "relevant" in b)
        task = module.task("produce_recommend")
        logits = module("produce/baskets", batch, ["produce_recommend"])["produce_recommend"]
        z = users[batch["query"]] + module.trunk.common.mean
        expected = task(z, items[batch["catalogue"]][None])
        torch.testing.assert_close(logits, expected)
        names = protocol.users_of("produce/baskets").decode(batch["query"].numpy()).to_list()
        served = Recommender(module, protocol, "produce_recommend").scores(names)
        torch.testing.assert_close(served, task.predict(expected))
    rows = {**tree["target"]["produce_recommend"], "stream": "produce/pairs", "column": "related"}
    pairs_tree = {**tree, "source": {}, "target": {"produce_recommend": rows}}
    protocol.prepare(["produce/pairs"], judged=[])
    with pytest.raises(UserError, match="reads who chose what"):
        assemble(pairs_tree, protocol, ("target",), 0)


def count(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One entry for each time that a graph is spread over."""
    calls: list[None] = []
    whole = BiTGCF.spread
    monkeypatch.setattr(BiTGCF, "spread", lambda trunk, known: calls.append(None) or whole(trunk, known))
    return calls


def test_an_evaluation_and_a_recommender_spread_once(tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    protocol, _ = prepare(tree)
    module, calls = assemble(tree, protocol, ("source", "target", "shared"), 0).eval(), count(monkeypatch)
    batches = [b for name, stream in protocol.streams.items() if name.endswith("baskets")
               for b in [{name: batch} for batch in stream.evaluation("test")]]  # fmt: skip
    assert len(batches) > 2
    with torch.no_grad():
        for batch in batches:
            module.validation_step(batch, 0)
    assert len(calls) == 1
    served = Recommender(module, protocol, "produce_recommend")
    first = served.scores(served.users()[:3])
    served.recommend(served.users()[3:5], 2)
    assert len(calls) == 1
    with torch.no_grad():
        module.encoder.tables.block.mul_(2)
    assert not torch.allclose(served.scores(served.users()[:3]), first)
    assert len(calls) == 2


def test_what_was_spread_is_never_of_other_weights(tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    protocol, _ = prepare(tree)
    module = assemble(tree, protocol, ("source", "target", "shared"), 0).eval()
    block, calls = module.encoder.tables.block, count(monkeypatch)
    state = {name: values.clone() for name, values in module.state_dict().items()}

    def step(**more: Any) -> None:
        module.train().spread()["produce/baskets"][1].sum().backward()
        torch.optim.AdamW([block], lr=0.1, **more).step()
        module.eval()

    def swapped() -> None:
        block.data = block.data * 3

    def in_place() -> None:
        with torch.no_grad():
            block[2:] += 1

    def of_the_graph() -> None:
        for graph in module.trunk.graphs:
            graph.users_weights.mul_(0.5)

    changes: list[Callable[[], Any]] = [
        lambda: step(foreach=True), lambda: step(foreach=False), lambda: step(fused=True), in_place, swapped,
        lambda: module.load_state_dict(state), of_the_graph, lambda: module.double(),
    ]  # fmt: skip
    for change in changes:
        with torch.no_grad():
            before, again = module.spread(), module.spread()
        assert before is again
        change()
        calls.clear()
        with torch.no_grad():
            found, expected = module.spread(), propagation.spread(module.encoder, module.trunk)
        assert len(calls) == 2  # one of them ours
        for name, pair in expected.items():
            torch.testing.assert_close(found[name], pair)
            assert not torch.equal(found[name][1].double(), before[name][1].double())


def test_a_step_keeps_nothing(tree: dict[str, Any]) -> None:
    protocol, _ = prepare(tree)
    module = assemble(tree, protocol, ("source", "target", "shared"), 0).eval()
    with torch.no_grad():
        kept = module.spread()
    for again in (module.spread(), module.spread()):  # a graph of its own for each
        assert again is not kept
        again["produce/baskets"][0].sum().backward()
    module.train()
    with torch.no_grad():
        dropped, others = module.spread(), module.spread()
        assert not torch.equal(dropped["produce/baskets"][0], others["produce/baskets"][0])
        module.eval()
        assert module.spread() is not kept
    with torch.inference_mode():
        assert module.spread() is module.spread()
