"""How training begins: every part of an event's vector has its say, and a cosine tells candidates apart."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from graftrec.data.batch import Batch
from graftrec.data.schema import Feature, Schema, Stream, Table
from graftrec.models.encoder import Encoder
from graftrec.models.heads.dot import Dot
from graftrec.models.heads.mlp import Mlp

ITEMS, USERS, BEHAVIOURS, D, B, L = 2000, 100, 4, 32, 64, 50


def encoder(behaviours: int, **more: object) -> tuple[Encoder, Stream]:
    torch.manual_seed(0)
    features = (Feature("user", "id", "user"), Feature("recent", "history", "item", behaviours=behaviours))
    stream = Stream("rows", features, ())
    tables = {"item": Table("item", ITEMS, **more), "user": Table("user", USERS)}  # type: ignore[arg-type]
    return Encoder(Schema(tables, {"rows": stream}), D).eval(), stream


def events() -> Batch:
    """Histories of a shop: ages from an hour to a year."""
    random = torch.Generator().manual_seed(1)
    days = torch.exp(torch.rand(B, L, generator=random) * 9 - 3).clamp_max(365)
    return {
        "user": torch.randint(1, USERS, (B,), generator=random),
        "recent": torch.randint(1, ITEMS, (B, L), generator=random),
        "recent_age": torch.log1p(days),
        "recent_behaviour": torch.randint(1, BEHAVIOURS, (B, L), generator=random),
    }


@pytest.mark.parametrize("behaviours", [0, BEHAVIOURS])
def test_an_event_is_made_of_parts_of_one_size(behaviours: int) -> None:
    made, stream = encoder(behaviours)
    batch = events()
    parts = {"item": made.rows("item", batch["recent"]), "age": made.age["item"](batch["recent_age"])}
    if behaviours:
        parts["behaviour"] = made.behaviours["item"](batch["recent_behaviour"])
    sizes = {name: float(part.detach().square().mean().sqrt()) for name, part in parts.items()}
    assert max(sizes.values()) < 2 * min(sizes.values()), sizes
    history = made(batch, stream).history
    assert history is not None
    torch.testing.assert_close(history, torch.stack(list(parts.values())).sum(0))
    one = F.normalize(history[0], dim=-1)
    apart = ~torch.eye(L, dtype=torch.bool)
    assert (one @ one.T)[apart].mean() < 0.75  # it was .993: all events looked alike


@pytest.mark.parametrize("scale", [0.01, 1.0, 40.0])
def test_what_is_known_of_an_item_starts_as_large_as_the_item_itself(scale: float) -> None:
    values = torch.randn(ITEMS, 384, generator=torch.Generator().manual_seed(2)) * scale
    values[::3] = 0  # of some nothing is known
    made, _ = encoder(0, vectors={"text": values})
    ids = torch.arange(1, ITEMS)
    known = ids[ids % 3 > 0]
    item = made.tables("item", known).square().mean().sqrt()
    text = (made.rows("item", known) - made.tables("item", known)).square().mean().sqrt()
    assert 0.5 < text / item < 2
    unknown = ids[ids % 3 == 0]
    torch.testing.assert_close(made.rows("item", unknown), made.tables("item", unknown))


def test_the_logits_of_a_cosine_are_far_enough_apart_for_a_softmax() -> None:
    head = Dot(D, D, cosine=True)
    z, items = torch.randn(B, D), torch.randn(1, 200, D)
    assert float(head(z, items).detach().std()) > 1  # it was .03: every candidate was as likely as the next
    assert float(Dot(D, D)(z, items).detach().std()) == pytest.approx(1, abs=0.3)
    alike = head(z[:1], 3 * z[:1, None])  # a cosine of 1, over the temperature of 0.1
    assert float(alike.detach()) == pytest.approx(10)


@pytest.mark.parametrize("candidates", [False, True])
def test_dropout_of_an_mlp_head_is_after_every_layer(candidates: bool) -> None:
    torch.manual_seed(0)
    head = Mlp(D, D if candidates else 0, hidden=[16], dropout=0.5)
    given = (torch.randn(B, D), torch.randn(B, 3, D)) if candidates else (torch.randn(B, D),)
    assert not torch.equal(head(*given), head(*given))
    head.eval()
    assert torch.equal(head(*given), head(*given))
    wrongs: list[dict[str, Any]] = [{"hidden": []}, {"hidden": [0]}, {"dropout": 1.0}]
    for wrong in wrongs:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Mlp(D, **wrong)


def test_a_dot_head_scores_no_rows_and_one() -> None:
    head, catalogue = Dot(D, D), torch.randn(1, 7, D)
    assert head(torch.randn(0, D), catalogue).shape == (0, 7)
    assert head(torch.randn(0, D), torch.randn(0, 5, D)).shape == (0, 5)
    z = torch.randn(1, D)
    torch.testing.assert_close(head(z, catalogue), (head.query(z)[:, None] * catalogue).sum(-1) + head.bias)
