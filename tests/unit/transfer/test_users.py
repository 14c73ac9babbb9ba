"""Users of the source alone get vectors by a map or a bridge; nobody else's change."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from graftrec.data.schema import Feature, Schema, Stream, Table
from graftrec.models.encoder import Encoder
from graftrec.transfer.base import ROLES, Past, Transfer
from graftrec.transfer.emcdr import EMCDR, Mapping, linear
from graftrec.transfer.ptupcdr import PTUPCDR, Bridged, Bridges, Chosen
from graftrec.transfer.rows import SeenRows

KEY, USERS, D = "encoder.tables.user.weight", 7, 3
ROWS = torch.tensor([0, 2, 1, 3, 4, 5, 6])  # of the entities: the first two users have each other's


def model(seed: int, table: str = "user") -> nn.ModuleDict:
    history = Feature("recent", "history", "item")
    stream = Stream("s", (Feature("user", "id", table), history), ())
    tables = {"item": Table("item", 4), table: Table(table, USERS, rows=ROWS)}
    torch.manual_seed(seed)
    return nn.ModuleDict({"encoder": Encoder(Schema(tables, {"s": stream}), width=D)})


def past(source: nn.ModuleDict) -> Past:
    def trained(table: str, roles: tuple[str, ...]) -> Tensor:
        assert table == "user"
        found = torch.zeros(USERS, dtype=torch.bool)
        found[list(HERE if roles == ("target",) else THERE)] = True
        return found

    return Past({"source": source.state_dict()}, trained=trained)


def seen(*rows: int) -> SeenRows:
    found, mask = SeenRows(), torch.zeros(USERS, dtype=torch.bool)
    mask[list(rows)] = True
    found.rows = {KEY: mask}
    return found


BOTH, ALONE, THERE, HERE = [1, 2, 3, 4], [5], (0, 1, 2, 3, 4, 5), (0, 1, 2, 3, 4, 6)


def tables(of: nn.ModuleDict) -> Tensor:
    found: Tensor = of.state_dict()[KEY]
    return found.clone()


@pytest.mark.parametrize("hidden", [0, 2])
def test_a_map_gives_users_of_the_source_their_rows(hidden: int) -> None:
    source, target = model(1), model(2)
    before, theirs = tables(target), tables(source)
    mapping = Mapping("source", seen(*THERE), seen(*HERE), hidden, steps=50)
    mapping.start(target, past(source))
    said = mapping.finish(target)
    after = tables(target)
    assert (after != before).any(1).nonzero().flatten().tolist() == ALONE  # a stranger, row 0, is no user
    assert said == "1 users of the source alone mapped, by what 4 users of both domains show"
    if not hidden:
        torch.testing.assert_close(after[ALONE], theirs[ALONE] @ linear(theirs[BOTH], before[BOTH]))


def test_where_training_stopped_before_a_user_of_both_nothing_is_mapped() -> None:
    source, target = model(1), model(2)
    before = tables(target)
    mapping = Mapping("source", seen(5), seen(6), 2, steps=5)
    mapping.start(target, past(source))
    assert mapping.finish(target).startswith("1 users of the source alone mapped, by what 0")
    assert torch.equal(tables(target), before)


def test_users_need_one_table_that_the_source_has() -> None:
    mapping = Mapping("source", seen(), seen(), 0, 1)
    with pytest.raises(ValueError, match=r"share the table of users 'a/user'\. Found none"):
        mapping.start(model(2, "a/user"), Past({"source": model(1).state_dict()}))


def test_a_bridge_serves_while_it_learns_and_then_leaves_rows() -> None:
    source, target = model(1), model(2)
    source["encoder"].eval()
    chosen = Chosen(2)
    chosen.start(source, Past())
    batch = {"user": torch.tensor([2, 5]), "recent": torch.tensor([[0, 1, 2], [0, 0, 3]])}
    chosen.loss("t", nn.Identity(), torch.zeros(()), None, "s", batch)  # type: ignore[arg-type]
    chosen.finish(source)
    assert chosen.items[1].tolist() == [1, 2]  # row 1 is the second user's
    assert chosen.items[5].tolist() == [0, 3]
    torch.testing.assert_close(chosen.vectors, source.state_dict()["encoder.tables.item.weight"])

    before, encoder = tables(target), target["encoder"]
    bridges = Bridges("source", seen(*THERE), seen(*HERE), chosen, hidden=4)
    bridges.start(target, past(source))
    change = encoder.get_submodule(f"tables.low.{D}")
    assert isinstance(change, Bridged)
    expected = change.bridge(torch.arange(USERS)).detach()
    shown = encoder.items("user").detach()  # by entity
    for entity, row in enumerate(ROWS.tolist()):
        torch.testing.assert_close(shown[entity], expected[row] if row in (*BOTH, *ALONE) else before[row])
    assert "1 users of the source alone bridged, by what 4" in bridges.finish(target)
    after = tables(target)
    assert (after != before).any(1).nonzero().flatten().tolist() == ALONE
    torch.testing.assert_close(after[ALONE], expected[ALONE])
    assert set(target.state_dict()) == set(model(2).state_dict())


def test_a_source_without_a_history_has_nothing_to_build_on() -> None:
    stream = Stream("s", (Feature("user", "id", "user"),), ())
    bare = nn.ModuleDict({"encoder": Encoder(Schema({"user": Table("user", 3)}, {"s": stream}))})
    with pytest.raises(ValueError, match=r"Found no history; set history\.short"):
        Chosen(2).start(bare, Past())


@pytest.mark.parametrize("strategy", [EMCDR(), PTUPCDR()], ids=lambda strategy: type(strategy).__name__)
def test_users_of_the_source_are_known_when_the_last_phase_has_ended(strategy: Transfer) -> None:
    last = replace(strategy.phases()[-1], start_from=None)  # of nothing that it carries
    assert last.learnt("user") == ROLES  # a map or a bridge gave them their vectors
    assert last.learnt("item") == last.roles != ROLES
