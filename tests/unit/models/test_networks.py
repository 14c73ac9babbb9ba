"""Trunks, heads, losses and balancers against their equations on small numbers."""

import pytest
import torch
import torch.nn.functional as F

from graftrec.data.batch import Encoded
from graftrec.data.schema import Feature, Schema, Stream, Table
from graftrec.models.encoder import Encoder
from graftrec.models.heads.dot import Dot
from graftrec.models.heads.linear import Linear
from graftrec.models.heads.mlp import Mlp
from graftrec.models.trunks.mmoe import MMoE
from graftrec.models.trunks.transformer import Transformer
from graftrec.tasks.losses.base import masked_mean
from graftrec.tasks.losses.cross_entropy import CrossEntropy
from graftrec.tasks.losses.squared import Squared
from graftrec.training.balancers.sum import Sum
from graftrec.training.balancers.uncertainty import Uncertainty
from graftrec.transfer.carry import carry

FIELDS, WIDTH, LENGTH = 3, 4, 5


def encoded(rows: int = 6) -> Encoded:
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(LENGTH) >= torch.arange(rows)[:, None]
    return Encoded(
        torch.randn(rows, FIELDS, WIDTH, generator=generator),
        torch.randn(rows, LENGTH, WIDTH, generator=generator),
        mask,
    )


def test_mmoe_is_its_equation() -> None:
    trunk, e = MMoE(FIELDS, WIDTH, False, ["a", "b"], 2, [5, 3]).double(), encoded()
    fields = e.fields.double()
    x, z = fields.flatten(1), trunk(Encoded(fields), ["a", "b"])
    gates, experts = trunk.gates, []
    for k in range(2):
        h = x
        for layer in trunk.experts.layers:
            h = F.relu(h @ layer.weight[k].T + layer.bias[k])
        experts.append(h)
    for t, task in enumerate(("a", "b")):
        gate = (x @ gates.weight[2 * t : 2 * t + 2].T + gates.bias[2 * t : 2 * t + 2]).softmax(-1)
        torch.testing.assert_close(z[task], gate[:, :1] * experts[0] + gate[:, 1:] * experts[1])


def test_a_transformer_without_a_history_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="protocol=long_short_term"):
        Transformer(FIELDS, WIDTH, False)
    alone = Transformer(FIELDS, WIDTH, False, optional=True).eval()  # where the worth of a history is measured
    fields = torch.randn(3, FIELDS, WIDTH)
    torch.testing.assert_close(alone(Encoded(fields), ["a"])["a"], alone.fuse(fields.flatten(1)))


@pytest.mark.parametrize(
    "head", [Linear(6, WIDTH, 2), Mlp(6, WIDTH, 2, hidden=[8, 5]), Dot(6, WIDTH), Dot(6, WIDTH, True, 0.1)]
)
def test_ranking_a_catalogue_is_scoring_its_candidates(head: torch.nn.Module) -> None:
    head.eval()
    z, items, cross = torch.randn(3, 6), torch.randn(7, WIDTH), torch.randn(3, 7, 2)
    ranked = head(z, items[None], cross)
    assert ranked.shape == (3, 7)
    torch.testing.assert_close(ranked, head(z, items.expand(3, 7, WIDTH), cross))


def test_dot_by_hand() -> None:
    head = Dot(2, 2)
    with torch.no_grad():
        head.bias.fill_(0.5)
    score = head(torch.tensor([[1.0, 2.0]]), torch.tensor([[[3.0, 4.0]]]))
    torch.testing.assert_close(score, torch.tensor([[11 / 2**0.5 + 0.5]]))
    cosine = Dot(2, 2, cosine=True, temperature=0.5)(torch.tensor([[3.0, 4.0]]), torch.tensor([[[5.0, 0.0]]]))
    torch.testing.assert_close(cosine, torch.tensor([[0.6 / 0.5]]))
    with pytest.raises(ValueError, match="temperature should be positive"):
        Dot(2, 2, temperature=0.0)


def test_losses_by_hand() -> None:
    values, mask = torch.tensor([1.0, float("nan"), 3.0]), torch.tensor([True, False, True])
    assert masked_mean(values, mask) == 2
    nothing = masked_mean(torch.ones(2, requires_grad=True) * 2, torch.zeros(2, dtype=torch.bool))
    assert nothing == 0
    assert nothing.requires_grad
    assert Squared()(torch.tensor([0.25]), torch.tensor([1.0])) == 0.5625
    uniform = CrossEntropy()(torch.zeros(1, 4), torch.tensor([2]))
    torch.testing.assert_close(uniform, torch.tensor([4.0]).log())


def test_balancers_by_hand() -> None:
    losses, balancer = torch.tensor([1.0, 2.0]), Uncertainty(["a", "b"])
    assert Sum()(losses) == 3
    assert balancer(losses) == 3
    with torch.no_grad():
        balancer.log_variance.copy_(torch.tensor([0.0, 2.0]).log1p())  # variances 1 and 3
    torch.testing.assert_close(balancer(losses), torch.tensor(1 + 2 / 3) + torch.tensor(3.0).log() / 2)


def encoder() -> tuple[Encoder, Stream]:
    tables = {"item": Table("item", 4, content={"kind": torch.tensor([0, 1, 1, 2])}), "kind": Table("kind", 3)}
    features = (Feature("seen", "ids", "item"), Feature("price", "number"), Feature("history", "history", "item"))
    stream = Stream("baskets", features, (), candidate="item")
    return Encoder(Schema(tables, {"baskets": stream}), WIDTH, dropout=0.0), stream


def test_the_encoder_fuses_content_and_averages_known_ids() -> None:
    model, stream = encoder()
    batch = {
        "seen": torch.tensor([[1, 3, 0]]),
        "price": torch.tensor([2.0]),
        "history": torch.tensor([[0, 2]]),
        "history_age": torch.zeros(1, 2),
        "candidate": torch.tensor([[3, 1]]),
    }
    e, items = model(batch, stream), model.items("item")
    own, kinds = model.tables("item", torch.arange(4)), model.tables("kind", torch.arange(3))
    torch.testing.assert_close(items, own + kinds[[0, 1, 1, 2]])
    torch.testing.assert_close(e.fields[0, 0], (items[1] + items[3]) / 2)
    torch.testing.assert_close(e.fields[0, 1], model.numbers["baskets"](torch.tensor([[2.0]]))[0, 0])
    torch.testing.assert_close(e.candidate, items[[3, 1]][None])
    assert e.mask is not None
    assert e.mask.tolist() == [[False, True]]


def test_the_encoder_hands_over_an_attribute_of_events_and_items() -> None:
    kinds = torch.tensor([[0, 0], [1, 2], [2, 0]])  # of unknown, a, b
    tables = {
        "item": Table("item", 2, rows=torch.tensor([0, 1, 0]), content={"a.kind": kinds}),
        "a.kind": Table("a.kind", 3),
        "user": Table("user", 5),
    }
    features = (Feature("user", "id", "user"), Feature("item", "id", "item"), Feature("recent", "history", "item"))
    stream = Stream("rows", features, ())
    model = Encoder(Schema(tables, {"rows": stream}), WIDTH, id_dropout=1.0)
    batch = {
        "user": torch.tensor([4, 4]),
        "item": torch.tensor([2, 1]),
        "recent": torch.tensor([[0, 1, 2], [0, 0, 0]]),
        "recent_age": torch.zeros(2, 3),
    }
    assert model(batch, stream).attributes is None
    found = model(batch, stream, by="a.kind").attributes
    assert found is not None
    events, asked = found
    assert events.tolist() == [[[0, 0], [1, 2], [2, 0]], [[0, 0]] * 3]
    assert list(asked) == ["item"]
    assert asked["item"].tolist() == [[2, 0], [1, 2]]  # although dropout hides the item itself


def test_a_carry_over_that_loads_nothing_is_an_error() -> None:
    model, _ = encoder()
    state = {f"encoder.{k}": v for k, v in model.state_dict().items()}
    holder = torch.nn.ModuleDict({"encoder": encoder()[0]})
    report = carry(holder, state, ("encoder.",))
    assert len(report.loaded) == len(state)
    assert not report.left + report.new + report.mismatched
    with pytest.raises(ValueError, match="loaded nothing"):
        carry(holder, state, ("trunk.",))
