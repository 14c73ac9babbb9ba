"""The order of batches: what an epoch passes, and that a position is all that it takes to go on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from graftrec.data.batch import Batch
from graftrec.data.protocols.base import Protocol
from graftrec.data.schema import Stream
from graftrec.data.streams.base import EVERY, WHOLE, Part, Stage, StreamData
from graftrec.data.streams.loader import EvaluationLoader, Mixing, TrainLoader
from processes import spawn
from shop import differing, open_shop, prepared


class Numbered(StreamData):
    """Rows that say their number, beside a draw for each."""

    def __init__(self, name: str, rows: int, lengths: torch.Tensor | None = None) -> None:
        self.schema, self.rows, self.lengths = Stream(name, (), ()), rows, lengths

    def batch(self, index: torch.Tensor, random: torch.Generator, mine: slice = EVERY) -> Batch:
        return {"row": index[mine].clone(), "draw": torch.rand(len(index), generator=random)[mine]}

    def labels(self, column: str) -> torch.Tensor:
        raise KeyError(column)

    def evaluation(self, stage: Stage, part: Part = WHOLE) -> Iterator[Batch]:
        rows = torch.arange(self.rows) + (1000 if stage == "test" else 0)
        yield from ({"row": together[part.of(len(together))]} for together in torch.split(rows, 3))


def numbered(**rows: int) -> dict[str, StreamData]:
    return {name: Numbered(name, count) for name, count in rows.items()}


def endless(loader: TrainLoader) -> Iterator[dict[str, Batch]]:
    while True:
        yield from loader


def flat(batches: list[dict[str, Batch]]) -> dict[str, torch.Tensor]:
    return {
        f"{step}/{name}/{column}": values
        for step, batch in enumerate(batches)
        for name, stream in batch.items()
        for column, values in stream.items()
    }


def rows(batches: list[dict[str, Batch]], name: str) -> list[int]:
    return list(chain.from_iterable(batch[name]["row"].tolist() for batch in batches))


@pytest.fixture(scope="module")
def protocol() -> Protocol:
    return prepared(open_shop())


counts = st.integers(1, 40)
mixings: st.SearchStrategy[Mixing] = st.sampled_from(["equal", "proportional"])


@settings(max_examples=60, deadline=None)
@given(target=counts, other=counts, size=st.integers(1, 9), mixing=mixings, seed=st.integers(0, 3))
def test_an_epoch_passes_each_row_of_the_pacing_stream_once(
    target: int, other: int, size: int, mixing: Mixing, seed: int
) -> None:
    loader = TrainLoader(numbered(target=target, other=other), ["target"], size, mixing, seed)
    epochs = [list(loader) for _ in range(3)]
    assert [len(epoch) for epoch in epochs] == [len(loader)] * 3 == [math.ceil(target / size)] * 3
    orders = [rows(epoch, "target") for epoch in epochs]
    assert all(sorted(order) == list(range(target)) for order in orders)
    if target > 20:  # all three alike by chance: never
        assert orders[0] != orders[1] != orders[2] != orders[0]


@settings(max_examples=60, deadline=None)
@given(target=counts, other=counts, size=st.integers(1, 9), mixing=mixings)
def test_another_stream_cycles_and_each_pass_has_each_row_once(
    target: int, other: int, size: int, mixing: Mixing
) -> None:
    loader = TrainLoader(numbered(target=target, other=other), ["target"], size, mixing)
    taken = size if mixing == "equal" else math.ceil(other / math.ceil(target / size))
    per_pass = math.ceil(other / taken)
    batches = list(islice(endless(loader), 3 * per_pass))
    passes = [rows(batches[at : at + per_pass], "other") for at in range(0, len(batches), per_pass)]
    assert all(sorted(order) == list(range(other)) for order in passes)
    assert max(len(batch["other"]["row"]) for batch in batches) == min(taken, other)
    if other > 20:
        assert passes[0] != passes[1] != passes[2]
    if mixing == "proportional":
        assert set(rows(batches[: len(loader)], "other")) == set(range(other))  # an epoch passes all of it


@settings(max_examples=60, deadline=None)
@given(small=counts, large=counts, size=st.integers(1, 9))
def test_the_largest_of_the_pacing_streams_decides(small: int, large: int, size: int) -> None:
    loader = TrainLoader(numbered(a=small, b=large), ["a", "b"], size)
    epoch = list(loader)
    assert len(epoch) == math.ceil(max(small, large) / size)
    for name, count in (("a", small), ("b", large)):
        assert set(rows(epoch, name)) == set(range(count))
        assert len(epoch[0][name]["row"]) == min(size, count)


limits = st.one_of(st.just(1.0), st.integers(1, 12), st.floats(0.5, 1.0))  # of an epoch's steps


@settings(max_examples=60, deadline=None)
@given(
    target=counts, other=counts, size=st.integers(1, 9), mixing=mixings, done=st.integers(0, 60),
    seed=st.integers(0, 3), limit=limits,
)  # fmt: skip
def test_a_saved_position_goes_on_bit_by_bit(
    target: int, other: int, size: int, mixing: Mixing, done: int, seed: int, limit: float
) -> None:
    """At any step, the last of an epoch among them, and over the next border."""
    whole = math.ceil(target / size)
    assume(isinstance(limit, int) or int(limit * whole) > 0)

    def fresh() -> TrainLoader:
        return TrainLoader(numbered(target=target, other=other), ["target"], size, mixing, seed, limit)

    loader = fresh()
    batches = endless(loader)
    for _ in islice(batches, done):
        pass
    state = dict(loader.state_dict())
    assert state == {"epoch": done // len(loader), "step": done % len(loader)}
    resumed = fresh()
    resumed.load_state_dict(state)
    ahead = 2 * len(loader) + 3
    assert not differing(flat(list(islice(batches, ahead))), flat(list(islice(endless(resumed), ahead))))


@settings(max_examples=60, deadline=None)
@given(target=counts, other=counts, size=st.integers(1, 9), mixing=mixings, limit=limits)
def test_short_epochs_cut_the_same_passes(target: int, other: int, size: int, mixing: Mixing, limit: float) -> None:
    """What ends an epoch early leaves no row out: the next one goes on there."""
    whole = TrainLoader(numbered(target=target, other=other), ["target"], size, mixing)
    steps = min(limit, len(whole)) if isinstance(limit, int) else int(limit * len(whole))
    assume(steps > 0)
    short = TrainLoader(numbered(target=target, other=other), ["target"], size, mixing, limit=limit)
    epochs = [list(short) for _ in range(4)]
    assert [len(epoch) for epoch in epochs] == [len(short)] * 4 == [steps] * 4
    batches = list(islice(endless(whole), 4 * steps))
    for name in ("target", "other"):
        assert rows(list(chain.from_iterable(epochs)), name) == rows(batches, name)


def test_the_target_is_the_same_whatever_trains_beside_it() -> None:
    beside: list[tuple[dict[str, StreamData], list[str], Mixing]] = [
        (numbered(target=23), ["target"], "proportional"),
        (numbered(first=9, target=23), ["target"], "proportional"),
        (numbered(target=23, big=200), ["target"], "equal"),
        (numbered(first=20, target=23), ["target", "first"], "equal"),
    ]
    runs = [list(islice(endless(TrainLoader(streams, paced, 4, mixing, 5)), 14)) for streams, paced, mixing in beside]
    targets = [flat([{"target": batch["target"]} for batch in run]) for run in runs]
    assert not any(differing(targets[0], other) for other in targets[1:])
    other_seed = list(islice(endless(TrainLoader(numbered(target=23), ["target"], 4, seed=6)), 14))
    assert rows(other_seed, "target") != rows(runs[0], "target")


def test_draws_differ_between_steps_epochs_and_streams() -> None:
    loader = TrainLoader(numbered(target=12, other=12), ["target"], 4)
    draws = [batch[name]["draw"] for batch in islice(endless(loader), 6) for name in ("target", "other")]
    assert len(torch.cat(draws).unique()) == 6 * 2 * 4


def with_lengths(count: int, seed: int = 0) -> Numbered:
    drawn = torch.rand(count, generator=torch.Generator().manual_seed(seed))
    return Numbered("target", count, (1 + 49 * drawn**3).long())


@settings(max_examples=60, deadline=None)
@given(rows_=counts, size=st.integers(1, 9), done=st.integers(0, 60))
def test_rows_of_like_length_are_each_passed_once_and_a_position_goes_on(rows_: int, size: int, done: int) -> None:
    streams: dict[str, StreamData] = {"target": with_lengths(rows_)}
    loader, resumed = (TrainLoader(streams, ["target"], size) for _ in range(2))
    steps, batches = len(loader), endless(loader)
    before = list(islice(batches, done))
    resumed.load_state_dict(loader.state_dict())
    whole = before + list(islice(batches, 2 * steps))
    assert not differing(flat(whole[done:]), flat(list(islice(endless(resumed), 2 * steps))))
    for low in range(0, len(whole) - steps + 1, steps):
        assert sorted(rows(whole[low : low + steps], "target")) == list(range(rows_))
        sizes = [len(batch["target"]["row"]) for batch in whole[low : low + steps]]
        assert sizes[:-1] == [size] * (steps - 1)


def test_rows_of_like_length_stand_together_and_batches_in_no_order() -> None:
    stream, size = with_lengths(20_010), 32
    assert stream.lengths is not None
    lengths, passes = stream.lengths, []
    loader = TrainLoader({"target": stream}, ["target"], size)
    for _ in range(2):
        epoch = [batch["target"]["row"] for batch in loader]
        passes.append(torch.cat(epoch))
        wide = torch.tensor([float(lengths[row].max()) for row in epoch])
        padded = sum(len(row) * int(lengths[row].max()) for row in epoch) / int(lengths.sum())
        assert padded < 1.1  # alone by chance: more than three
        assert abs(float(torch.corrcoef(torch.stack([wide, torch.arange(len(wide)).float()]))[0, 1])) < 0.15
        assert len(epoch[-1]) == 20_010 % size
    assert not torch.equal(*passes)
    plain = TrainLoader({"target": Numbered("target", 20_010)}, ["target"], size)
    assert sum(len(row) * int(lengths[row].max()) for row in (b["target"]["row"] for b in plain)) > 3 * lengths.sum()


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_batches_of_like_length(world: int, monkeypatch: pytest.MonkeyPatch) -> None:
    streams: dict[str, StreamData] = {"target": with_lengths(500)}
    alone = rows(list(TrainLoader(streams, ["target"], 6)), "target")
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: world)
    ranks = []
    for rank in range(world):
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        ranks.append(list(TrainLoader(streams, ["target"], 6)))
    shared = [row for step in zip(*ranks, strict=True) for row in sorted(rows(list(step), "target"))]
    assert sorted(shared) == sorted(alone) == list(range(500))
    assert [sorted(shared[low : low + 6]) for low in range(0, 500, 6)] == [
        sorted(alone[low : low + 6]) for low in range(0, 500, 6)
    ]


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_each_batch(world: int, monkeypatch: pytest.MonkeyPatch) -> None:
    streams = numbered(target=24, other=13)
    alone, evaluated = list(TrainLoader(streams, ["target"], 6)), list(EvaluationLoader(streams, "val"))
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: world)
    ranks, parts = [], []
    for rank in range(world):
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        ranks.append(list(TrainLoader(streams, ["target"], 6)))
        parts.append(list(EvaluationLoader(streams, "val")))
    for step, batch in enumerate(alone):
        for name in streams:
            shared = [rank[step][name]["row"].tolist() for rank in ranks]
            assert sorted(chain.from_iterable(shared)) == sorted(batch[name]["row"].tolist())
        draws = torch.cat([rank[step]["target"]["draw"] for rank in ranks])
        assert len(draws.unique()) == len(draws)  # each process draws its own
    for name in streams:
        shared = list(chain.from_iterable(rows([b for b in part if name in b], name) for part in parts))
        assert sorted(shared) == sorted(rows([b for b in evaluated if name in b], name))


def resume_in_the_middle(rank: int, world: int, meeting: str, seen: str) -> None:
    """What each of two real processes does: stop after 2 of 4 steps, go on from the saved position."""
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    whole = list(islice(endless(TrainLoader(numbered(target=24, other=13), ["target"], 6)), 7))
    loader = TrainLoader(numbered(target=24, other=13), ["target"], 6)
    before = list(islice(loader, 2))
    resumed = TrainLoader(numbered(target=24, other=13), ["target"], 6)
    resumed.load_state_dict(loader.state_dict())
    after = list(islice(endless(resumed), 5))
    torch.save({"whole": flat(whole), "parts": flat(before + after)}, f"{seen}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_go_on_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    spawn(resume_in_the_middle, (2, str(tmp_path / "meeting"), str(tmp_path)))
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for rank in found:
        assert not differing(rank["whole"], rank["parts"])
    assert differing(found[0]["whole"], found[1]["whole"])  # each has rows of its own


def test_evaluation_visits_each_row_of_the_stage_once() -> None:
    streams = numbered(a=7, b=4)
    for stage, low in (("val", 0), ("test", 1000)):
        batches = list(EvaluationLoader(streams, stage))  # type: ignore[arg-type]
        assert all(len(batch) == 1 for batch in batches)
        for name, count in (("a", 7), ("b", 4)):
            assert rows([b for b in batches if name in b], name) == list(range(low, low + count))


@pytest.mark.parametrize("paced_by", ["baskets", "pairs"])
def test_a_resumed_protocol_draws_the_same_purchases(protocol: Protocol, paced_by: str) -> None:
    names = ["baskets", "pairs"]
    protocol.use(names, [paced_by], seed=3)
    loader = protocol.train_dataloader()
    before = len(loader) - 1  # over the border of an epoch
    batches = endless(loader)
    for _ in islice(batches, before):
        pass
    state = protocol.state_dict()
    expected = list(islice(batches, 4))
    other = prepared(open_shop())
    other.use(names, [paced_by], seed=3)
    other.load_state_dict(state)
    assert not differing(flat(expected), flat(list(islice(endless(other.train_dataloader()), 4))))
    assert not torch.equal(expected[0]["pairs"]["candidate"], expected[1]["pairs"]["candidate"])


def test_bad_sizes_are_told() -> None:
    with pytest.raises(ValueError, match="Found 0"):
        TrainLoader(numbered(target=3), ["target"], 0)
    for limit in (0, 0.3):
        with pytest.raises(ValueError, match=rf"at least 1 step. Found {limit} of 3"):
            TrainLoader(numbered(target=3), ["target"], 1, limit=limit)


def test_a_protocol_must_be_told_what_to_draw() -> None:
    with pytest.raises(RuntimeError, match="use"):
        prepared(open_shop()).train_dataloader()
