"""DIN against its equation, one event after another."""

import compared
import torch
from compared import ITEM, WIDTH, activation, encoded, layers, made, rows

from graftrec.models.trunks.din import DIN


def test_it_is_its_equation() -> None:
    trunk, e = made(DIN, attention=(7, 3)), encoded()
    z = trunk(e, ["a"])["a"]
    for row, (fields, events) in enumerate(rows(e)):
        pooled = torch.zeros(WIDTH, dtype=torch.float64)
        for event in events:
            pooled = pooled + activation(trunk.activation, event, fields[ITEM]) * event
        x = torch.cat([fields.flatten(), pooled])
        torch.testing.assert_close(z[row], layers(trunk.fuse, x, relu_last=True))


def test_the_same_event_twice_counts_twice() -> None:
    trunk = made(DIN)
    event, item = torch.randn(2, 1, 1, WIDTH, dtype=torch.float64)
    one, two = (trunk.activation(event.expand(1, n, WIDTH), item[0]).sum() for n in (1, 2))
    torch.testing.assert_close(two, 2 * one)


def test_it_compares_with_the_item() -> None:
    compared.check_it_compares(made(DIN))
    compared.check_streams(made(DIN))
    compared.check_gradients(made(DIN))
