"""SIM against its equations, and on a history of thousands of events."""

import time
from dataclasses import replace

import compared
import pytest
import torch
from compared import ITEM, WIDTH, encoded, items, layers, made, mixed, rows

from graftrec.data.batch import Encoded
from graftrec.models.trunks.sim import SIM


@pytest.mark.parametrize("top", [1, 2, 50])
def test_it_is_its_equations(top: int) -> None:
    trunk, e = made(SIM, top=top, heads=3), encoded()
    z = trunk(e, ["a"])["a"]
    for row, ((fields, events), told) in enumerate(zip(rows(e), items(e), strict=True)):
        item = fields[ITEM]
        order = sorted(range(len(told)), key=lambda at: float(told[at] @ item), reverse=True)
        nearest = [events[at] for at in order[:top]]
        interests = []
        for key, query in zip(trunk.key.weight.split(WIDTH), trunk.query.weight.split(WIDTH), strict=True):
            interests.append(mixed([(key @ event) @ (query @ item) for event in nearest], nearest))
        x = torch.cat([fields.flatten(), *interests])
        torch.testing.assert_close(z[row], layers(trunk.fuse, x, relu_last=True))


def test_it_finds_what_is_like_the_item_among_5000_events() -> None:
    trunk, length = made(SIM, top=4), 5000
    history = torch.zeros(2, length, WIDTH, dtype=torch.float64, requires_grad=True)
    fields = torch.ones(2, 3, WIDTH, dtype=torch.float64)
    like = torch.tensor([[3, 700, 701, 4998], [0, 1, 2, 2500]])
    with torch.no_grad():
        for row, found in enumerate(like):
            history[row, found] = 1.0
            history[row, -1] = 9.0  # nearest of all, were it there
    mask = torch.ones(2, length, dtype=torch.bool)
    mask[:, -1] = False
    trunk(Encoded(fields, history, mask, stream="s", items=history.detach()), ["a"])["a"].sum().backward()
    assert history.grad is not None
    reached = history.grad.any(2)
    for row, found in enumerate(like):
        assert reached[row].nonzero().flatten().tolist() == found.tolist()


def hard(several: bool) -> tuple[Encoded, list[list[list[int]]], list[list[int]]]:
    """Rows with categories of events and of the item, 0 is none; the same as lists."""
    random = torch.Generator().manual_seed(1)
    e = encoded()
    assert e.mask is not None
    shape = (2,) if several else ()
    events = torch.randint(3, (*e.mask.shape, *shape), generator=random)
    events[~e.mask] = 1  # what padding has is not read
    item = torch.tensor([[1, 0], [2, 1], [1, 2], [2, 0], [0, 0]])
    item = item if several else item[:, 0]
    plain = (events, item) if several else (events[..., None], item[..., None])
    return replace(e, attributes=(events, {"item": item})), plain[0].tolist(), plain[1].tolist()


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("top", [1, 2, 50])
def test_hard_search_reads_the_newest_events_of_the_items_category(top: int, several: bool) -> None:
    trunk = made(SIM, by="kind", top=top, heads=2)
    e, kinds, asked = hard(several)
    z = trunk(e, ["a"])["a"]
    found = 0
    for row, (fields, events) in enumerate(rows(e)):
        known = kinds[row][len(kinds[row]) - len(events) :]
        same = [x for x, kind in zip(events, known, strict=True) if set(kind) & set(asked[row]) - {0}][-top:]
        found += len(same)
        item = fields[ITEM]
        interests = [
            mixed([(key @ event) @ (query @ item) for event in same], same)
            for key, query in zip(trunk.key.weight.split(WIDTH), trunk.query.weight.split(WIDTH), strict=True)
        ]
        torch.testing.assert_close(z[row], layers(trunk.fuse, torch.cat([fields.flatten(), *interests]), True))
    assert found > 1


def test_hard_search_in_5000_events_takes_memory_of_a_few_of_them() -> None:
    batch, length, width = 128, 5000, 16
    trunk = SIM(2, width, True, {"s": ["user", "item"]}, by="kind", top=50)
    history = torch.randn(batch, length, width)
    kinds = torch.randint(1, 100, (batch, length))
    e = Encoded(
        torch.randn(batch, 2, width), history, torch.ones(batch, length, dtype=torch.bool), stream="s",
        attributes=(kinds, {"item": torch.randint(1, 100, (batch,))}),
    )  # fmt: skip
    saved: list[int] = []
    start = time.monotonic()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        trunk(e, ["a"])["a"].sum().backward()
    assert time.monotonic() - start < 5
    assert sum(saved) < history.numel() / 4


def test_hard_search_without_categories_is_refused() -> None:
    with pytest.raises(ValueError, match="by='kind' needs that attribute of the events and of the field 'item'"):
        made(SIM, by="kind")(encoded(), ["a"])


def test_it_compares_with_the_item() -> None:
    compared.check_it_compares(made(SIM, top=2))
    compared.check_streams(made(SIM))
    compared.check_gradients(made(SIM))


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="Found 0 and 2"):
        made(SIM, top=0)
