"""The next item over a whole catalogue: in blocks, sampled, missing labels, and what cannot be right."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from graftrec.data.batch import Read
from graftrec.data.schema import Label
from graftrec.models.heads.dot import Dot
from graftrec.models.heads.linear import Linear
from graftrec.tasks.losses import catalogue
from graftrec.tasks.losses.bpr import Bpr
from graftrec.tasks.losses.catalogue import catalogue_softmax
from graftrec.tasks.losses.cross_entropy import CrossEntropy
from graftrec.tasks.losses.gbce import Gbce
from graftrec.tasks.losses.info_nce import InfoNce
from graftrec.tasks.next_item import NextItem, less_log_q

ROWS, LENGTH, ITEMS, WIDTH = 3, 4, 11, 5
NEXT = Label("next", "category", ITEMS)


def task(**more: Any) -> NextItem:
    torch.manual_seed(0)
    given = {"head": Dot(WIDTH, WIDTH), "loss": CrossEntropy(), "stream": "sequences", "column": "next", "label": NEXT}
    return NextItem(**(given | more))


def drawn() -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    z = torch.randn(ROWS, LENGTH, WIDTH, generator=random, requires_grad=True)
    items = torch.randn(1, ITEMS, WIDTH, generator=random, requires_grad=True)
    label = torch.randint(ITEMS, (ROWS, LENGTH), generator=random)
    label[0, :2] = -1
    return z, items, label


def logits(made: NextItem, z: Tensor, items: Tensor) -> Tensor:
    """Dot's definition, without its bias, which a softmax takes away."""
    return z @ items[0].T * (made.dot.scale.exp() / WIDTH**0.5)


@pytest.mark.parametrize("at_once", [ITEMS, 2 * ITEMS, 10**6])
def test_blocks_are_the_cross_entropy_over_all_items(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "AT_ONCE", at_once)
    monkeypatch.setattr(catalogue, "FEWEST", 1)
    made, (z, items, label) = task(), drawn()
    found = made.learn(Read(z, items), {"next": label})
    expected = F.cross_entropy(logits(made, z, items).flatten(0, 1), label.flatten(), ignore_index=-1)
    torch.testing.assert_close(found, expected)
    for one, other in zip(
        torch.autograd.grad(3 * found, [z, items, made.dot.scale]),
        torch.autograd.grad(3 * expected, [z, items, made.dot.scale]),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_rows_weigh_as_they_say() -> None:
    made, (z, items, label) = task(), drawn()
    weight = torch.tensor([2.0, 0.0, 1.0])
    each = F.cross_entropy(logits(made, z, items).flatten(0, 1), label.flatten(), ignore_index=-1, reduction="none")
    expected = (each.view(ROWS, LENGTH) * weight[:, None]).sum() / (label >= 0).sum()
    torch.testing.assert_close(made.learn(Read(z, items), {"next": label, "weight": weight}), expected)


def test_nothing_to_learn_is_an_exact_0_with_a_graph() -> None:
    made, (z, items, label) = task(), drawn()
    zero = made.learn(Read(z, items), {"next": torch.full_like(label, -1)})
    assert zero == 0
    assert not torch.autograd.grad(zero, z)[0].any()


def test_large_logits_stay_finite() -> None:
    queries = torch.tensor([[1e4], [-1e4]], requires_grad=True)
    items = torch.tensor([[1.0], [-1.0], [0.0]], requires_grad=True)
    total = catalogue_softmax(queries, items, torch.tensor([1, 1]), torch.ones(2))
    assert total == 2e4
    assert all(part.isfinite().all() for part in torch.autograd.grad(total, [queries, items]))


DRAWS = [("uniform", False), ("uniform", True), ("popularity", False), ("popularity", True), ("batch", True)]
PRIOR = torch.arange(1.0, ITEMS + 1).div(ITEMS * (ITEMS + 1) / 2).log()


def of_list(loss: Any, own: Tensor, rest: Tensor) -> Tensor:
    """A positive's logit () against those of its negatives (n,)."""
    if isinstance(loss, InfoNce):
        return torch.cat([own[None], rest]).logsumexp(0) - own
    if isinstance(loss, Bpr):
        return F.softplus(rest - own).mean()
    return (loss.power * F.softplus(-own) + F.softplus(rest).sum()) / (1 + len(rest))


@pytest.mark.parametrize("at_once", [1, 20, 10**6])
@pytest.mark.parametrize(("drawn_by", "own"), DRAWS)
@pytest.mark.parametrize("loss", [InfoNce, Bpr, Gbce])
def test_drawn_negatives_are_the_loss_on_their_list(
    loss: Any, drawn_by: str, own: bool, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "AT_ONCE", at_once)
    head = Dot(WIDTH, WIDTH, temperature=0.5 * WIDTH**0.5)
    made = task(loss=loss(), negatives=6, drawn=drawn_by, own=own, prior=PRIOR, head=head)
    z, items, label = drawn()
    weight = torch.tensor([2.0, 0.5, 1.0])
    torch.manual_seed(7)
    found = made.learn(Read(z, items), {"next": label, "weight": weight})
    torch.manual_seed(7)
    places = (label >= 0).nonzero().tolist()
    negatives = made.draw(label[label >= 0]).expand(len(places), -1)
    every = logits(made, z, items) / 0.5 + made.dot.bias
    if drawn_by != "uniform":
        every = every - PRIOR
    total, count = torch.zeros(()), 0
    for (row, place), those in zip(places, negatives.tolist(), strict=True):
        target = int(label[row, place])
        others = [item for item in those if item != target]
        if others:
            own_logit, rest = every[row, place, target], every[row, place, others]
            total, count = total + weight[row] * of_list(made.criterion, own_logit, rest), count + 1
    torch.testing.assert_close(found, total / count)
    inputs = [z, items, made.dot.scale, made.dot.bias]
    pairs = zip(torch.autograd.grad(3 * found, inputs), torch.autograd.grad(3 * total / count, inputs), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("own", [False, True])
def test_negatives_are_drawn_as_they_say(own: bool) -> None:
    count = 200_000
    target = torch.tensor([3, 3, 3, 8])
    shape = (4, count // 4) if own else (count,)
    share = {"uniform": torch.full((ITEMS,), 1 / ITEMS), "popularity": PRIOR.exp()}
    share["batch"] = torch.bincount(target, minlength=ITEMS) / 4
    for way, expected in share.items():
        made = task(loss=InfoNce(), negatives=shape[-1], drawn=way, own=own, prior=PRIOR)
        found = made.draw(target)
        assert found.shape == shape
        counts = torch.bincount(found.flatten(), minlength=ITEMS) / count
        torch.testing.assert_close(counts, expected, atol=0.005, rtol=0)
        assert not made.draw(target[:0]).numel() or not own


@pytest.mark.parametrize("loss", [InfoNce(), Bpr()])
def test_with_log_q_the_best_logits_are_the_chances(loss: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exact mean over targets p and one draw q has no slope at log p + constant; without log q it has."""
    chance = torch.arange(ITEMS, 0, -1.0).square()
    chance /= chance.sum()
    made = task(head=Dot(1, 1), loss=loss, negatives=1, drawn="popularity", prior=PRIOR)
    items = (chance.log() + 0.7)[None, :, None].requires_grad_(True)
    z, slopes = torch.ones(1, ITEMS, 1), []
    for log_q in (PRIOR, torch.zeros(ITEMS)):
        made.prior = log_q
        total = torch.zeros(())
        for target in range(ITEMS):
            for one in range(ITEMS):
                if one != target:
                    monkeypatch.setattr(made, "draw", lambda _, one=one: torch.tensor([one]))
                    label = torch.full((1, ITEMS), -1)
                    label[0, 0] = target
                    mass = chance[target] * PRIOR[one].exp()
                    total = total + mass * made.learn(Read(z, items), {"next": label})
        slopes.append(torch.autograd.grad(total, items)[0].abs().max().item())
    assert slopes[0] < 1e-6 < 1e-2 < slopes[1]


def test_many_draws_come_near_the_softmax_over_all() -> None:
    """Uniform draws without the target: the sum over K negatives is K / N of that over all others."""
    z, items, label = drawn()
    made = task(loss=InfoNce(), negatives=300_000)
    every = logits(made, z, items).flatten(0, 1)
    kept = label.flatten() >= 0
    own = every[kept].gather(1, label.flatten()[kept][:, None])
    others = every[kept].exp().sum(1, keepdim=True) - own.exp()
    expected = ((own.exp() + 300_000 / ITEMS * others).log() - own).mean()
    torch.testing.assert_close(made.learn(Read(z, items), {"next": label}), expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("more", [{}, {"loss": Gbce(), "negatives": 3}, {"loss": Bpr(), "negatives": 3, "own": True}])
def test_temperature_divides_what_is_learnt_and_ranked(more: dict[str, Any]) -> None:
    one, half = (task(**more, head=Dot(WIDTH, WIDTH, temperature=t)) for t in (1.0, 0.5))
    z, items, label = drawn()
    torch.manual_seed(2)
    cold = half.learn(Read(z, items), {"next": label})
    torch.manual_seed(2)
    torch.testing.assert_close(cold, one.learn(Read(2 * z, items), {"next": label}))
    torch.testing.assert_close(half(z[:, -1], items), one(2 * z[:, -1], items))


def test_cosines_are_learnt_and_ranked_whatever_the_lengths_of_vectors() -> None:
    made = task(head=Dot(WIDTH, WIDTH, cosine=True, temperature=0.1))
    z, items, label = drawn()
    loss = made.learn(Read(z, items), {"next": label})
    torch.testing.assert_close(made.learn(Read(3 * z, items * 7), {"next": label}), loss)
    cosine = torch.nn.functional.cosine_similarity(z[:, -1, None], items, dim=-1)
    torch.testing.assert_close(made(z[:, -1], items), 10 * cosine)
    logits = 10 * torch.nn.functional.cosine_similarity(z[:, :, None], items[:, None], dim=-1)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), label.flatten(), ignore_index=-1)
    torch.testing.assert_close(loss, expected)


def test_gbce_learns_how_many_are_drawn() -> None:
    made = task(loss=Gbce(t=1.0), negatives=4)
    assert made.criterion.power == pytest.approx(4 / (ITEMS - 1))
    bias = made.dot.bias.detach().clone().requires_grad_()  # where nothing is known it is at its best
    labels = torch.eye(5)[:1]
    (slope,) = torch.autograd.grad(made.criterion(bias.expand(1, 5), labels).sum(), bias)
    assert slope.item() == pytest.approx(0, abs=1e-6)
    assert bias.sigmoid().item() == pytest.approx(1 / ITEMS)


@pytest.mark.parametrize("own", [False, True])
def test_of_no_label_there_is_nothing_to_draw_for(own: bool) -> None:
    for way in ("uniform", "popularity", "batch"):
        made, (z, items, label) = task(loss=Gbce(), negatives=3, drawn=way, own=own, prior=PRIOR), drawn()
        zero = made.learn(Read(z, items), {"next": torch.full_like(label, -1)})
        assert zero == 0
        assert not torch.autograd.grad(zero, z)[0].any()


def test_a_behaviour_is_judged_by_what_was_chosen_in_that_way() -> None:
    everything, bought = (torch.eye(ITEMS, dtype=torch.bool)[rows] for rows in ([0, 1], [3, 1]))
    bought[0] = False
    batch = {"query": torch.tensor([5, 6]), "relevant": everything, "next_buy_relevant": bought}
    scores = torch.zeros(2, ITEMS)
    scores[0, 0] = scores[1, 1] = 1.0
    for column, users in (("next", 2), ("next_buy", 1)):
        made = task(column=column)
        made.update(scores, batch)
        assert made.compute()["ndcg@10"].value == 1
        assert int((~made.units()["ndcg@10"].isnan()).sum()) == users
    assert batch["relevant"] is everything


def test_a_ranking_is_what_was_learnt() -> None:
    made, (z, items, _) = task(), drawn()
    torch.testing.assert_close(made(z[:, -1], items), logits(made, z[:, -1], items) + made.dot.bias)
    torch.testing.assert_close(made.predict(made(z[:, -1], items)).sum(1), torch.ones(ROWS))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"head": Linear(WIDTH)}, "head should be dot"),
        ({"negatives": -1}, "negatives should be at least 0"),
        ({"negatives": 5}, "CrossEntropy with negatives=5"),
        ({"drawn": "popularity"}, "drawn and own are of use with negatives"),
        ({"own": True}, "drawn and own are of use with negatives"),
        ({"loss": Bpr(), "negatives": 2, "drawn": "file"}, "drawn should be one of uniform, popularity, batch"),
        ({"loss": Bpr(), "negatives": 2, "drawn": "batch"}, r"prior should be \(11,\)"),
        ({"loss": InfoNce(0.1), "negatives": 2, "drawn": "batch", "prior": PRIOR}, "temperature should be the head's"),
        ({"k": 0}, "k should be at least 1"),
    ],
)
def test_what_cannot_be_right_is_told(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        task(**settings)
    with pytest.raises(ValueError, match="is a binary label"):
        task(loss=Bpr(), label=Label("next", "binary"))


@pytest.mark.parametrize("drawn_by", ["popularity", "batch", "uniform"])
def test_negatives_are_at_first_as_likely_as_they_should_be_whatever_they_are_drawn_by(drawn_by: Any) -> None:
    items, negatives = 10_000, 256
    chance = 1 / torch.arange(1.0, items + 1)  # a few items are most of what is chosen
    label, log_q = Label("next", "category", items), (chance / chance.sum()).log()
    made = task(loss=Gbce(0.75), label=label, negatives=negatives, drawn=drawn_by, own=True, prior=log_q)
    random = torch.Generator().manual_seed(0)
    target = log_q.exp().multinomial(4_000, replacement=True, generator=random)
    torch.manual_seed(0)
    shown = made.draw(target)
    off = 0.0 if drawn_by == "uniform" else log_q[torch.cat([target, shown.flatten()])]
    likely = float((made.dot.bias.detach() - off).sigmoid().mean())
    power = made.criterion.power
    assert likely == pytest.approx(power / (power + negatives), rel=0.05)
    z = torch.zeros(4_000, WIDTH)  # nothing is known: then the bias has no slope
    loss = made.learn(Read(z[:, None], torch.zeros(1, items, WIDTH)), {"next": target[:, None]})
    (slope,) = torch.autograd.grad(loss, made.dot.bias)
    assert abs(float(slope)) < 0.05 * power / (negatives + 1)  # of what one positive pulls


@pytest.mark.parametrize("start", [-6.0, 0.0, 2.0])
def test_the_bias_that_log_q_asks_for_meets_its_equation(start: float) -> None:
    """sum_n q_n sigmoid(b - log q_n) = sigmoid(start), for chances that are far from equal."""
    log_q = torch.log_softmax(torch.linspace(-4, 4, 50, dtype=torch.float64), 0)
    met = (log_q.exp() * (less_log_q(start, log_q) - log_q).sigmoid()).sum()
    assert float(met) == pytest.approx(float(torch.tensor(start, dtype=torch.float64).sigmoid()), abs=1e-9)


@pytest.mark.parametrize("loss", [CrossEntropy(), InfoNce(temperature=1.0)], ids=["all", "drawn"])
def test_a_bias_of_each_item_is_learnt_and_ranked(loss: Any) -> None:
    """<z, e_n> + b_n, BERT4Rec's equation 7: loss, gradient and ranking have one and the same logits."""
    many = 0 if isinstance(loss, CrossEntropy) else 5
    made, (z, items, label) = task(item_bias=True, loss=loss, negatives=many), drawn()
    assert made.item_bias is not None
    torch.nn.init.normal_(made.item_bias)
    made.draw = lambda target: torch.arange(5)  # type: ignore[method-assign]
    found = made.learn(Read(z, items), {"next": label})
    scores = (logits(made, z, items) + made.item_bias).flatten(0, 1)
    answer = label.flatten()
    if many:  # what was drawn is the list, and the target where it is not among them
        listed = torch.arange(ITEMS) < 5
        scores = scores.masked_fill(~(listed | (torch.arange(ITEMS) == answer[:, None])), -torch.inf)
    expected = F.cross_entropy(scores, answer, ignore_index=-1)
    torch.testing.assert_close(found, expected)
    (slope,), (wanted,) = (torch.autograd.grad(loss, [made.item_bias]) for loss in (found, expected))
    torch.testing.assert_close(slope, wanted)
    ranked = made(z[:, 0], items)
    torch.testing.assert_close(ranked - ranked[:, :1], (s := logits(made, z[:, 0], items) + made.item_bias) - s[:, :1])
