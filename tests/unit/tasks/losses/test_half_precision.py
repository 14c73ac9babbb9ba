"""Under autocast the products of a catalogue's softmax are bfloat16, its loss and sums are not."""

from __future__ import annotations

import pytest
import torch

from graftrec.tasks.losses.catalogue import catalogue_softmax


@pytest.mark.parametrize("of_queries", [torch.float32, torch.bfloat16])
def test_the_loss_stays_float32(of_queries: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graftrec.tasks.losses.catalogue.AT_ONCE", 3000)
    torch.manual_seed(0)
    queries, items = torch.randn(40, 16).to(of_queries), torch.randn(300, 16)
    target, weight = torch.randint(300, (40,)), torch.full((40,), 1 / 40)
    queries.requires_grad_(), items.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = catalogue_softmax(queries, items, target, weight)
    loss.backward()
    exact = [x.detach().float().requires_grad_() for x in (queries, items)]
    wanted = torch.nn.functional.cross_entropy(exact[0] @ exact[1].T, target)
    wanted.backward()
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(float(wanted.detach()), rel=5e-3)
    for found, right in zip((queries, items), exact, strict=True):
        assert found.grad is not None
        assert right.grad is not None
        assert found.grad.dtype == found.dtype
        assert float((found.grad - right.grad).norm() / right.grad.norm()) < 0.02
