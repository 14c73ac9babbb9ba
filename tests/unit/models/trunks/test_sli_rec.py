"""SLi-Rec against its equations, one event after another."""

import compared
import torch
from compared import ITEM, WIDTH, attention, encoded, gates, layers, made, mixed, rows

from graftrec.models.trunks.sli_rec import SLiRec


def lstm(cell: torch.nn.Module, events: list[torch.Tensor]) -> list[torch.Tensor]:
    h, c, states = torch.zeros(WIDTH, dtype=torch.float64), torch.zeros(WIDTH, dtype=torch.float64), []
    for event in events:
        given, state = gates(cell, event, h, 4)
        i, f, n, o = (x + y for x, y in zip(given, state, strict=True))
        c = c / (1 + (-f).exp()) + n.tanh() / (1 + (-i).exp())
        h = c.tanh() / (1 + (-o).exp())
        states.append(h)
    return states


def test_it_is_its_equations() -> None:
    trunk, e = made(SLiRec), encoded()
    z = trunk(e, ["a"])["a"]
    for row, (fields, events) in enumerate(rows(e)):
        long = mixed([(trunk.query.weight @ trunk.key.weight @ event)[0] for event in events], events)
        short = attention(trunk.short, lstm(trunk.rnn, events), fields[ITEM])
        given = torch.cat([fields.flatten(), long, short])
        alpha = 1 / (1 + (-layers(trunk.alpha, given, relu_last=False)).exp())
        x = torch.cat([fields.flatten(), alpha * long + (1 - alpha) * short])
        torch.testing.assert_close(z[row], layers(trunk.fuse, x, relu_last=True))


def test_it_compares_with_the_item() -> None:
    compared.check_it_compares(made(SLiRec))
    compared.check_gradients(made(SLiRec))
