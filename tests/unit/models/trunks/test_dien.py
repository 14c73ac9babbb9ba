"""DIEN against its equations, one event after another."""

from dataclasses import replace

import compared
import pytest
import torch
from compared import ITEM, WIDTH, encoded, gru, items, layers, made, rows
from torch import nn

from graftrec.data.batch import Aside
from graftrec.models.trunks.dien import AUGRU, DIEN


def sigmoid(x: torch.Tensor) -> torch.Tensor:
    return 1 / (1 + (-x).exp())


def test_it_is_its_equations() -> None:
    trunk, e = made(DIEN), encoded()
    z = trunk(e, ["a"])["a"]
    cell = trunk.evolution
    for row, (fields, events) in enumerate(rows(e)):
        interests = gru(trunk.extractor, events)
        powers = [(h @ trunk.attention.weight @ fields[ITEM]).exp() for h in interests]
        state = torch.zeros(WIDTH, dtype=torch.float64)
        for interest, power in zip(interests, powers, strict=True):
            r, u, n = (cell.inputs.weight @ interest + cell.inputs.bias).split(WIDTH)
            hr, hu, hn = (cell.states.weight @ state + cell.states.bias).split(WIDTH)
            update = power / sum(powers) * sigmoid(u + hu)
            state = (1 - update) * state + update * (n + sigmoid(r + hr) * hn).tanh()
        x = torch.cat([fields.flatten(), state])
        torch.testing.assert_close(z[row], layers(trunk.fuse, x, relu_last=True))


def test_with_full_attention_it_is_a_gru_whose_update_gate_is_turned_round() -> None:
    torch.manual_seed(0)
    cell, same = AUGRU(WIDTH).double(), nn.GRU(WIDTH, WIDTH, batch_first=True).double()
    with torch.no_grad():
        for mine, theirs, bias in (
            (cell.inputs, "weight_ih_l0", "bias_ih_l0"),
            (cell.states, "weight_hh_l0", "bias_hh_l0"),
        ):
            # torch keeps the old state by its gate, the paper takes the new one by it
            sign = torch.ones(3 * WIDTH, 1, dtype=torch.float64)
            sign[WIDTH : 2 * WIDTH] = -1
            getattr(same, theirs).copy_(sign * mine.weight)
            getattr(same, bias).copy_(sign[:, 0] * mine.bias)
    x = torch.randn(3, 5, WIDTH, dtype=torch.float64)
    torch.testing.assert_close(cell(x, torch.ones(3, 5)), same(x)[0][:, -1])


@pytest.mark.parametrize("further", [1, 5])
def test_its_own_loss_tells_the_event_that_follows_from_another(further: int, monkeypatch: pytest.MonkeyPatch) -> None:
    trunk, e, aside = made(DIEN, auxiliary=0.5), encoded(), []
    asked: list[tuple[int, int]] = []

    def fixed(low: int, high: int, size: torch.Size, device: torch.device) -> torch.Tensor:
        asked.append((low, high))
        return torch.full(size, further, device=device)

    monkeypatch.setattr(torch, "randint", fixed)
    trunk(replace(e, aside=aside), ["a"])
    everything = [item for own in items(e) for item in own]
    expected, count, before = 0.0, 0, 0
    for (_, events), told in zip(rows(e), items(e), strict=True):
        for t, state in enumerate(gru(trunk.extractor, events)[:-1]):
            drawn = everything[(before + t + 1 + further) % len(everything)]
            expected -= sigmoid(state @ told[t + 1]).log() + (1 - sigmoid(state @ drawn)).log()
            count += 1
        before += len(events)
    assert asked == [(1, len(everything))]  # another event, whatever is drawn
    (own,) = aside
    assert own.cases == count
    torch.testing.assert_close(own.total, 0.5 * expected)
    own.total.backward()
    assert trunk.extractor.weight_hh_l0.grad.any()


def test_nobody_asks_for_its_own_loss_in_an_evaluation_and_weight_0_gives_none() -> None:
    aside: list[Aside] = []
    trunk, e = made(DIEN, auxiliary=0.0), encoded()
    torch.testing.assert_close(trunk(replace(e, aside=aside), ["a"]), made(DIEN)(e, ["a"]))
    assert not aside
    with pytest.raises(ValueError, match=r"auxiliary should be at least 0\. Found -1"):
        made(DIEN, auxiliary=-1)


def test_without_two_events_in_a_row_its_own_loss_is_0() -> None:
    e, aside = encoded(), []
    for mask in (torch.zeros(5, 6, dtype=torch.bool), torch.arange(6).expand(5, 6) == 5):
        made(DIEN)(replace(e, mask=mask, aside=aside), ["a"])
    assert [(float(own.total.detach()), int(own.cases)) for own in aside] == [(0, 0), (0, 0)]


def test_it_compares_with_the_item() -> None:
    compared.check_it_compares(made(DIEN))
    compared.check_streams(made(DIEN))
    compared.check_gradients(made(DIEN))
