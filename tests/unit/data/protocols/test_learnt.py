"""To a model that some streams train, ids of the others are unknown: a vector that nothing moves is noise."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from graftrec.data.protocols.base import Protocol
from graftrec.training.builder import assemble, learnt_in, protocol_of, streams_of
from graftrec.transfer.base import Means, Phase
from graftrec.transfer.emcdr import EMCDR
from graftrec.transfer.pretrain_finetune import PretrainFinetune

Compose = Callable[[list[str]], dict[str, Any]]
SOURCE, TARGET, LATER = (1, 2, 3, 4), (3, 4, 5, 6), 2  # users; one of the source's is new to the target's test
STRANGER = 0


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two domains that share users and a brand; ``rows`` have a channel that only the source's training has."""
    folder = tmp_path_factory.mktemp("market")
    lines = []
    for domain, users, first in (("grocery", SOURCE, 10), ("produce", TARGET, 20)):
        for day in range(40):
            buyers = (*users, LATER) if domain == "produce" and day >= 36 else users
            for user in buyers:
                moment = datetime(2026, 1, 1) + timedelta(days=day, minutes=user)
                channel = "shop" if domain == "produce" or user < 3 else "web"
                lines.append((user, first + (user + day) % 5, moment, domain, channel, day % 2))
    names = ["user", "item", "time", "domain", "channel", "click"]
    pl.DataFrame(lines, schema=names, orient="row").write_parquet(folder / "lines.parquet")
    items = [*range(10, 15), *range(20, 25)]
    brands = ["both" if item % 5 else "source" if item < 20 else "target" for item in items]
    pl.DataFrame({"item": items, "brand": brands}).write_parquet(folder / "products.parquet")
    return folder


@pytest.fixture(scope="module")
def tree(market: Path, compose: Compose) -> dict[str, Any]:
    return compose(
        [
            "protocol=cross_domain", "dataset=files", f"dataset.path={market}/lines.parquet",
            *(f"++dataset.{role}={role}" for role in ("user", "item", "time", "domain")),
            f"++dataset.items={market}/products.parquet", "++dataset.features={channel: id}",
            "++dataset.labels={click: binary}", "++candidates.min_users=1", "task@source=[grocery_recommend,click]",
            "++source.click.stream=grocery/rows",
            "++source.click.reads=encoder", "task@target=[produce_recommend]", "task@shared=[]",
            "trunk=shared_bottom", "++encoder.width=4",
        ]
    )  # fmt: skip


@pytest.fixture(scope="module")
def protocol(tree: dict[str, Any]) -> Protocol:
    made = protocol_of(tree)
    made.prepare(["grocery/baskets", "produce/baskets", "grocery/rows", "produce/rows"])
    return made


@torch.no_grad()
def scores(tree: dict[str, Any], protocol: Protocol, phase: Phase, users: list[int]) -> torch.Tensor:
    """Of users of the target whose state is the same: nobody has bought anything yet."""
    module = assemble(tree, protocol, phase.roles, 0, learnt_in(tree, phase)).eval()
    state = protocol.streams["produce/baskets"].state(torch.tensor([STRANGER]), "test")  # type: ignore[attr-defined]
    batch = {name: values if name == "catalogue" else values.repeat(len(users), *[1] * (values.ndim - 1))
             for name, values in state.items()}  # fmt: skip
    batch["user"] = torch.tensor(users)
    return module("produce/baskets", batch, ["produce_recommend"])["produce_recommend"]


def test_to_a_twin_a_user_of_the_source_alone_is_unknown(tree: dict[str, Any], protocol: Protocol) -> None:
    users = [int(protocol.users_of("produce/baskets").encode(pl.Series([user]))[0]) for user in range(1, 7)]
    assert users == [1, 2, 3, 4, 5, 6]
    alone = {**tree, "source": {}, "shared": {}}
    twin = scores(alone, protocol, Phase("twin", ("target",), 1), [STRANGER, *users])
    assert torch.equal(twin[1:3], twin[:1].expand(2, -1))  # those of the source, one of whom the test asks about
    assert (twin[3:] != twin[0]).any(1).all()
    joint = scores(tree, protocol, Phase("joint", ("source", "target"), 1), [STRANGER, *users])
    assert (joint[1:] != joint[0]).any(1).all()


def known(phase: Phase, tree: dict[str, Any], protocol: Protocol) -> list[int]:
    """Users with a row of their own."""
    schema = protocol.schema(["produce/baskets"], learnt_in(tree, phase))
    rows = schema.tables["user"].rows
    assert rows is not None
    return rows.nonzero().flatten().tolist()


def test_who_is_known_follows_the_weights(tree: dict[str, Any], protocol: Protocol) -> None:
    everybody, own = [1, 2, 3, 4, 5, 6], [3, 4, 5, 6]
    target = Phase("finetune", ("target",), 1, start_from="pretrain")
    for phase, expected in (
        (Phase("target", ("target",), 1), own),
        (Phase("source", ("source",), 1), [1, 2, 3, 4]),
        (target, everybody),
        (Phase("finetune", ("target",), 1, start_from="pretrain", carry=("trunk.",)), own),
        (Phase("finetune", ("target",), 1, start_from="pretrain", carry=("encoder.tables.user.",)), everybody),
        (Phase("finetune", ("target",), 1, start_from="pretrain", carry=("encoder.tables.item.",)), own),
        (PretrainFinetune().phases()[-1], everybody),
        (EMCDR().phases()[-1], everybody),
        (Phase("mapped", ("target",), 1, means=(Means(),)), own),
    ):
        assert known(phase, tree, protocol) == expected, phase
    assert streams_of(tree, target.learnt("user")) == ["grocery/baskets", "grocery/rows", "produce/baskets"]


def test_items_brands_and_columns_follow_too(tree: dict[str, Any], protocol: Protocol) -> None:
    names = ["grocery/baskets", "produce/baskets", "grocery/rows", "produce/rows"]
    whole = protocol.schema(names).tables
    same = protocol.schema(names, lambda table: names).tables
    assert all(same[name].content.keys() == table.content.keys() for name, table in whole.items())
    assert same["item"].rows is not None
    assert whole["item"].rows is not None
    assert torch.equal(same["item"].rows, whole["item"].rows)
    own = protocol.schema(names, lambda table: ["produce/rows"]).tables
    items = protocol.items_of("produce/baskets").keys.to_list()
    assert own["item"].rows is not None
    assert [items[at - 1] for at in own["item"].rows.nonzero().flatten().tolist()] == [20, 21, 22, 23, 24]
    assert own["item"].size == whole["item"].size  # the weights keep their shapes
    brand = {name: number for number, name in enumerate(("both", "source", "target"), 1)}
    told = dict(zip(items, own["item"].content["item_brand"][1:].tolist(), strict=True))
    assert told == {item: 0 if item == 10 else brand["target"] if item == 20 else brand["both"] for item in items}
    assert own["item_brand"].rows is not None
    assert own["item_brand"].rows.tolist() == [0, brand["both"], 0, brand["target"]]
    assert own["channel"].rows is not None
    assert own["channel"].rows.tolist() == [0, 1, 0]  # web was not there
