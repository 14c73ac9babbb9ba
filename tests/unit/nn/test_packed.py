"""Sequences of one length lie as they came; any others are moved, and both say the same."""

from __future__ import annotations

import pytest
import torch

from graftrec.nn.packed import AttentionStack, Packed


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
