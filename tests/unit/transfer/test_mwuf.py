"""Warm vectors by hand, who learns by which loss, and whom they stand in for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from graftrec.data.batch import Batch
from graftrec.data.schema import Feature, Label, Schema, Stream, Table
from graftrec.models.encoder import Encoder
from graftrec.models.heads.linear import Linear
from graftrec.models.layers.generators import Warmed
from graftrec.tasks.binary import Binary
from graftrec.tasks.losses.bce import Bce
from graftrec.transfer.base import Past
from graftrec.transfer.mwuf import MWUF, Choosers, Warming

D, LABEL = 3, Label("y", "binary")
ROWS = Stream("rows", (Feature("user", "id", "user"), Feature("item", "id", "item")), (LABEL,))
RANKED = Stream("baskets", (Feature("user", "id", "user"),), (LABEL,), candidate="item")
TABLES = {
    "user": Table("user", 4),
    # entity 4 is an item that training never saw
    "item": Table("item", 4, torch.tensor([0, 1, 2, 3, 0]), {"brand": torch.tensor([0, 1, 2, 2, 1])}),
    "brand": Table("brand", 3),
}
PAIRS = [(1, 1), (2, 1), (1, 2), (2, 2), (3, 2), (3, 3)]  # user, item


class Model(nn.Module):
    def __init__(self, stream: Stream = ROWS) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = Encoder(Schema(TABLES, {stream.name: stream}), D, dropout=0.0, id_dropout=0.4)
        self.trunk = nn.Linear(D, 1)

    @property
    def warmed(self) -> Warmed:
        found = self.encoder.generators["item"]
        assert isinstance(found, Warmed)
        return found


def batch(pairs: list[tuple[int, int]]) -> Batch:
    user, item = torch.tensor(pairs).unbind(1)
    return {"user": user, "item": item, "y": torch.zeros(len(pairs))}


def chosen(choosers: Choosers, asked: Batch, stream: str = "rows") -> None:
    task = Binary(Linear(D), Bce(), stream, "y", LABEL)
    choosers.loss("t", task, torch.zeros(()), None, stream, asked)


def warming(few: int = 1) -> tuple[Model, Warming]:
    """A model that warms items with at most ``few`` users, of which the item 3 has one."""
    model, choosers = Model(), Choosers("item")
    choosers.build(model)
    choosers.start(model, Past())
    chosen(choosers, batch(PAIRS[:4]))
    chosen(choosers, batch(PAIRS[2:]))  # pairs count once, however often they are seen
    choosers.finish(model)
    means = Warming(choosers, few, 5, "item")
    means.build(model)
    means.start(model, Past())
    return model, means


def test_what_users_chose_is_counted_once() -> None:
    model, means = warming()
    assert means.choosers.count.tolist() == [0, 2, 3, 1, 0]
    users = model.encoder.tables("user", torch.arange(4))
    expected = torch.stack([torch.zeros(D), (users[1] + users[2]) / 2, users[1:].mean(0), users[3], torch.zeros(D)])
    torch.testing.assert_close(model.warmed.users, expected.detach())
    assert model.warmed.rare.tolist() == [False, False, False, True, True]
    assert means.finish(model) == "2 of 4 entities of 'item' are new and read warm vectors"


def test_of_a_ranking_only_what_was_chosen_counts() -> None:
    choosers, model = Choosers("item"), Model(RANKED)
    choosers.start(model, Past())
    label = torch.tensor([[1.0, 0.0], [torch.nan, 1.0]])
    asked = {"user": torch.tensor([1, 2]), "candidate": torch.tensor([[1, 2], [3, 2]]), "y": label}
    chosen(choosers, asked, "baskets")
    state = choosers.state_dict()
    choosers.finish(model)
    assert choosers.count.tolist() == [0, 1, 1, 0, 0]
    again = Choosers("item")
    again.start(model, Past())
    again.load_state_dict(state)
    again.finish(model)
    torch.testing.assert_close(again.users, choosers.users)


@torch.no_grad()
def test_a_warm_vector_is_scaled_and_shifted() -> None:
    model, _ = warming()
    model.eval()
    warmed, tables = model.warmed, model.encoder.tables
    brand = tables("brand", torch.arange(3))
    mean = tables("item", torch.tensor([1, 2])).mean(0)  # of the items that are known
    shown = model.encoder.rows("item", torch.arange(5))
    known = tables("item", torch.tensor([0, 1, 2])) + brand[[0, 1, 2]]
    torch.testing.assert_close(shown, torch.cat([known, (mean + brand[2])[None], (mean + brand[1])[None]]))
    for network in (warmed.scale, warmed.shift):
        nn.init.normal_(network[2].weight)
    warmed.cold.add_(torch.randn(4, D))
    users = tables("user", torch.arange(4))
    for item, row, of, who in ((3, 3, brand[2], users[3]), (4, 0, brand[1], torch.zeros(D))):

        def network(layers: nn.Sequential, x: Tensor) -> Tensor:
            return layers[2].weight @ (layers[0].weight @ x + layers[0].bias).clamp_min(0) + layers[2].bias

        warm = warmed.cold[row] * network(warmed.scale, of) + network(warmed.shift, who)
        torch.testing.assert_close(model.encoder.rows("item", torch.tensor([item]))[0], warm + of)
    torch.testing.assert_close(model.encoder.rows("item", torch.arange(3)), known)


def test_a_cold_vector_learns_by_itself_and_the_networks_by_the_warm_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = warming()
    assert all(name.startswith("encoder.generators.item.") == part.requires_grad
               for name, part in model.named_parameters())  # fmt: skip
    networks = ["scale.0.weight", "scale.2.weight", "shift.0.weight", "shift.2.weight"]
    for network in (model.warmed.scale, model.warmed.shift):
        nn.init.normal_(network[2].weight)
    asked = batch([(1, 1), (2, 2)])
    for drawn, learns in ((0.9, ["cold"]), (0.1, networks)):
        monkeypatch.setattr(torch, "rand", lambda *shape, value=drawn, **_: torch.full(_flat(shape), value))
        model.zero_grad()
        fields = model.encoder(asked, ROWS).fields
        user = model.encoder.tables("user", torch.tensor([1, 2]))
        torch.testing.assert_close(fields[:, 0], user)  # users are who they are
        model.trunk(fields[:, 1]).sum().backward()
        weights = {
            name: part.grad for name, part in model.warmed.named_parameters() if name.endswith(("cold", "weight"))
        }
        assert [name for name, grad in weights.items() if grad is not None and grad.abs().sum() > 0] == learns
        if learns == ["cold"]:
            grad = weights["cold"]
            assert grad is not None
            assert (grad.abs().sum(1) > 0).tolist() == [False, True, True, False]


def _flat(shape: tuple[object, ...]) -> list[int]:
    return list(shape[0]) if isinstance(shape[0], torch.Size) else list(shape)  # type: ignore[arg-type]


def test_wrong_values_are_refused() -> None:
    with pytest.raises(ValueError, match="few should be at least 0"):
        MWUF(few=-1)
    with pytest.raises(ValueError, match="pretrain and warm and hidden should be at least 1"):
        MWUF(warm=0)
    with pytest.raises(ValueError, match=r"Found 'film' with no users; there are the tables user, item, brand"):
        Choosers("film").start(Model(), Past())
    with pytest.raises(ValueError, match=r"with attributes\. Found 'user'"):
        Warming(Choosers("user"), 0, 5, "user").build(Model())
    shrunk = Model()
    shrunk.encoder = Encoder(Schema(TABLES, {"rows": ROWS}), D, shrink={"item": {"hash": 2}})
    with pytest.raises(ValueError, match=r"encoder\.shrink"):
        Warming(Choosers("item"), 0, 5, "item").build(shrunk)
