"""Numbers as fields."""

from __future__ import annotations

import math

import pytest
import torch

from graftrec.data.schema import Feature, Schema, Stream, Table
from graftrec.models.encoder import Encoder
from graftrec.models.layers.numeric_embeddings import Periodic, Together


def test_periodic_is_its_equation() -> None:
    torch.manual_seed(0)
    made, x = Periodic(2, 3, sigma=0.5, frequencies=4).double(), torch.randn(5, 2).double()
    found = made(x)
    assert found.shape == (5, 2, 3)
    for i in range(2):
        v = 2 * math.pi * x[:, i : i + 1] * made.frequencies[i]
        expected = torch.cat([v.sin(), v.cos()], 1) @ made.linear.weight[i].T + made.linear.bias[i]
        torch.testing.assert_close(found[:, i], expected.clamp_min(0))


def test_together_is_one_linear_field() -> None:
    made, x = Together(3, 4), torch.randn(2, 3)
    torch.testing.assert_close(made(x), made.linear(x)[:, None])


@pytest.mark.parametrize(("numbers", "fields"), [("together", ["kind", "numbers"]), ("periodic", ["kind", "a", "b"])])
def test_the_encoder_names_its_fields_in_their_order(numbers: str, fields: list[str]) -> None:
    features = (Feature("a", "number"), Feature("kind", "id", "kind"), Feature("b", "number"))
    stream = Stream("rows", features, ())
    model = Encoder(Schema({"kind": Table("kind", 3)}, {"rows": stream}), 4, 0.0, numbers=numbers)  # type: ignore[arg-type]
    assert model.field_names(stream) == fields
    batch = {"a": torch.tensor([1.0]), "b": torch.tensor([2.0]), "kind": torch.tensor([2])}
    e = model(batch, stream)
    assert e.fields.shape == (1, len(fields), 4)
    torch.testing.assert_close(e.fields[:, 0], model.tables("kind", batch["kind"]))
    torch.testing.assert_close(e.fields[:, 1:], model.numbers["rows"](torch.tensor([[1.0, 2.0]])))


def test_wrong_values_are_told() -> None:
    schema = Schema({}, {})
    with pytest.raises(ValueError, match="together or periodic"):
        Encoder(schema, numbers="each")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sigma"):
        Encoder(schema, sigma=0.0)


def test_a_vector_is_handed_over_as_it_is_or_mapped() -> None:
    stream = Stream("rows", (Feature("v", "vector", size=4),), ())
    schema, batch = Schema({}, {"rows": stream}), {"v": torch.randn(3, 4)}
    torch.testing.assert_close(Encoder(schema, 4, 0.0, vectors="as_is")(batch, stream).fields[:, 0], batch["v"])
    mapped = Encoder(schema, 6, 0.0)
    torch.testing.assert_close(mapped(batch, stream).fields[:, 0], mapped.vectors["v"](batch["v"]))
    with pytest.raises(ValueError, match=r"that of the vector 'v', 4\. Found 6"):
        Encoder(schema, 6, vectors="as_is")
