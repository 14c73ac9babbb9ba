"""Entities that are what is known of them, and nothing else."""

from __future__ import annotations

import pytest
import torch

from graftrec.data.schema import Feature, Schema, Stream, Table
from graftrec.models.encoder import Encoder

KIND = torch.tensor([0, 2, 1, 2])
TEXT = torch.tensor([[0.0, 0.0], [1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])


def encoder(content_only: list[str]) -> Encoder:
    tables = {
        "a/item": Table("a/item", 4, content={"kind": KIND}, vectors={"text": TEXT}),
        "kind": Table("kind", 3),
        "user": Table("user", 5),
    }
    stream = Stream("s", (Feature("user", "id", "user"), Feature("item", "id", "a/item")), (), candidate="a/item")
    torch.manual_seed(0)
    return Encoder(Schema(tables, {"s": stream}), width=3, dropout=0.0, content_only=content_only)


@pytest.mark.parametrize("name", ["item", "a/item"])
def test_an_item_is_the_sum_of_what_is_known_of_it(name: str) -> None:
    model = encoder([name])
    assert "tables.a/item.weight" not in model.state_dict()
    linear = model.vectors["text"]
    kinds = model.state_dict()["tables.kind.weight"]
    batch = {"user": torch.tensor([1, 4]), "item": torch.tensor([3, 1]), "candidate": torch.tensor([[2], [0]])}
    found = model(batch, model.schema.streams["s"])
    assert found.candidate is not None
    for row, item in enumerate((3, 1)):
        torch.testing.assert_close(found.fields[row, 1], kinds[KIND[item]] + linear(TEXT[item]))
    torch.testing.assert_close(found.candidate[0, 0], kinds[KIND[2]] + linear(TEXT[2]))
    torch.testing.assert_close(model.rows("a/item", torch.tensor([1])), model.items("a/item")[1:2])
    assert found.fields[0, 0].tolist() == model.state_dict()["tables.user.weight"][1].tolist()  # users keep theirs


def test_what_is_not_known_cannot_stand_for_an_id() -> None:
    with pytest.raises(ValueError, match=r"content_only should be of tables with attributes\. Found 'user'"):
        encoder(["user"])
    with pytest.raises(ValueError, match=r"content_only should be of the tables .*user\. Found 'itm'"):
        encoder(["itm"])
