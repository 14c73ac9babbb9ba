"""Ids that are hidden in training, and vectors of new ids that are made from what is known of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from graftrec.data.batch import Batch
from graftrec.data.schema import Feature, Schema, Stream, Table
from graftrec.models.encoder import Encoder

WIDTH, ROWS = 4, 4000
STREAM = Stream("rows", (Feature("user", "id", "user"), Feature("item", "id", "item")), ())
TABLES = {
    "user": Table("user", 3),
    # entity 3 is an item that training never saw: it has no row of its own, and a brand
    "item": Table("item", 3, torch.tensor([0, 1, 2, 0]), {"brand": torch.tensor([0, 1, 2, 2])}),
    "brand": Table("brand", 3),
}


def made(**settings: object) -> Encoder:
    torch.manual_seed(0)
    return Encoder(Schema(TABLES, {"rows": STREAM}), WIDTH, dropout=0.0, **settings)  # type: ignore[arg-type]


def batch(user: int = 1, item: int = 2) -> Batch:
    return {"user": torch.full((ROWS,), user), "item": torch.full((ROWS,), item)}


def shares(fields: Tensor, options: list[Tensor]) -> list[float]:
    """Of rows (B, D), the share that is each of the vectors (D,); every row is one of them."""
    same = torch.stack([(fields - option).abs().sum(1) < 1e-6 for option in options])
    assert bool((same.sum(0) == 1).all())
    return [float(part) for part in same.double().mean(1)]


def test_an_id_hidden_alone_keeps_what_is_known_of_it() -> None:
    model = made(id_dropout=0.3, hides="id", content_dropout=0.2)
    item, brand = (model.tables(name, torch.arange(3)) for name in ("item", "brand"))
    fields = model(batch(), STREAM).fields
    found = shares(fields[:, 1], [item[2] + brand[2], item[0] + brand[2], item[2] + brand[0]])
    assert found == pytest.approx([0.5, 0.3, 0.2], abs=0.03)
    user = model.tables("user", torch.arange(3))
    assert shares(fields[:, 0], [user[1], user[0]]) == pytest.approx([0.7, 0.3], abs=0.03)
    model.eval()
    torch.testing.assert_close(model(batch(), STREAM).fields[:, 1], (item[2] + brand[2]).expand(ROWS, -1))


def test_an_id_hidden_with_all_that_is_known_of_it_is_the_unknown_one() -> None:
    model = made(id_dropout=0.4)
    item, brand = (model.tables(name, torch.arange(3)) for name in ("item", "brand"))
    found = shares(model(batch(), STREAM).fields[:, 1], [item[2] + brand[2], item[0] + brand[0]])
    assert found == pytest.approx([0.6, 0.4], abs=0.03)


def test_a_feature_that_is_kept_is_never_hidden() -> None:
    kept = Stream("rows", (Feature("item", "id", "item", keep=True),), ())
    model = Encoder(Schema(TABLES, {"rows": kept}), WIDTH, dropout=0.0, id_dropout=1.0, hides="id")
    fields = model({"item": torch.full((5,), 2)}, kept).fields[:, 0]
    expected = model.tables("item", torch.tensor(2)) + model.tables("brand", torch.tensor(2))
    torch.testing.assert_close(fields, expected.expand(5, -1))


def test_a_new_id_gets_a_vector_from_its_attributes_and_a_known_one_keeps_its_own() -> None:
    model = made(generated=["item"]).eval()
    brand = model.tables("brand", torch.arange(3))
    layer = model.generators["item"].linear
    made_of = torch.tanh(brand[2] @ layer.weight.T + layer.bias)
    torch.testing.assert_close(model.rows("item", torch.tensor([3])), (made_of + brand[2])[None])
    torch.testing.assert_close(
        model.rows("item", torch.tensor([2])), model.tables("item", torch.tensor([2])) + brand[2]
    )
    unknown = model.tables("item", torch.tensor([0])) + brand[0]  # nothing is known of it to make a vector from
    torch.testing.assert_close(model.rows("item", torch.tensor([0])), unknown)


def test_a_hidden_id_teaches_the_generator() -> None:
    model = made(generated=["item"], id_dropout=1.0, hides="id")
    fields = model(batch(), STREAM).fields[:, 1]
    brand = model.tables("brand", torch.tensor(2))
    layer = model.generators["item"].linear
    torch.testing.assert_close(fields, (torch.tanh(layer(brand)) + brand).expand(ROWS, -1))
    (gradient,) = torch.autograd.grad(fields.sum(), layer.weight)
    assert gradient.abs().sum() > 0


RANKED = Stream("baskets", (Feature("user", "id", "user"),), (), candidate="item")


def ranked(stream: Stream = RANKED, **settings: object) -> tuple[Encoder, Tensor]:
    """An encoder of a stream with candidates, and the vectors (n, D) of many candidates that are all the item 2."""
    torch.manual_seed(0)
    model = Encoder(Schema(TABLES, {stream.name: stream}), WIDTH, dropout=0.0, **settings)  # type: ignore[arg-type]
    asked = {"user": torch.ones(ROWS, dtype=torch.int64), "candidate": torch.full((ROWS, 2), 2)}
    asked |= {feature.name: torch.full((ROWS,), 2) for feature in stream.features if feature.name == "item"}
    candidate = model(asked, stream).candidate
    assert candidate is not None
    return model, candidate.flatten(0, 1)


def test_candidates_are_shown_as_new_and_teach_the_generator() -> None:
    model, candidate = ranked(id_dropout=0.3, hides="id", generated=["item"])
    brand = model.tables("brand", torch.tensor(2))
    layer = model.generators["item"].linear
    known, new = model.tables("item", torch.tensor(2)) + brand, torch.tanh(layer(brand)) + brand
    assert shares(candidate, [known, new]) == pytest.approx([0.7, 0.3], abs=0.03)
    (gradient,) = torch.autograd.grad(candidate.sum(), layer.weight)
    assert gradient.abs().sum() > 0
    catalogue = model.rows("item", torch.full((ROWS,), 2))
    assert shares(catalogue, [known, new]) == pytest.approx([0.7, 0.3], abs=0.03)
    torch.testing.assert_close(model.eval().rows("item", torch.tensor([2])), known[None])


def test_candidates_of_which_nothing_would_be_left_or_that_are_kept_are_not_hidden() -> None:
    related = Stream("pairs", (Feature("item", "id", "item", keep=True),), (), candidate="item")
    for stream, hides in ((RANKED, "all"), (related, "id")):
        model, candidate = ranked(stream, id_dropout=1.0, hides=hides)
        own = model.tables("item", torch.tensor(2)) + model.tables("brand", torch.tensor(2))
        torch.testing.assert_close(candidate, own.expand(2 * ROWS, -1))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"id_dropout": 0.7, "content_dropout": 0.4}, "together at most 1"),
        ({"id_dropout": -0.1}, "at least 0"),
        ({"hides": "user"}, "all or id"),
        ({"generated": ["user"]}, "tables with attributes, item. Found 'user'"),
        ({"generated": ["itm"]}, "Found 'itm'"),
    ],
)
def test_wrong_values_are_refused(settings: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        made(**settings)
