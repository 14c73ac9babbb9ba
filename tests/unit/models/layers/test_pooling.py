"""What pooled histories share: which field is asked about, and sums without a history."""

from dataclasses import replace

import pytest
import torch

from graftrec.data.batch import Encoded
from graftrec.models.layers.pooling import Activation, asked, from_start, last, must_have_history, places, softmax


def test_the_item_is_found_in_each_stream_or_it_is_said_that_rankings_have_none() -> None:
    at = places("item", "item", {"a": ["user", "item"], "b": ["item", "user"]})
    fields = torch.randn(2, 2, 3)
    assert torch.equal(asked(Encoded(fields, stream="a"), at), fields[:, 1])
    assert torch.equal(asked(Encoded(fields, stream="b"), at), fields[:, 0])
    with pytest.raises(ValueError, match=r"one of \['a', 'b'\]. Found 'c'"):
        asked(Encoded(fields, stream="c"), at)
    with pytest.raises(ValueError, match=r"'baskets', \['user', 'long'\]. Found 'item'.*rankings ask about many"):
        places("item", "item", {"rows": ["user", "item"], "baskets": ["user", "long"]})


def test_a_history_is_needed() -> None:
    with pytest.raises(ValueError, match="The DIN trunk reads a history"):
        must_have_history("DIN", False)
    with pytest.raises(ValueError, match="without a history"):
        from_start(Encoded(torch.zeros(2, 1, 3)))


def test_events_come_from_the_start_and_the_last_is_found() -> None:
    mask = torch.tensor([[False, False, True, True], [False] * 4, [True, False, True, True]])
    e = Encoded(torch.zeros(3, 1, 1), torch.arange(12.0).view(3, 4, 1), mask)
    events, there = from_start(e)
    assert events.squeeze(2).tolist() == [[2, 3, 0], [0, 0, 0], [8, 10, 11]]
    assert there.tolist() == [[True, True, False], [False] * 3, [True] * 3]
    assert last(events + 1, there).squeeze(1).tolist() == [4, 0, 12]
    nothing, none = from_start(replace(e, mask=torch.zeros_like(mask)))
    assert nothing.shape == (3, 1, 1)
    assert not none.any()


def test_a_softmax_of_nothing_is_zero_and_has_a_gradient() -> None:
    scores = torch.tensor([[1.0, 2.0, 50.0], [1.0, 2.0, 3.0]], requires_grad=True)
    found = softmax(scores, torch.tensor([[True, True, False], [False] * 3]))
    torch.testing.assert_close(found[0, :2], torch.tensor([1.0, 2.0]).softmax(0))
    assert not found[1].any()
    found.sum().backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


def test_an_activation_without_layers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"attention should be .* Found \[\]"):
        Activation(4, [])
