"""Recommendations: blocks of users and items give what one full sort gives, ties and all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from graftrec.cli import predict
from graftrec.runs import recommender as place
from graftrec.runs.recommender import Recommender
from graftrec.training.builder import assemble, protocol_of, streams_of
from graftrec.training.lightning_module import GraftModule
from graftrec.utils.errors import DataError, UserError

ROLES = ("source", "target", "shared")
Compose = Callable[[list[str]], dict[str, Any]]
BIAS = "++target.next_item.item_bias=true"
TASKS = {
    "recommend": ["trunk=shared_bottom"],
    "next_item": ["trunk=sasrec"],
    "next_item and a bias of each item": ["trunk=sasrec", BIAS],
}


@pytest.fixture(params=list(TASKS))
def made(request: pytest.FixtureRequest, compose: Compose, shop_settings: list[str]) -> Recommender:
    name = request.param.split()[0]
    roles = [f"task@target=[{name}]", "task@source=[]", "task@shared=[]"]
    tree = compose([*shop_settings, *roles, *TASKS[request.param], "++encoder.width=8"])
    protocol = protocol_of(tree)
    protocol.prepare(streams_of(tree))
    module = assemble(tree, protocol, ROLES, 0)
    if BIAS in TASKS[request.param]:
        torch.nn.init.normal_(module.get_parameter(f"tasks.{name}.item_bias"))
    return Recommender(module, protocol, name)


@torch.no_grad()
def naive(made: Recommender, users: list[int], k: int, seen: bool) -> list[tuple[int, int, float, int]]:
    """One full score matrix of the module and a stable sort by hand."""
    batch = made.stream.state(torch.tensor(users), "test")  # of the shop, raw ids are numbers
    module, stream = made.module, made.stream
    logits = module(stream.schema.name, batch, [made.task])[made.task]
    scores = module.task(made.task).predict(logits)
    found = []
    for user, row, fresh in zip(users, scores, stream.fresh(torch.tensor(users), "test"), strict=True):
        kept = [at for at in range(len(row)) if seen or fresh[at]]
        ordered = sorted(kept, key=lambda at: (-float(row[at]), at))[:k]
        items = made._items.decode(stream.lines.items[ordered].numpy())
        found += [(user, items[rank], float(row[at]), rank + 1) for rank, at in enumerate(ordered)]
    return found


def coarse(module: GraftModule) -> None:
    """Half of all items become the same one: their scores tie."""
    with torch.no_grad():
        for name, values in module.encoder.tables.state_dict().items():
            if not name.startswith("user"):
                values.zero_()


@pytest.mark.parametrize("pairs", [1, 30, 10**6])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seen", [False, True])
def test_blocks_are_one_full_sort(
    made: Recommender, seen: bool, ties: bool, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "PAIRS", pairs)
    monkeypatch.setattr(place, "USERS", 5)
    if ties:
        coarse(made.module)
    users = made._users.decode(torch.arange(1, 12).numpy()).to_list()
    for k in (1, 7, 100):
        frame = made.recommend(users, k, seen)
        expected = naive(made, list(range(1, 12)), k, seen)
        names = dict(zip(range(1, 12), users, strict=True))
        assert frame["user"].to_list() == [names[user] for user, *_ in expected]
        assert frame["rank"].to_list() == [rank for *_, rank in expected]
        if not ties or made.task == "next_item":
            assert frame["item"].to_list() == [item for _, item, *_ in expected]
        assert frame["score"].to_list() == pytest.approx([score for *_, score, _ in expected], rel=1e-4)


def test_scores_are_the_modules_whatever_the_blocks(made: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    users = made.users()
    whole = made.scores(users)
    monkeypatch.setattr(place, "PAIRS", 17)
    monkeypatch.setattr(place, "USERS", 4)
    torch.testing.assert_close(made.scores(users), whole)
    assert whole.shape == (len(users), len(made.stream.lines.items))


def test_nobody_asks(made: Recommender) -> None:
    frame = made.recommend([], k=4)
    assert len(frame) == 0
    assert frame.columns == ["user", "item", "score", "rank", "known"]
    assert made.scores([]).shape == (0, len(made.stream.lines.items))


def test_what_cannot_be(made: Recommender, compose: Compose, shop_settings: list[str]) -> None:
    with pytest.raises(ValueError, match="k should be at least 1"):
        made.recommend([1], k=0)
    roles = ["task@source=[interest]", "task@target=[recommend]", "task@shared=[]"]
    tree = compose([*shop_settings, "trunk=shared_bottom", *roles])
    protocol = protocol_of(tree)
    protocol.prepare(streams_of(tree))
    with pytest.raises(UserError, match="ranks no catalogue"):
        Recommender(assemble(tree, protocol, ROLES, 0), protocol, "interest")


def test_a_stranger_gets_what_is_known_of_everybody(made: Recommender) -> None:
    frame = made.recommend(["nobody", 3], k=3)
    assert frame["rank"].to_list() == [1, 2, 3, 1, 2, 3]
    assert isinstance(frame, pl.DataFrame)


def test_ids_are_read_as_training_read_them(made: Recommender) -> None:
    """An id beside others of another type is not lost, another way to write a number is another id, and all is told."""
    known = made._users.keys.to_list()[:2]
    asked = [known[0], f"0{known[0]}", "abc", 10**12, float(known[1])]
    frame = made.recommend(asked, 2)
    assert frame["user"].unique(maintain_order=True).to_list() == [
        str(known[0]),
        f"0{known[0]}",
        "abc",
        str(10**12),
        str(known[1]),
    ]
    assert frame["known"].to_list() == [True] * 2 + [False] * 6 + [True] * 2
    assert made.strangers(asked) == [f"0{known[0]}", "abc", str(10**12)]
    assert made.recommend(known, 1)["user"].to_list() == known
    assert made.strangers(known) == []
    with pytest.raises(ValueError, match="should be a list of ids"):
        made.recommend("007")


@pytest.mark.parametrize(
    ("name", "text", "ids"),
    [
        ("a.txt", '1\n\n007\n a,b \n"q"\n', ["1", "007", "a,b", '"q"']),
        ("a.txt", "\ufeffuser\r\n1\r\n", ["1"]),
        ("a.csv", 'user;n\n007;1\n;2\n"x;y";3\n', ["007", "x;y"]),
        ("a.tsv", "user\n1\n", ["1"]),
    ],
)
def test_files_of_users(name: str, text: str, ids: list[str], tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert predict._users(str(tmp_path / name)) == ids


def test_tables_of_users_are_read_by_the_reader_of_training(tmp_path: Path) -> None:
    file = tmp_path / "ids.parquet"
    pl.DataFrame({"user": [3, 1, None]}).write_parquet(file)
    assert predict._users(str(file)) == [3, 1]
    pl.DataFrame({"users": [3]}).write_parquet(file)
    with pytest.raises(UserError, match="has no column 'user'"):
        predict._users(str(file))
    with pytest.raises(DataError, match="DATA-011"):
        predict._users(str(tmp_path / "none.txt"))
    (tmp_path / "empty.txt").write_text("user\n\n")
    with pytest.raises(DataError, match="there is no id"):
        predict._users(str(tmp_path / "empty.txt"))
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(DataError, match="UTF-8"):
        predict._users(str(tmp_path / "latin.txt"))
