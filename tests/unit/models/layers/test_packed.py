"""Sequences of one length lie as they came; any others are moved, and both say the same."""

from __future__ import annotations

import pytest
import torch

from graftrec.models.layers.packed_sequences import AttentionStack, Packed


@pytest.mark.parametrize(("length", "padding"), [(4, 0), (4, 2), (1, 0)])
def test_full_ones_are_what_they_are_beside_shorter_ones(length: int, padding: int) -> None:
    torch.manual_seed(0)
    stack = AttentionStack(8, 2, 2, 2, 6, 0.0, True).eval()
    events, width = torch.randn(3, length + padding, 8), length + padding
    mask = (torch.arange(width) >= padding).expand(3, width)
    short = torch.cat([mask, (torch.arange(width) >= width - 1)[None]])  # a fourth, of one event
    alone, beside = Packed(mask), Packed(short)
    more = torch.cat([events, torch.randn(1, width, 8)])
    expected = beside.sequences(stack(beside.tokens(more), beside))[:3]
    found = alone.sequences(stack(alone.tokens(events), alone))
    torch.testing.assert_close(found, expected)
    last = stack(alone.tokens(events), alone, True)
    torch.testing.assert_close(last, expected[:, -1])
    torch.testing.assert_close(alone.unpadded(alone.padded(alone.tokens(events))), events[mask])


def test_attention_and_inner_dropout_hide_weights_and_hidden_numbers() -> None:
    torch.manual_seed(0)
    length = 8
    stack = AttentionStack(length, 1, 1, 2, 6, 0.0, False, attention_dropout=0.5, inner_dropout=0.75)
    (block,) = stack.blocks
    block.before, block.out = torch.nn.Identity(), torch.nn.Identity()
    with torch.no_grad():  # all events have the same weight, and the value of each is a place of its own
        block.inputs.weight.zero_()[: 3 * length].add_(torch.cat([torch.zeros(2 * length, length), torch.eye(length)]))
        block.inputs.bias.zero_()
        block.forth.weight.zero_()
        block.forth.bias.fill_(1.0)
    seen: list[torch.Tensor] = []
    block.between.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    block.back.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    packed = Packed(torch.ones(3, length, dtype=torch.bool))
    for training in (True, False):
        block.train(training)
        block(torch.eye(length).repeat(3, 1), packed)
    attended = [packed.sequences(x) - torch.eye(length) for x in seen[::2]]
    assert attended[0].unique().tolist() == [0, 2 / length]
    assert attended[1].unique().tolist() == [1 / length]
    assert seen[1].unique().tolist() == [0, 4]
    assert seen[3].unique().tolist() == [1]


@pytest.mark.parametrize("option", ["dropout", "attention_dropout", "inner_dropout"])
def test_a_share_outside_its_range_is_refused(option: str) -> None:
    for share in (-0.1, 1.0):
        with pytest.raises(ValueError, match=rf"^{option} should be in \[0, 1\)\. Found {share}"):
            AttentionStack(8, 1, 2, 2, 6, **{"dropout": 0.0, "causal": True, option: share})  # type: ignore[arg-type]
