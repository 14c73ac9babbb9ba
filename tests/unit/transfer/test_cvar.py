"""Decoded vectors by hand, the two further terms against their equations, and who learns what."""

from __future__ import annotations

import pytest
import torch
from test_mwuf import LABEL, PAIRS, ROWS, TABLES, Model, batch, chosen
from torch import Tensor, nn

from graftrec.data.schema import Schema
from graftrec.models.encoder import Encoder
from graftrec.models.heads.linear import Linear
from graftrec.models.layers.generators import Decoded, wasserstein
from graftrec.tasks.binary import Binary
from graftrec.tasks.losses.bce import Bce
from graftrec.transfer.base import Past
from graftrec.transfer.cvar import CVAR, Decoding
from graftrec.transfer.mwuf import Choosers

D, K, RECONSTRUCT, ALIGN = 3, 2, 0.7, 0.3


def decoding(noise: float = 0.0) -> tuple[Model, Decoding, Decoded]:
    """A model whose items 3 (chosen by one) and 4 (without a row) are new, with maps that say something."""
    model, choosers = Model(), Choosers("item")
    choosers.build(model)
    choosers.start(model, Past())
    chosen(choosers, batch(PAIRS))
    choosers.finish(model)
    means = Decoding(choosers, 1, K, noise, RECONSTRUCT, ALIGN)
    means.build(model)
    means.start(model, Past())
    decoded = model.encoder.generators["item"]
    assert isinstance(decoded, Decoded)
    with torch.no_grad():
        for part in decoded.parameters():
            part.copy_(torch.randn_like(part))
    return model, means, decoded


def often() -> list[float]:
    """log(1 + users), over the largest: items 1 and 2 have two and three users, new items the mean of both."""
    one, two = (torch.tensor([3.0, 4.0]).log() / torch.tensor(4.0).log()).tolist()
    return [0.0, one, two, (one + two) / 2, (one + two) / 2]


def mapped(layer: nn.Linear, x: Tensor) -> Tensor:
    return layer.weight @ x + layer.bias


def test_a_new_item_is_decoded_from_its_attributes() -> None:
    model, means, decoded = decoding(noise=5.0)  # draws are for training alone
    model.eval()
    brand, own = model.encoder.tables("brand", torch.arange(3)), model.encoder.tables("item", torch.arange(4))
    torch.testing.assert_close(decoded.frequency[1:], torch.tensor(often()[1:]))
    shown = model.encoder.rows("item", torch.arange(5))
    torch.testing.assert_close(shown[:3], own[[0, 1, 2]] + brand[[0, 1, 2]])
    for item, of in ((3, brand[2]), (4, brand[1])):
        z = mapped(decoded.of_attributes, of)[:K]
        torch.testing.assert_close(
            shown[item], mapped(decoded.decode, torch.cat([z, torch.tensor(often()[item:][:1])])) + of
        )
    assert not decoded.terms
    assert means.finish(model) == "2 of 4 entities of 'item' are new and read warm vectors"


def test_the_terms_are_their_equations() -> None:
    model, means, decoded = decoding()
    task = Binary(Linear(D), Bce(), "rows", "y", LABEL)
    asked = batch([(1, 1), (2, 2), (3, 2), (1, 3), (1, 4)])
    model.train()
    fields = model.encoder(asked, ROWS).fields
    brand, own = model.encoder.tables("brand", torch.arange(3)), model.encoder.tables("item", torch.arange(4))
    total = torch.zeros(())
    for item, of in ((1, brand[1]), (2, brand[2])):  # each once, and no new one
        m, v = mapped(decoded.of_id, own[item]).split(K)
        m_p, v_p = mapped(decoded.of_attributes, of).split(K)
        n = torch.tensor(often()[item : item + 1])
        again = mapped(decoded.decode, torch.cat([m, n]))
        apart = (m - m_p).square().sum() + ((v / 2).exp() - (v_p / 2).exp()).square().sum()
        total = total + RECONSTRUCT * (again - own[item]).square().sum() + ALIGN * apart
        made = mapped(decoded.decode, torch.cat([m_p, n]))
        torch.testing.assert_close(fields[item - 1, 1], made + of)  # as the task sees the item
    torch.testing.assert_close(means.loss("t", task, torch.tensor(5.0), None, "rows", asked), 5 + total / 2)
    assert means.loss("other", task, torch.tensor(5.0), None, "rows", asked) == 5  # once a step
    nobody = batch([(1, 3), (1, 0)])
    model.encoder(nobody, ROWS)
    assert means.loss("t", task, torch.tensor(5.0), None, "rows", nobody) == 5


def test_the_maps_learn_alone_and_all_of_them() -> None:
    model, means, decoded = decoding(noise=1.0)
    assert all(name.startswith("encoder.generators.item.") == part.requires_grad
               for name, part in model.named_parameters())  # fmt: skip
    task = Binary(Linear(D), Bce(), "rows", "y", LABEL)
    asked = batch(PAIRS)
    model.train()

    def loss() -> Tensor:
        outcome = (model.trunk(model.encoder(asked, ROWS).fields[:, 1]) - 1).square().mean()
        return means.loss("t", task, outcome, None, "rows", asked)

    loss().backward()
    for name, part in decoded.named_parameters():
        assert part.grad is not None, name
        assert part.grad.any(), name
    before = float(loss().detach())
    optimizer = torch.optim.Adam(decoded.parameters(), 0.02)
    for _ in range(200):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert float(loss().detach()) < 0.3 * before


def test_draws_have_the_deviation_that_is_said() -> None:
    _, _, decoded = decoding(noise=0.5)
    decoded.train()
    known, ids = torch.randn(1, D).expand(20_000, D), torch.full((20_000,), 1)
    made = decoded(known, ids)
    mean, log_variance = decoded.of_attributes(known[:1]).chunk(2, 1)
    n = decoded.frequency[ids[:1], None]
    torch.testing.assert_close(made.mean(0), decoded.decode(torch.cat([mean, n], 1))[0], rtol=0, atol=0.1)
    spread = (decoded.decode.weight[:, :K] * 0.5 * (log_variance / 2).exp()).square().sum(1).sqrt()
    torch.testing.assert_close(made.std(0), spread, rtol=0.05, atol=0)


def test_the_distance_of_two_gaussians() -> None:
    one, other = ((torch.randn(4, K), torch.rand(4, K) + 0.1) for _ in range(2))
    found = wasserstein(one, other)
    for row in range(4):  # |m - m'|^2 + tr(S + S' - 2 (S^1/2 S' S^1/2)^1/2) of covariances S
        s, s_p = one[1][row].square().diag(), other[1][row].square().diag()
        values = torch.linalg.eigvalsh(s.sqrt() @ s_p @ s.sqrt())
        expected = (one[0][row] - other[0][row]).square().sum() + (s + s_p).trace() - 2 * values.sqrt().sum()
        torch.testing.assert_close(found[row], expected)


def test_it_starts_at_the_mean_of_the_known_items() -> None:
    model, means, decoded = decoding()
    means.build(model)
    means.start(model, Past())
    shown = model.eval().encoder.rows("item", torch.tensor([3]))[0] - model.encoder.tables("brand", torch.tensor(2))
    mean = model.encoder.tables("item", torch.tensor([1, 2])).mean(0)
    torch.testing.assert_close(shown, mean, rtol=0, atol=0.02)
    assert (decoded.own == model.encoder.tables("item", torch.arange(4))).all()


def test_wrong_values_are_refused() -> None:
    for name in ("few", "noise", "reconstruct", "align"):
        with pytest.raises(ValueError, match=f"{name} should be at least 0. Found -1"):
            CVAR(**{name: -1})
    with pytest.raises(ValueError, match="latent should be at least 1"):
        CVAR(latent=0)
    with pytest.raises(ValueError, match=r"with attributes\. Found 'user'"):
        Decoding(Choosers("user"), 0, K, 0.0, 1.0, 1.0).build(Model())
    shrunk = Model()
    shrunk.encoder = Encoder(Schema(TABLES, {"rows": ROWS}), D, shrink={"item": {"hash": 2}})
    with pytest.raises(ValueError, match=r"encoder\.shrink"):
        Decoding(Choosers("item"), 0, K, 0.0, 1.0, 1.0).build(shrunk)
