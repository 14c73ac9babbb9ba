"""Generators learn alone, on ids that are shown as new; what is said of known ids stays."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graftrec.data.schema import Feature, Schema, Stream, Table
from graftrec.models.encoder import Encoder
from graftrec.transfer.base import Past
from graftrec.transfer.meta_embedding import MetaEmbedding

STREAM = Stream("rows", (Feature("item", "id", "item"),), ())
TABLES = {
    "item": Table("item", 3, torch.tensor([0, 1, 2, 0]), {"brand": torch.tensor([0, 1, 2, 2])}),
    "brand": Table("brand", 3),
}


class Model(nn.Module):
    def __init__(self, generated: tuple[str, ...]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = Encoder(Schema(TABLES, {"rows": STREAM}), 4, dropout=0.0, id_dropout=0.2, generated=generated)
        self.trunk = nn.Linear(4, 1)

    def forward(self, item: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.trunk(self.encoder({"item": item}, STREAM).fields[:, 0])
        return found


def test_the_second_phase_moves_only_what_is_said_of_new_ids() -> None:
    first, second = MetaEmbedding(pretrain=3, generate=2, share=1.0).phases()
    assert (first.epochs, second.epochs, second.start_from) == (3, 2, "pretrain")
    model = Model(("item",))
    for means in first.means:
        means.build(model)
        means.start(model, Past())
    assert model.encoder.id_dropout == 0  # the first phase is plain
    assert all(part.requires_grad for part in model.parameters())
    for means in second.means:
        means.build(model)
        means.start(model, Past())
    assert (model.encoder.id_dropout, model.encoder.hides) == (1.0, "id")
    trained = [name for name, part in model.named_parameters() if part.requires_grad]
    assert trained == ["encoder.generators.item.linear.weight", "encoder.generators.item.linear.bias"]
    items = torch.tensor([1, 2, 3])
    before = model.eval()(items)
    model.train()
    optimizer = torch.optim.SGD([part for part in model.parameters() if part.requires_grad], 0.5)
    for _ in range(5):
        optimizer.zero_grad()
        (model(torch.tensor([1, 2])) - 1).pow(2).mean().backward()
        optimizer.step()
    after = model.eval()(items)
    assert torch.equal(before[:2], after[:2])
    assert (after[2] - 1).abs() < (before[2] - 1).abs()


def test_without_generators_it_says_what_to_set() -> None:
    (means,) = MetaEmbedding().phases()[1].means
    with pytest.raises(ValueError, match=r"encoder\.generated should name the tables"):
        means.start(Model(()), Past())
    past = Stream("rows", (Feature("recent", "history", "item"),), ())
    blind = Model(("item",))
    blind.encoder.schema = Schema(TABLES, {"rows": past})
    with pytest.raises(ValueError, match=r"columns or candidates of these streams, .* Found item, which is in none"):
        means.start(blind, Past())
    with pytest.raises(ValueError, match=r"share should be in \(0, 1\]"):
        MetaEmbedding(share=0.0)
    with pytest.raises(ValueError, match="generate should be at least 1"):
        MetaEmbedding(generate=0)
