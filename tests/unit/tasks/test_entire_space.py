"""ESMM and ESCM2 against their equations, row by row in plain Python."""

from __future__ import annotations

import math
from typing import Any

import pytest
import sklearn.metrics as sk
import torch
from torch import Tensor

from graftrec.data.schema import Label
from graftrec.models.heads.linear import Linear
from graftrec.tasks.entire_space import product
from graftrec.tasks.escm2 import ESCM2
from graftrec.tasks.esmm import ESMM
from graftrec.tasks.losses.bce import Bce
from graftrec.tasks.losses.squared import Squared

NAN = math.nan
LABEL = Label("buy", "binary")
CLICK = [-2.0, 0.5, 1.0, -4.0, 0.3, 2.0]  # logits of the click's task
CVR = [0.2, -0.7, 1.5, 0.1, 0.9, -1.0]
IMPUTED = [0.3, -0.2, 0.4, 1.0, 0.0, -1.0]
# not clicked, clicked and bought, clicked only, clicked and bought, click unknown, clicked and nobody knows
BATCH = {
    "click": torch.tensor([0.0, 1.0, 1.0, 1.0, NAN, 1.0]),
    "buy": torch.tensor([NAN, 1.0, 0.0, 1.0, 0.0, NAN]),
}
KNOWN = [(0, 0.0), (1, 1.0), (2, 0.0), (3, 1.0)]  # row, clicked and bought


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def entropy(p: float, y: float) -> float:
    return -math.log(p) if y else -math.log(1 - p)


def task(cls: type[Any], loss: Any = None, **settings: Any) -> Any:
    head = Linear(2, classes=cls.outputs(LABEL))
    return cls(head, loss or Bce(), "s", "buy", LABEL, **{"space": "click", "given": "clicks", **settings})


def ctcvr() -> float:
    return sum(entropy(sigmoid(CLICK[row]) * sigmoid(CVR[row]), y) for row, y in KNOWN) / 4


def test_a_product_of_probabilities_in_log_space() -> None:
    a, b = (torch.linspace(-6, 6, 25).double()[None] for _ in range(2))
    found = product(a.T, b).double().sigmoid()
    torch.testing.assert_close(found, a.T.sigmoid() * b.sigmoid(), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("a", [-1e4, -90.0, 90.0, 1e4])
@pytest.mark.parametrize("b", [-1e4, -90.0, 90.0, 1e4])
def test_the_product_of_extremes_is_finite(a: float, b: float) -> None:
    logits = torch.tensor([a, b], requires_grad=True)
    found = product(logits[:1], logits[1:])
    expected = {(-1, -1): a + b, (1, 1): min(a, b), (-1, 1): a, (1, -1): b}[math.copysign(1, a), math.copysign(1, b)]
    assert found.item() == pytest.approx(expected, abs=1)
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    assert gradient.isfinite().all()
    assert gradient.any()


def test_esmm_by_hand() -> None:
    given, logits = torch.tensor(CLICK, requires_grad=True), torch.tensor(CVR, requires_grad=True)
    loss = task(ESMM).loss(logits, BATCH, given)
    assert loss.item() == pytest.approx(ctcvr(), rel=1e-5)
    for gradient in torch.autograd.grad(loss, [given, logits]):  # both tasks learn, from the known rows
        assert gradient[:4].all()
        assert not gradient[4:].any()


def test_esmm_by_the_squared_error() -> None:
    loss = task(ESMM, Squared()).loss(torch.tensor(CVR), BATCH, torch.tensor(CLICK))
    expected = sum((sigmoid(CLICK[row]) * sigmoid(CVR[row]) - y) ** 2 for row, y in KNOWN) / 4
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("estimator", ["ips", "dr"])
@pytest.mark.parametrize("global_weight", [0.0, 0.7])
def test_escm2_by_hand(estimator: str, global_weight: float) -> None:
    clip = 0.05
    assert sigmoid(CLICK[3]) < clip  # so the clip is seen
    total = 0.0
    for row, y in KNOWN:
        o = 0 if row == 0 else 1
        weight = o / max(sigmoid(CLICK[row]), clip)
        e = entropy(sigmoid(CVR[row]), y)
        imputed = math.log(1 + math.exp(IMPUTED[row]))
        if estimator == "ips":
            total += weight * e
        else:
            total += imputed + weight * (e - imputed) + weight * (e - imputed) ** 2
    expected = total / 4 + global_weight * ctcvr()
    escm2 = task(ESCM2, estimator=estimator, clip=clip, global_weight=global_weight)
    given = torch.tensor(CLICK, requires_grad=True)
    logits = torch.tensor([CVR, IMPUTED]).T.clone().requires_grad_(True)
    loss = escm2.loss(logits, BATCH, given)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    click, cvr = torch.autograd.grad(loss, [given, logits], allow_unused=True)
    assert (click is not None and bool(click.any())) == (global_weight > 0)  # none through the weights
    assert not cvr[4:].any()
    assert cvr[1:4, 0].all()
    assert bool(cvr[:4, 1].any()) == (estimator == "dr")


def test_ips_is_unbiased() -> None:
    """The mean over all clicks that could have been is the mean loss of all rows."""
    generator = torch.Generator().manual_seed(0)
    click, cvr = torch.randn(3, generator=generator), torch.randn(3, generator=generator)
    buy = torch.tensor([1.0, 0.0, 1.0])
    total = torch.zeros(())
    for case in range(8):
        clicked = torch.tensor([float(case >> row & 1) for row in range(3)])
        chance = torch.where(clicked == 1, click.sigmoid(), 1 - click.sigmoid()).prod()
        escm2 = task(ESCM2, estimator="ips", clip=1e-6, global_weight=0.0)
        logits = torch.stack((cvr, torch.zeros(3)), -1)
        total += chance * escm2.loss(logits, {"click": clicked, "buy": buy}, click)
    assert total.item() == pytest.approx(Bce()(cvr, buy).mean().item(), rel=1e-5)


@pytest.mark.parametrize("cls", [ESMM, ESCM2])
class TestBoth:
    def logits(self, cls: type[Any]) -> Tensor:
        return torch.tensor([CVR, IMPUTED]).T if cls is ESCM2 else torch.tensor(CVR)

    def test_metrics_are_of_the_clicked_and_of_all(self, cls: type[Any]) -> None:
        given = task(cls)
        for row in range(6):  # as in batches of one
            part = {name: values[row : row + 1] for name, values in BATCH.items()}
            given.update(self.logits(cls)[row : row + 1], part, torch.tensor(CLICK)[row : row + 1])
        found = given.compute()
        clicked = [1, 2, 3]
        y, p = [1, 0, 1], [sigmoid(CVR[row]) for row in clicked]
        assert found["auc"].value == pytest.approx(sk.roc_auc_score(y, p))
        assert found["log_loss"].value == pytest.approx(sk.log_loss(y, p), rel=1e-5)
        both = [sigmoid(CLICK[row]) * sigmoid(CVR[row]) for row, _ in KNOWN]
        assert found["ctcvr_auc"].value == pytest.approx(sk.roc_auc_score([y for _, y in KNOWN], both))

    def test_a_click_is_needed(self, cls: type[Any]) -> None:
        with pytest.raises(ValueError, match="given should be a task of the same stream"):
            task(cls).loss(self.logits(cls), BATCH)
        with pytest.raises(ValueError, match="given should name the task"):
            task(cls, given="")
        with pytest.raises(ValueError, match="space should name the label"):
            task(cls, space="")

    def test_a_row_weighs_what_it_says(self, cls: type[Any]) -> None:
        given = task(cls, row_weight="value")
        one = {**BATCH, "value": torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0, 0.0])}
        two = {**BATCH, "value": torch.tensor([2.0, 0.0, 0.0, 0.0, 0.0, 0.0])}
        single, double = (given.loss(self.logits(cls), batch, torch.tensor(CLICK)) for batch in (one, two))
        assert single > 0
        assert double.item() == pytest.approx(2 * single.item(), rel=1e-6)


def test_priors_of_escm2() -> None:
    """The head starts at the conversion's rate, and imputes what a logit of 0 says."""
    escm2 = task(ESCM2, prior=torch.tensor(-2.0))
    escm2.head = Linear(2, classes=2)
    for parameter in escm2.head.parameters():
        parameter.data.zero_()
    assert escm2(torch.ones(1, 2)).tolist() == [[-2.0, 0.0]]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"estimator": "snips"}, "estimator should be ips or dr"),
        ({"clip": 0.0}, "clip should be in"),
        ({"global_weight": -1.0}, "global_weight should be at least 0"),
    ],
)
def test_wrong_settings_of_escm2(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        task(ESCM2, **settings)
