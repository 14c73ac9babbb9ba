"""Fused tables: what they hold, how they shrink, and that a checkpoint knows each by its name."""

from __future__ import annotations

import pytest
import torch

from graftrec.models.layers.embedding_tables import Tables

SIZES = {"user": 7, "item": 5, "a.b": 3}


def tables(sparse: bool = False, **shrink: dict[str, int]) -> Tables:
    torch.manual_seed(0)
    return Tables(SIZES, 4, shrink, sparse)


def test_tables_lie_behind_each_other_in_one_block() -> None:
    made = tables()
    assert [name for name, _ in made.named_parameters()] == ["block_4"]
    assert made.block.shape == (15, 4)
    torch.testing.assert_close(made("item", torch.tensor([[0, 4]])), made.block[[7, 11]][None])
    rows = torch.stack([made.rows("user", torch.tensor([3])), made.rows("a.b", torch.tensor([2]))], 1)
    torch.testing.assert_close(made.gather(rows), made.block[[3, 14]][None])


@pytest.mark.parametrize("shrink", [{}, {"item": {"quotient": 2}, "user": {"hash": 3, "width": 2}}])
def test_a_checkpoint_keeps_each_table_under_its_name_and_others_take_it(shrink: dict[str, dict[str, int]]) -> None:
    made = tables(**shrink)
    state = {f"encoder.tables.{name}": value.clone() for name, value in made.state_dict().items()}
    assert "encoder.tables.a_b.weight" in state
    assert not [name for name in state if "block" in name]
    torch.manual_seed(1)
    other = torch.nn.ModuleDict({"encoder": torch.nn.ModuleDict({"tables": Tables(
        {"more": 9, **dict(reversed(SIZES.items()))}, 4, shrink)})})  # fmt: skip
    found = other.load_state_dict(state, strict=False)
    assert found.missing_keys == ["encoder.tables.more.weight"]
    assert not found.unexpected_keys
    ids = torch.tensor([0, 1, 2])
    for name in SIZES:
        torch.testing.assert_close(other["encoder"]["tables"](name, ids), made(name, ids))


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(RuntimeError, match=r"size mismatch for user.weight: \(7, 4\), here it is \(8, 4\)"):
        Tables({**SIZES, "user": 8}, 4).load_state_dict(tables().state_dict())
    with pytest.raises(RuntimeError, match="Unexpected"):
        Tables({"user": 7}, 4).load_state_dict(tables().state_dict())


@pytest.mark.parametrize("shrink", [{}, {"user": {"hash": 3}}, {"user": {"quotient": 2}}, {"user": {"width": 2}}])
def test_sparse_gradients_are_the_dense_ones_on_the_rows_that_were_read(shrink: dict[str, dict[str, int]]) -> None:
    ids = torch.tensor([[1, 5], [1, 0]])
    found = []
    for sparse in (False, True):
        made = tables(sparse, **shrink)
        weights = torch.arange(16.0).view(2, 2, 4)
        total = (made("user", ids) * weights).sum() + (made("item", ids.clamp_max(4)) * weights).sum()
        known = ids > 0
        total = total + (made.bag(made.rows("a.b", ids.clamp_max(2)), known) * weights[:, 0]).sum()
        total.backward()
        gradients = {name: part.grad for name, part in made.named_parameters()}
        assert {name: g.is_sparse for name, g in gradients.items()} == {
            n: sparse and n[:5] == "block" for n in gradients
        }
        found.append({name: g.to_dense() if g.is_sparse else g for name, g in gradients.items()})
    assert found[0].keys() == found[1].keys()
    for name, dense in found[0].items():
        torch.testing.assert_close(found[1][name], dense)


def test_a_bag_is_the_mean_of_what_is_kept() -> None:
    made = tables()
    rows, keep = made.rows("item", torch.tensor([[1, 2, 0], [0, 0, 0]])), torch.tensor([[1, 1, 0], [0, 0, 0]]).bool()
    found = made.bag(rows, keep)
    torch.testing.assert_close(found, torch.stack([made.block[[8, 9]].mean(0), torch.zeros(4)]))


def test_hashing_shares_rows_and_leaves_the_unknown_id_alone() -> None:
    made = Tables({"user": 100_001}, 4, {"user": {"hash": 64}})
    rows = made.rows("user", torch.arange(100_001))
    assert made.block.shape == (65, 4)
    assert rows[0] == 0
    assert rows[1:].min() == 1
    counts = torch.bincount(rows[1:] - 1, minlength=64)
    assert counts.min() > 0.8 * 100_000 / 64  # spread evenly, though ids follow each other
    assert counts.max() < 1.2 * 100_000 / 64
    assert made.rows("user", torch.tensor([2**40 + 1])).item() <= 64  # an id beyond 32 bits


def test_every_id_of_a_quotient_table_has_a_vector_of_its_own() -> None:
    made = Tables({"user": 1001}, 4, {"user": {"quotient": 32}})
    assert len(made.block) == (1 + 32) + (1 + 32)
    vectors = made("user", torch.arange(1001))
    assert len(torch.unique(vectors, dim=0)) == 1001
    above, below = (1000 - 1) // 32, (1000 - 1) % 32
    torch.testing.assert_close(vectors[1000], made.block[1 + above] * made.block[33 + 1 + below])


def test_ids_beyond_24_bits_are_exact() -> None:
    made = Tables({"user": 2**24 + 3, "item": 2}, 1)
    assert made.rows("user", torch.tensor([2**24 + 1])).item() == 2**24 + 1
    assert made.rows("item", torch.tensor([1])).item() == 2**24 + 4


@pytest.mark.parametrize(
    ("shrink", "told"),
    [
        ({"usr": {"hash": 2}}, "there is no table 'usr'. Known: user"),
        ({"user": {"hash": 2, "quotient": 2}}, "one of hash or quotient"),
        ({"user": {"rows": 2}}, "one of hash or quotient"),
        ({"user": {"hash": 0}}, "at least 1"),
    ],
)
def test_a_wrong_way_to_shrink_is_told(shrink: dict[str, dict[str, int]], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Tables(SIZES, 4, shrink)


def test_blocks_of_every_width_are_told() -> None:
    made = Tables({"user": 7, "item": 5}, 4, {"item": {"width": 2}}, sparse=True)
    assert [tuple(block.shape) for block in made.blocks()] == [(7, 4), (5, 2)]
