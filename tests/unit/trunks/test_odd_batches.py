"""Batches that a run of several processes, or a new user, gives to trunks that read a history or a sequence."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch

from graftrec.batch import Encoded
from graftrec.trunks.base import Trunk
from graftrec.trunks.bert4rec import BERT4Rec
from graftrec.trunks.clsr import CLSR
from graftrec.trunks.dien import DIEN
from graftrec.trunks.din import DIN
from graftrec.trunks.gru4rec import GRU4Rec
from graftrec.trunks.hstu import HSTU
from graftrec.trunks.nextitnet import NextItNet
from graftrec.trunks.sasrec import SASRec
from graftrec.trunks.sim import SIM
from graftrec.trunks.sli_rec import SLiRec

WIDTH = 8
STREAMS = {"s": ["user", "item"]}
SEQUENTIAL = (BERT4Rec, GRU4Rec, HSTU, NextItNet, SASRec)
OTHERS = (CLSR, DIEN, DIN, SIM, SLiRec)


def made(cls: type[Any]) -> Trunk:
    trunk: Trunk = cls(WIDTH, True) if cls in SEQUENTIAL else cls(2, WIDTH, True, STREAMS)
    return trunk


def encoded(trunk: Trunk, rows: int, length: int, empty: bool, last: bool) -> Encoded:
    mask = torch.full((rows, length), not empty)
    items = torch.randn(rows, length, WIDTH)
    fields = torch.randn(rows, 2, WIDTH)
    return Encoded(
        fields, items, mask, stream="s", times=torch.arange(length).repeat(rows, 1), items=items, last=last,
        hidden=mask if trunk.cloze else None, aside=[] if trunk.training else None,
    )  # fmt: skip


@pytest.mark.parametrize("cls", [*SEQUENTIAL, *OTHERS], ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("training", [True, False])
def test_no_row_one_row_no_event_and_no_length(cls: type[Any], training: bool) -> None:
    trunk = made(cls).train(training)
    asked = (False, True) if trunk.sequential else (False,)
    for rows, length, empty, last in itertools.product((0, 1, 3), (0, 1, 5), (False, True), asked):
        trunk.zero_grad()
        e = encoded(trunk, rows, length, empty, last)
        z = trunk(e, ["a"])["a"]
        positions = (1 if last else length,) if trunk.sequential else ()
        assert z.shape == (rows, *positions, trunk.out_dim)
        assert z.isfinite().all()
        own = [part.total for part in e.aside or ()]
        (z.pow(2).sum() + sum(own)).backward()
        for name, parameter in trunk.named_parameters():  # processes that exchange gradients wait for each
            assert parameter.grad is not None, (name, rows, length, empty, last)
            assert parameter.grad.isfinite().all(), (name, rows, length, empty, last)


def test_a_row_alone_is_what_it_is_beside_others() -> None:
    for cls in (*SEQUENTIAL, *OTHERS):
        trunk = made(cls).eval()
        e = encoded(trunk, 3, 5, False, False)
        assert e.history is not None
        assert e.mask is not None
        assert e.times is not None
        alone = replace(
            e, fields=e.fields[:1], history=e.history[:1], items=e.history[:1], mask=e.mask[:1], times=e.times[:1],
            hidden=None if e.hidden is None else e.hidden[:1],
        )  # fmt: skip
        torch.testing.assert_close(trunk(alone, ["a"])["a"], trunk(e, ["a"])["a"][:1])
