"""Users with 0, 1 and 5,000 events, from rows to what every sequential trunk says of them: finite, quick, no leak."""

from __future__ import annotations

import resource
import time
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
import torch
from torch import Tensor

from discovery import classes
from graftrec.config import instantiate
from graftrec.data.batch import Batch, Read
from graftrec.data.features.history import MILLISECONDS as DAY
from graftrec.data.protocols.base import Protocol
from graftrec.data.protocols.cross_domain import CrossDomain
from graftrec.data.splits.temporal import ByTime
from graftrec.data.streams.sequences import SequenceRows
from graftrec.models.encoder import Encoder
from graftrec.models.heads.dot import Dot
from graftrec.models.trunks.base import Trunk
from graftrec.tasks.losses.cross_entropy import CrossEntropy
from graftrec.tasks.next_item import NextItem
from shop import SETTINGS, Shop, made_of

LONG, WIDTH, ITEMS = 5000, 8, 50
CUT = float(LONG)  # days of training
TRUNKS = [cls for cls in classes("models.trunks") if cls.sequential]


def shop(changed_from: float = float("inf")) -> Shop:
    """A user with 5,000 events before the cut, one with one, one with none; all are asked about after it.

    From a day on the long user chose other items: those of everybody, so that no vocabulary moves.
    """
    rows = [("long", day * 7 % ITEMS if day < changed_from else day * 11 % ITEMS, float(day)) for day in range(LONG)]
    rows += [("once", 3, 40.0), *(("other", item, item + 0.5) for item in range(ITEMS))]
    for user in ("long", "once", "none", "other"):
        rows += [(user, 5, CUT + 10), (user, 6 if changed_from > CUT + 15 else 7, CUT + 20)]
    return Shop(pl.DataFrame(rows, ["user", "item", "time"], orient="row"))


def stream_of(cls: type[Trunk], data: Shop) -> tuple[Protocol, SequenceRows]:
    split = ByTime(CUT / (CUT + 20), (CUT + 15) / (CUT + 20), "span")
    more = {**SETTINGS, "short": LONG, "mask": 0.2 if cls.cloze else 0.0}
    made = made_of(CrossDomain, data, split, **more)
    made.prepare(["sequences"])
    stream = made.streams["sequences"]
    assert isinstance(stream, SequenceRows)
    return made, stream


class Net:
    """An encoder, a trunk and the task; the same weights every time."""

    def __init__(self, cls: type[Trunk], made: Protocol) -> None:
        torch.manual_seed(0)
        self.schema = made.schema(["sequences"])
        stream = self.schema.streams["sequences"]
        self.encoder = Encoder(self.schema, WIDTH, dropout=0.0)
        known = {"fields": 1, "width": WIDTH, "history": True, "tasks": ["next"], "streams": {"sequences": ["user"]}}
        known |= {"layers": 1, "dropout": 0.0}
        arguments = instantiate.arguments(cls)
        self.trunk: Trunk = cls(**{name: value for name, value in known.items() if name in arguments})
        label = stream.label("next")
        self.task = NextItem(Dot(self.trunk.out_dim, WIDTH), CrossEntropy(), "sequences", "next", label)

    def z(self, batch: Batch) -> Tensor:
        encoded = self.encoder(batch, self.schema.streams["sequences"], with_candidate=False)
        found: Tensor = self.trunk(replace(encoded, last="next" not in batch), ["next"])["next"]
        return found

    def read(self, batch: Batch) -> Read:
        return Read(self.z(batch), self.encoder.rows("item", batch["catalogue"])[None])

    def parameters(self) -> list[Tensor]:
        parts: list[Any] = [self.encoder, self.trunk, self.task]
        return [parameter for part in parts for parameter in part.parameters() if parameter.requires_grad]


def trained_on(stream: SequenceRows) -> Batch:
    return stream.batch(torch.arange(stream.rows), torch.Generator().manual_seed(0))


def ranked(stream: SequenceRows, stage: Any = "test") -> Batch:
    (batch,) = (batch for batch in stream.evaluation(stage) if "relevant" in batch)
    return batch


@pytest.mark.parametrize("cls", TRUNKS, ids=lambda cls: cls.__name__)
def test_all_lengths_are_learnt_from_and_ranked_in_bounded_time_and_memory(cls: type[Trunk]) -> None:
    made, stream = stream_of(cls, shop())
    net, batch = Net(cls, made), trained_on(stream)
    assert max(stream.lengths.tolist()) == LONG - (not cls.cloze)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    loss = net.task.learn(net.read(batch), batch)
    slopes = [slope for slope in torch.autograd.grad(loss, net.parameters(), allow_unused=True) if slope is not None]
    assert loss.isfinite()
    assert slopes
    assert all(slope.isfinite().all() for slope in slopes)
    asked = ranked(stream)
    assert (asked["sequence"] > 0).sum(1).tolist() == [LONG - bool(cls.cloze), 1, 2, ITEMS + 1]
    with torch.no_grad():
        read = net.read(asked)
        logits = net.task(read.z[:, -1], read.candidate)
    assert logits.shape == (4, ITEMS)
    assert logits.isfinite().all()
    assert time.process_time() - start < 120  # of this process: others may share the machine
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2_000_000  # KB


@pytest.mark.parametrize("cls", TRUNKS, ids=lambda cls: cls.__name__)
def test_nothing_to_read_at_all_is_ranked_by_one_answer(cls: type[Trunk]) -> None:
    """Strangers, and users before their first event: length 0."""
    made, stream = stream_of(cls, shop())
    net, state = Net(cls, made), stream.state(torch.tensor([0, 0]), "latest")
    assert not state["sequence"].any()
    with torch.no_grad():
        z = net.z(state)[:, -1]
    assert z.isfinite().all()
    torch.testing.assert_close(z[0], z[1])
    early = ranked(stream, "val")
    nobody = int((early["sequence"] > 0).sum(1).eq(0).nonzero())
    with torch.no_grad():
        assert net.z(early)[nobody].isfinite().all()


@pytest.mark.parametrize("cls", TRUNKS, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("day", [1, 2500, 4990])
def test_what_comes_later_changes_nothing_that_was_said_before(cls: type[Trunk], day: int) -> None:
    """Of 5,000 events those from a day on are others: what is said of earlier ones in training is the same."""
    if cls.cloze:
        pytest.skip("reads both sides of what is hidden in training; what it is asked in an evaluation is at the end")
    said = []
    for changed_from in (float("inf"), day):
        made, stream = stream_of(cls, shop(changed_from))
        net, batch = Net(cls, made), trained_on(stream)
        row = int(stream.lengths.argmax())
        assert batch["sequence_time"][row].tolist() == [number * DAY for number in range(LONG - 1)]
        with torch.no_grad():
            said.append(net.z({name: part if name == "catalogue" else part[[row]] for name, part in batch.items()})[0])
    torch.testing.assert_close(said[0][:day], said[1][:day], rtol=0, atol=1e-6)
    assert not torch.isclose(said[0][day:], said[1][day:]).all()


@pytest.mark.parametrize("cls", TRUNKS, ids=lambda cls: cls.__name__)
def test_what_is_asked_about_changes_no_ranking(cls: type[Trunk]) -> None:
    """Test rows are of other items: rankings of validation and test are the same."""
    said = []
    for changed_from in (float("inf"), CUT + 15):
        made, stream = stream_of(cls, shop(changed_from))
        net = Net(cls, made)
        with torch.no_grad():
            said += [net.z(ranked(stream, stage)) for stage in ("val", "test")]
    assert torch.equal(said[0], said[2])
    assert torch.equal(said[1], said[3])
