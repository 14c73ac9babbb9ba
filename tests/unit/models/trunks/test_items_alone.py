"""What trunks compare items by is the item alone: no age, no behaviour, no dropout comes in between."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from graftrec.data.batch import Aside, Batch, Encoded
from graftrec.data.schema import Feature, Schema, Stream, Table
from graftrec.models.encoder import Encoder
from graftrec.models.trunks.base import Trunk
from graftrec.models.trunks.clsr import CLSR
from graftrec.models.trunks.dien import DIEN
from graftrec.models.trunks.sim import SIM

WIDTH, LENGTH, ROWS, ITEMS, KINDS = 8, 30, 16, 200, 4
FEATURES = (Feature("user", "id", "user"), Feature("item", "id", "item"))
STREAM = Stream("rows", (*FEATURES, Feature("recent", "history", "item", behaviours=KINDS)), ())
SCHEMA = Schema({"item": Table("item", ITEMS), "user": Table("user", 50)}, {"rows": STREAM})
PLACES = {"rows": ["user", "item"]}


def encoder(dropout: float = 0.5) -> Encoder:
    torch.manual_seed(0)
    made = Encoder(SCHEMA, WIDTH, dropout=dropout)
    with torch.no_grad():  # what is learned of age and behaviour may be far larger than an item
        for part in (*made.age.parameters(), *made.behaviours.parameters()):
            nn.init.normal_(part, std=3.0)
    return made


def batch() -> Batch:
    random = torch.Generator().manual_seed(1)
    return {
        "user": torch.randint(1, 50, (ROWS,), generator=random),
        "item": torch.randint(1, ITEMS, (ROWS,), generator=random),
        "recent": torch.randint(1, ITEMS, (ROWS, LENGTH), generator=random),
        "recent_age": torch.rand(ROWS, LENGTH, generator=random) * 5,
        "recent_behaviour": torch.randint(1, KINDS, (ROWS, LENGTH), generator=random),
    }


def found(trunk: SIM, encoded: Encoded) -> Tensor:
    """Which events (B, L) the trunk reads."""
    assert encoded.history is not None
    history = encoded.history.detach().requires_grad_()
    trunk(replace(encoded, fields=encoded.fields.detach(), history=history), ["a"])["a"].sum().backward()
    assert history.grad is not None
    return history.grad.any(2)


def test_two_draws_of_dropout_find_the_same_events_which_are_those_of_the_likest_items() -> None:
    encode, trunk = encoder().train(), SIM(2, WIDTH, True, PLACES, top=5)
    one, other = (encode(batch(), STREAM) for _ in range(2))
    assert not torch.equal(one.fields, other.fields)
    assert torch.equal(found(trunk, one), found(trunk, other))
    vectors = encode.items("item")
    alike = (vectors[batch()["recent"]] @ vectors[batch()["item"]][:, :, None]).squeeze(2)
    expected = torch.zeros(ROWS, LENGTH, dtype=torch.bool).scatter(1, alike.topk(5, 1).indices, True)
    assert torch.equal(found(trunk, one), expected)


@pytest.mark.parametrize("cls", [DIEN, CLSR])
def test_own_losses_compare_items_without_age_and_behaviour(cls: type[Trunk]) -> None:
    """What is read of a history is held fast here; what it is compared with alone has a slope."""
    encode, aside = encoder(0.0).train(), list[Aside]()
    encoded = encode(batch(), STREAM)
    assert encoded.history is not None
    cls(2, WIDTH, True, PLACES)(replace(encoded, history=encoded.history.detach(), aside=aside), ["a"])
    torch.stack([part.total for part in aside]).sum().backward()
    assert any(part.grad is not None and part.grad.any() for part in encode.tables.parameters())
    assert all(part.grad is None for part in (*encode.age.parameters(), *encode.behaviours.parameters()))


@pytest.mark.parametrize("trunk", [SIM, DIEN, CLSR])
def test_a_batch_without_items_is_refused(trunk: type[Trunk]) -> None:
    encoded = replace(encoder()(batch(), STREAM), items=None, aside=[])
    with pytest.raises(ValueError, match="without the items of its history"):
        trunk(2, WIDTH, True, PLACES)(encoded, ["a"])


def test_what_is_asked_about_is_known_without_dropout() -> None:
    encode = encoder().train()
    encoded = encode(batch(), STREAM)
    assert encoded.plain is not None
    torch.testing.assert_close(encoded.plain[:, 1], encode.items("item")[batch()["item"]])
    assert not torch.allclose(encoded.plain, encoded.fields)
