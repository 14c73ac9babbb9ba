"""Times are exact wherever they are read: events a second apart are so years after the first of all."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from torch import Tensor

from graftrec.data.features.history import Histories, milliseconds
from graftrec.data.features.past_counts import PastCounts
from graftrec.runs.recommender import Recommender
from graftrec.training.builder import assemble, protocol_of, streams_of
from graftrec.utils.seeds import generator

Compose = Callable[[list[str]], dict[str, Any]]
ROLES = ("source", "target", "shared")
SECOND = 1 / 86_400  # of a day
LATE = 3_652.0
FIRST = datetime(2014, 3, 5, 12, 0, 1)
STEPS = (1, 2, 4, 8, 16)  # seconds between the events of a user, ten years after the first one


@pytest.fixture
def lines(tmp_path: Path) -> list[str]:
    """Six users with an event long ago and others seconds apart."""
    rows = []
    for user in range(6):
        moment = FIRST + timedelta(seconds=user)
        rows.append((user, user, moment))
        moment += timedelta(days=LATE)
        for number, step in enumerate((0, *STEPS)):
            moment += timedelta(seconds=step)
            rows.append((user, (user + number) % 7, moment))
    path = tmp_path / "lines.parquet"
    pl.DataFrame(rows, schema=["user", "item", "time"], orient="row").write_parquet(path)
    named = [f"++dataset.{role}={role}" for role in ("user", "item", "time")]
    roles = ["task@source=[]", "task@target=[next_item]", "task@shared=[]", "++candidates.min_users=0"]
    return ["dataset=files", f"dataset.path={path}", *named, *roles, "split=leave_last_out", "++encoder.width=8"]


def test_a_trunk_and_a_recommendation_see_each_second(compose: Compose, lines: list[str]) -> None:
    tree = compose([*lines, "trunk=hstu", "++history.short=10"])
    protocol = protocol_of(tree)
    protocol.prepare(streams_of(tree))
    module = assemble(tree, protocol, ROLES, 0).eval()
    stream = protocol.streams[module.task("next_item").stream]
    seen: list[Tensor] = []
    module.trunk.register_forward_pre_hook(lambda trunk, given: seen.append(given[0].times))
    name = stream.schema.name
    module.read(name, stream.batch(torch.arange(stream.splits["train"]), generator(0, "x")), ["next_item"])
    module.validation_step({name: next(iter(stream.evaluation("test")))}, 0)
    Recommender(module, protocol, "next_item").recommend([0, 3], 2)
    Recommender(module, protocol, "next_item").recommend([0, 3], 2, at="latest")
    for times, steps in zip(seen, (3, 5, 5, 6), strict=True):
        newest = times[:, -steps:].diff() / 1000
        assert newest.tolist() == [list(STEPS[: steps - 1])] * len(times)
        assert times[:, -steps].sub(round(LATE * 86_400_000)).abs().max() < 6_000


def test_ages_and_counts_tell_seconds_apart() -> None:
    user, moments = torch.ones(3, dtype=torch.int64), torch.tensor([0.0, LATE, LATE + SECOND], dtype=torch.float64)
    asked, now = user[:1], moments[2:] + SECOND
    history = Histories(user, torch.arange(1, 4), moments)
    ages = history.window(asked, now, 2)[1][0]
    expected = torch.log1p(torch.tensor([2 * SECOND, SECOND], dtype=torch.float64)).float()
    torch.testing.assert_close(ages, expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(history.since(asked, now)[0], torch.tensor(SECOND), rtol=1e-5, atol=0)
    count = PastCounts(user, moments, [SECOND])(asked, now)[0, 1]
    torch.testing.assert_close(count, torch.tensor(0.75).log1p(), rtol=1e-5, atol=0)


def test_milliseconds_are_whole_and_those_of_the_days() -> None:
    whole = torch.tensor([0, 1, 999, 1_000, 86_399_999, 10**12 + 1, 2 * 10**12 + 3])
    assert torch.equal(milliseconds(whole.double() / 86_400_000), whole)
    assert torch.equal(milliseconds(whole.double() / 86_400_000 + 20_000) - 20_000 * 86_400_000, whole)
