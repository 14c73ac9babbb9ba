"""Sequences worked out by hand, from very short to very long, and what is hidden of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from graftrec.data.features.history import MILLISECONDS as DAY
from graftrec.data.protocols.cross_domain import CrossDomain
from graftrec.data.splits.leave_last_out import LeaveLastOut
from graftrec.data.splits.random_split import AtRandom
from graftrec.data.streams.sampling_config import History
from graftrec.data.streams.sequences import SequenceRows
from graftrec.utils.errors import UserError
from shop import SETTINGS, Shop, differing, made_of, open_shop, prepared, train_batch

# "a" has seven events, of which five train; "b" has four, of which two train; "c" and "d" are too short to be split
ROWS = pl.DataFrame(
    [
        ("a", 1, 0.0, 1), ("a", 2, 1.0, 0), ("a", 3, 2.0, None), ("a", 1, 3.0, 0), ("a", 4, 4.0, 1), ("a", 2, 5.0, 1),
        ("a", 3, 6.5, 0),
        ("b", 4, 1.0, 0), ("b", 2, 1.0, 1), ("b", 1, 2.0, 0), ("b", 2, 4.0, None),
        ("c", 3, 3.0, 1),
        ("d", 1, 0.0, 1), ("d", 4, 7.0, 0),
    ],
    schema={"user": pl.String, "item": pl.Int64, "time": pl.Float64, "like": pl.Float64}, orient="row",
)  # fmt: skip
NAN = float("nan")


def sequences(shop: Shop, length: int, split: Any = None, name: str = "sequences", **more: Any) -> SequenceRows:
    made = prepared(shop, split or LeaveLastOut(), CrossDomain, **{"short": length, **more})
    stream = made.streams[name]
    assert isinstance(stream, SequenceRows)
    return stream


def same(values: torch.Tensor, expected: list[list[float]]) -> bool:
    return torch.equal(values.double().nan_to_num(-7.0), torch.tensor(expected).double().nan_to_num(-7.0))


def test_windows_end_at_the_newest_event_and_each_target_is_asked_once() -> None:
    stream = sequences(Shop(ROWS, labels={"like": "binary"}), 3)
    assert stream.splits == {"train": 4, "val": 2, "test": 2}
    assert stream.lengths.tolist() == [3, 1, 1, 1]
    batch = train_batch(stream)
    assert batch["user"].tolist() == [1, 1, 2, 4]
    assert same(batch["sequence"], [[2, 3, 1], [0, 0, 1], [0, 0, 2], [0, 0, 1]])
    assert same(batch["next"], [[2, 0, 3], [-1, -1, 1], [-1, -1, 3], [-1, -1, 3]])
    assert same(batch["candidate"], [[3, 1, 4], [0, 0, 2], [0, 0, 4], [0, 0, 4]])
    assert same(batch["like"], [[NAN, 0, 1], [NAN, NAN, 0], [NAN, NAN, 0], [NAN, NAN, 0]])
    assert same(batch["sequence_time"] / DAY, [[1, 2, 3], [0, 0, 0], [0, 0, 1], [0, 0, 0]])
    assert same(batch["next_time"] / DAY, [[2, 3, 4], [0, 0, 1], [0, 0, 1], [0, 0, 7]])
    assert {name: values.dtype for name, values in batch.items()} == {
        **dict.fromkeys(("user", "sequence", "next", "candidate", "catalogue"), torch.int64),
        **{"sequence_time": torch.int64, "next_time": torch.int64, "like": torch.float32},
    }
    assert sorted(stream.labels("next").tolist()) == [0, 1, 2, 3, 3, 3]
    assert stream.labels("like").isnan().sum() == 1


def test_a_batch_is_as_wide_as_its_longest_row() -> None:
    stream = sequences(Shop(ROWS), 3)
    draw = torch.Generator()
    assert stream.batch(torch.tensor([1, 3]), draw)["sequence"].tolist() == [[1], [1]]
    assert stream.batch(torch.tensor([3, 0]), draw)["sequence"].tolist() == [[0, 0, 1], [2, 3, 1]]
    empty = stream.batch(torch.zeros(0, dtype=torch.int64), draw)  # a process that got no row of a small batch
    assert empty["sequence"].shape == (0, 1)
    assert "candidate" not in empty  # nothing asks about it


def test_evaluation_reads_what_came_before_and_asks_at_the_last_position() -> None:
    stream = sequences(Shop(ROWS, labels={"like": "binary"}), 3)
    judged, ranked = list(stream.evaluation("test"))
    for batch in (judged, ranked):
        assert same(batch["sequence"], [[1, 4, 2], [2, 4, 1]])
        assert same(batch["sequence_time"] / DAY, [[3, 4, 5], [1, 1, 2]])
        assert same(batch["next_time"] / DAY, [[4, 5, 6.5], [1, 2, 4]])
        assert "next" not in batch
    assert same(judged["candidate"], [[3], [2]])
    assert same(judged["like"], [[0], [NAN]])
    assert ranked["query"].tolist() == ranked["user"].tolist() == [1, 2]
    assert ranked["catalogue"].tolist() == [1, 2, 3, 4]
    assert same(ranked["relevant"], [[0, 0, 1, 0], [0, 1, 0, 0]])
    assert same(ranked["fresh"], [[0, 0, 0, 0], [0, 0, 1, 0]])
    assert "cross" not in ranked
    assert not {"candidate", "like"} & set(ranked)


def test_what_was_seen_is_not_ranked_where_it_cannot_be_an_answer_or_by_choice(tmp_path: Path) -> None:
    """Repeats in the data, the choice, given lists: what is ranked of the four items for two users."""
    unseen = [[0, 0, 0, 0], [0, 0, 1, 0]]

    def answers(lists: str = "", seen: bool | None = None, unique: bool = False) -> dict[str, torch.Tensor]:
        stream = sequences(Shop(ROWS, more={"unique": unique}), 3, lists=lists, seen=seen)
        return stream.answers(torch.tensor([1, 2]), "test")

    assert "listed" not in answers()
    assert "listed" not in answers(unique=True, seen=True)
    for found in (answers(seen=False), answers(unique=True)):
        assert same(found["listed"], unseen)
        assert "fresh" not in found
    pl.DataFrame({"user": ["a", "b", "b"], "item": [1, 1, 3]}).write_csv(tmp_path / "lists.csv")
    given = str(tmp_path / "lists.csv")
    assert not same(answers(given, unique=True)["listed"], unseen)
    assert torch.equal(answers(given, unique=True)["listed"], answers(given)["listed"])
    assert same(answers(given, seen=False)["listed"], unseen)


def test_what_a_row_may_know_and_when_it_is_asked_is_as_in_baskets() -> None:
    """Everything that was, if parts follow each other; else only what is trained on."""
    shop = open_shop()
    for split in (None, LeaveLastOut(), AtRandom(0.6, 0.2)):
        made = prepared(shop, split)
        baskets, stream = (made.streams[name] for name in ("baskets", "sequences"))
        assert isinstance(stream, SequenceRows)
        for stage in ("val", "test"):
            one = next(batch for batch in baskets.evaluation(stage) if "relevant" in batch)  # type: ignore[arg-type]
            (other,) = stream.evaluation(stage)  # type: ignore[arg-type]
            assert torch.equal(other["sequence"], one["recent"])
            for name in ("user", "query", "catalogue", "relevant", "fresh"):
                assert torch.equal(other[name], one[name])
            assert ("cold_user" in one) == ("cold_user" in other)
            age = torch.log1p(
                stream.lines.times(stage)[one["user"], None] - stream.lines.origin - other["sequence_time"] / DAY
            ).float()
            there = one["recent"] > 0
            torch.testing.assert_close(age[there], one["recent_age"][there], atol=1e-4, rtol=0)


def test_the_latest_state_holds_everything_and_a_stranger_has_none() -> None:
    stream = sequences(Shop(ROWS), 4)
    state = stream.state(torch.tensor([1, 0, 3]), "latest")
    assert same(state["sequence"], [[1, 4, 2, 3], [0, 0, 0, 0], [0, 0, 0, 3]])
    assert state["query"].tolist() == [1, 0, 3]
    assert int(state["next_time"][1, -1]) == pytest.approx(7 * DAY, abs=1000)
    assert same(stream.fresh(torch.tensor([3]), "latest"), [[1, 1, 0, 1]])


def test_events_a_second_apart_are_so_ten_years_after_the_first_one() -> None:
    second, late = 1 / 86_400, 3_652.0
    moments = [0.0, late, late + second, late + 3 * second, late + 6 * second, late + 10 * second]
    rows = pl.DataFrame({"user": "a", "item": [1, 2, 3, 1, 2, 3], "time": moments})
    for mask in (0.0, 0.4):
        stream = sequences(Shop(rows), 3, mask=mask)
        start = round(late * DAY)
        batch = train_batch(stream)  # four events train
        read = [start, start + 1000, start + 3000] if mask else [0, start, start + 1000]
        assert batch["sequence_time"][0].tolist() == read
        (ranked,) = stream.evaluation("test")
        state = stream.state(torch.tensor([1]), "test")  # all that a recommendation reads
        read = [start + 3000, start + 6000, start + 10_000] if mask else [start + 1000, start + 3000, start + 6000]
        for found in (ranked, state):
            assert found["sequence_time"].tolist() == [read]
            assert found["next_time"].tolist() == [read if mask else [*read[1:], start + 10_000]]


# What is hidden


def test_hidden_events_are_asked_about_themselves() -> None:
    stream = sequences(Shop(ROWS, labels={"like": "binary"}), 3, mask=0.4)
    assert stream.splits["train"] == 4
    assert stream.lengths.tolist() == [3, 2, 2, 2]
    whole = torch.tensor([[3, 1, 4], [0, 1, 2], [0, 2, 4], [0, 1, 4]])
    likes = torch.tensor([[NAN, 0, 1], [NAN, 1, 0], [NAN, 1, 0], [NAN, 1, 0]])
    seen = set()
    for seed in range(40):
        batch = train_batch(stream, seed)
        hidden = batch["sequence_masked"]
        assert torch.equal(batch["sequence"], whole)  # the network hides them
        assert torch.equal(batch["next_time"], batch["sequence_time"])
        assert torch.equal(batch["next"], torch.where(hidden, whole - 1, -1))
        assert torch.equal(batch["candidate"], torch.where(hidden, whole, 0))
        assert same(batch["like"], torch.where(hidden, likes, NAN).tolist())
        assert hidden.any(1).all()
        assert not hidden[whole == 0].any()
        seen.add(tuple(hidden[0].tolist()))
    assert len(seen) == 7  # everything but nothing
    assert len(stream.labels("next")) == 9
    again = [train_batch(stream, seed) for seed in (5, 5)]
    assert not differing(*again)


def test_each_event_is_hidden_with_the_chance_and_sometimes_only_the_last() -> None:
    count, length, mask = 4000, 20, 0.3
    rows = pl.DataFrame({"user": [f"{n // length:04d}" for n in range(count * length)],
                         "item": [n % 7 for n in range(count * length)],
                         "time": [float(n % length) for n in range(count * length)]})  # fmt: skip
    stream = sequences(Shop(rows), length, mask=mask)
    hidden = train_batch(stream)["sequence_masked"]
    assert hidden.shape == (count, length - 2)  # the other two validate and test
    alone = hidden[:, -1] & (hidden.sum(1) == 1)
    assert float(alone.float().mean()) == pytest.approx(0.1, abs=0.02)
    assert float(hidden[~alone, :-1].float().mean()) == pytest.approx(mask, abs=0.01)


def test_nothing_is_said_of_how_a_hidden_event_was_chosen() -> None:
    rows = ROWS.with_columns(event=pl.int_range(pl.len()).mod(3).add(1).cast(pl.UInt8))
    shop = Shop(rows, more={"behaviours": ("view", "buy")})
    causal, cloze = (train_batch(sequences(shop, 3, mask=mask)) for mask in (0.0, 0.5))
    assert same(causal["sequence_behaviour"], [[2, 3, 1], [0, 0, 1], [0, 0, 3], [0, 0, 1]])
    hidden = cloze["sequence_masked"]
    assert not cloze["sequence_behaviour"][hidden].any()
    assert torch.equal(cloze["sequence_behaviour"] > 0, ~hidden & (cloze["sequence"] > 0))


def test_each_behaviour_is_asked_about_where_it_follows_and_ranked_by_what_was() -> None:
    rows = ROWS.with_columns(event=pl.int_range(pl.len()).mod(3).add(1).cast(pl.UInt8))
    shop = Shop(rows, more={"behaviours": ("view", "buy")})
    stream = sequences(shop, 3)
    assert [label.name for label in stream.schema.labels] == ["next", "next_view", "next_buy"]
    batch = train_batch(stream)
    assert same(batch["next"], [[2, 0, 3], [-1, -1, 1], [-1, -1, 3], [-1, -1, 3]])
    assert same(batch["next_view"], [[2, 0, -1], [-1, -1, -1], [-1, -1, -1], [-1, -1, -1]])
    assert same(batch["next_buy"], [[2, -1, 3], [-1, -1, 1], [-1, -1, 3], [-1, -1, 3]])
    assert sorted(stream.labels("next_view").tolist()) == [-1, -1, -1, -1, 0, 2]
    (ranked,) = stream.evaluation("test")
    assert same(ranked["relevant"], [[0, 0, 1, 0], [0, 1, 0, 0]])
    assert same(ranked["next_view_relevant"], [[0, 0, 1, 0], [0, 0, 0, 0]])
    assert same(ranked["next_buy_relevant"], [[0, 0, 0, 0], [0, 1, 0, 0]])
    cloze = train_batch(sequences(shop, 3, mask=0.5))
    assert torch.equal(cloze["next"] >= 0, (cloze["next_view"] >= 0) | (cloze["next_buy"] >= 0))
    with pytest.raises(UserError, match="label 'next_buy': sequences have a column of that name"):
        sequences(Shop(rows.rename({"like": "next_buy"}), labels={"next_buy": "binary"}, more=shop.more), 3)


def test_evaluation_appends_the_event_to_be_guessed() -> None:
    stream = sequences(Shop(ROWS, labels={"like": "binary"}), 3, mask=0.2)
    for batch in stream.evaluation("test"):
        assert same(batch["sequence"], [[4, 2, 0], [4, 1, 0]])
        assert same(batch["sequence_masked"], [[0, 0, 1], [0, 0, 1]])
        assert same(batch["sequence_time"] / DAY, [[4, 5, 6.5], [1, 2, 4]])
    (alone,) = sequences(Shop(ROWS), 1, mask=0.2).evaluation("test")
    assert same(alone["sequence"], [[0], [0]])
    assert same(alone["sequence_masked"], [[1], [1]])


# Very short and very long


@pytest.mark.parametrize("mask", [0.0, 0.2])
@pytest.mark.parametrize("length", [1, 50, 5000])
def test_users_of_any_length(length: int, mask: float) -> None:
    long, many = 5002, 5000  # two of them are left out
    rows = pl.DataFrame({"user": ["long"] * long + ["once"], "item": [n % 11 for n in range(long)] + [5],
                         "time": [n / 4 for n in range(long)] + [9.0]})  # fmt: skip
    stream = sequences(Shop(rows), length, mask=mask)
    asked = many if mask else many - 1
    assert stream.rows == -(-asked // length)
    batch = stream.batch(torch.arange(stream.rows), torch.Generator().manual_seed(0))
    assert batch["sequence"].shape == (stream.rows, min(length, asked))
    assert int((batch["sequence"] > 0).sum()) == int(stream.lengths.sum()) == asked
    if not mask:
        times = batch["next_time"][batch["next"] >= 0]
        assert torch.equal(times.sort().values, torch.arange(1, many) * DAY // 4)
    (ranked,) = stream.evaluation("test")
    assert ranked["sequence"].shape == (1, length)
    assert int((ranked["sequence"] > 0).sum()) == min(length - bool(mask), many + 1)


def test_nobody_with_two_training_events_is_no_row() -> None:
    rows = pl.DataFrame({"user": ["a", "b", "c"], "item": [1, 1, 1], "time": [0.0, 1.0, 2.0]})
    stream = sequences(Shop(rows), 5)
    assert (stream.rows, stream.sample) == (0, {})
    assert not list(stream.evaluation("test"))
    assert not len(stream.labels("next"))


# Refusals


def test_wrong_settings_are_told() -> None:
    with pytest.raises(ValueError, match=r"mask should be in \[0, 1\). Found 1.0"):
        History(mask=1.0)
    made = made_of(CrossDomain, Shop(ROWS), LeaveLastOut(), **SETTINGS | {"short": 0})
    with pytest.raises(UserError, match=r"history\.short is the length of sequences"):
        made.prepare(["sequences"])
    made.prepare([])  # everything that can be made
    assert list(made.streams) == ["baskets", "pairs"]
    with pytest.raises(UserError, match="label 'next': sequences have a column of that name"):
        prepared(Shop(ROWS.rename({"like": "next"}), labels={"next": "binary"}), LeaveLastOut(), CrossDomain)


def test_without_a_time_there_are_no_sequences() -> None:
    made = made_of(CrossDomain, Shop(ROWS.drop("time")), AtRandom(), **SETTINGS)
    made.prepare([])
    assert list(made.streams) == ["baskets", "pairs"]


def test_nothing_is_asked_of_whoever_has_nothing_else_to_be_ranked() -> None:
    """Nor of one behaviour, where any score would find the answer."""
    alone = ROWS.with_columns(item=pl.lit(1), event=pl.lit(3, pl.UInt8))
    for rows, found in ((alone, False), (ROWS.with_columns(event=pl.lit(3, pl.UInt8)), True)):
        stream = sequences(Shop(rows, more={"behaviours": ("view", "buy")}), 3)
        (batch,) = (each for each in stream.evaluation("test") if "relevant" in each)
        for name in ("relevant", "next_view_relevant", "next_buy_relevant"):
            assert batch[name].any(1).tolist() == [found] * len(batch["query"]), name
