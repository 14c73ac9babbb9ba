"""Checkpointed blocks: the same step, and less of it kept in memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from graftrec.data.batch import Encoded
from graftrec.models.trunks.base import Trunk
from graftrec.models.trunks.bert4rec import BERT4Rec
from graftrec.models.trunks.hstu import HSTU
from graftrec.models.trunks.sasrec import SASRec

WIDTH, LENGTH = 32, 200
TRUNKS = [SASRec, BERT4Rec, HSTU]


def encoded(cloze: bool) -> Encoded:
    random = torch.Generator().manual_seed(0)
    history = torch.randn(4, LENGTH, WIDTH, generator=random)
    mask = torch.arange(LENGTH) >= LENGTH - torch.tensor([LENGTH, 30, 1, 0])[:, None]
    hidden = mask & (torch.rand(mask.shape, generator=random) < 0.2) if cloze else None
    return Encoded(torch.zeros(4, 0, WIDTH), history, mask, hidden=hidden)


def step(cls: type[Trunk], checkpoint: bool) -> tuple[list[Tensor], int]:
    """Loss and gradients of a step with dropout, and the bytes that its graph keeps."""
    torch.manual_seed(0)
    trunk = cls(WIDTH, True, layers=4, checkpoint=checkpoint).train()  # type: ignore[call-arg]
    parameters = {parameter.untyped_storage().data_ptr() for parameter in trunk.parameters()}
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        if x.untyped_storage().data_ptr() not in parameters:
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    torch.manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        loss = trunk(encoded(trunk.cloze), ["next"])["next"].square().mean()
    loss.backward()
    return [loss.detach(), *(p.grad for p in trunk.parameters() if p.grad is not None)], sum(kept.values())


@pytest.mark.parametrize("cls", TRUNKS)
def test_same_gradients_less_memory(cls: type[Trunk]) -> None:
    (whole, much), (again, little) = step(cls, False), step(cls, True)
    assert len(whole) == len(again) > 10
    for one, other in zip(whole, again, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert little < much / 5


@pytest.mark.parametrize("cls", TRUNKS)
def test_an_evaluation_has_nothing_to_compute_again(cls: type[Trunk], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graftrec.models.layers.packed_sequences.checkpoint", nn.Module())  # which cannot be called
    trunk = cls(WIDTH, True, checkpoint=True).eval()  # type: ignore[call-arg]
    with torch.no_grad():
        assert torch.isfinite(trunk(encoded(trunk.cloze), ["next"])["next"]).all()
