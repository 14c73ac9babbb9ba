"""CLSR against its equations, one event after another."""

from dataclasses import replace

import compared
import pytest
import torch
from compared import ITEM, USER, WIDTH, attention, encoded, gru, items, layers, made, rows

from graftrec.models.trunks.clsr import CLSR


def test_it_is_its_equations() -> None:
    trunk, e = made(CLSR), encoded()
    z = trunk(e, ["a"])["a"]
    nothing = torch.zeros(WIDTH, dtype=torch.float64)
    for row, (fields, events) in enumerate(rows(e)):
        lasting, first = (trunk.queries.weight @ fields[USER] + trunk.queries.bias).split(WIDTH)
        long = attention(trunk.long, events, lasting)
        intention = [first, *gru(trunk.intention, events, first)][-1]
        short = attention(trunk.short, gru(trunk.evolution, events), intention)
        context = [nothing, *gru(trunk.context, events)][-1]
        given = torch.cat([context, fields[ITEM], long, short])
        alpha = 1 / (1 + (-layers(trunk.alpha, given, relu_last=False)).exp())
        x = torch.cat([fields.flatten(), alpha * long + (1 - alpha) * short])
        torch.testing.assert_close(z[row], layers(trunk.fuse, x, relu_last=True))


def test_the_user_alone_decides_what_counts_in_the_long_run() -> None:
    trunk, e = made(CLSR), encoded()
    seen: list[torch.Tensor] = []
    trunk.long.register_forward_hook(lambda module, given, output: seen.append(output))
    for place in (ITEM, USER):
        trunk(e, ["a"])
        fields = e.fields.clone()
        fields[:, place] += 1
        trunk(replace(e, fields=fields), ["a"])
    assert torch.equal(seen[0], seen[1])
    assert not torch.allclose(seen[2], seen[3])


def test_its_own_losses_are_their_equations() -> None:
    trunk, e, aside = made(CLSR, contrast=0.5, discrepancy=0.25, newest=2), encoded(), []
    trunk(replace(e, aside=aside), ["a"])

    def nearer(a: torch.Tensor, near: torch.Tensor, far: torch.Tensor) -> torch.Tensor:
        return -(1 / (1 + (a @ far - a @ near).exp())).log()

    contrast, alike, several = torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64), 0
    for (fields, events), told in zip(rows(e), items(e), strict=True):
        lasting, first = (trunk.queries.weight @ fields[USER] + trunk.queries.bias).split(WIDTH)
        alike += lasting @ first / (lasting @ lasting * (first @ first)).sqrt()
        if len(events) <= 2:
            continue
        several += 1
        long = attention(trunk.long, events, lasting)
        short = attention(trunk.short, gru(trunk.evolution, events), gru(trunk.intention, events, first)[-1])
        whole, newest = sum(told) / len(told), (told[-1] + told[-2]) / 2
        contrast += nearer(long, whole, newest) + nearer(whole, long, short)
        contrast += nearer(short, newest, whole) + nearer(newest, short, long)
    assert [int(own.cases) for own in aside] == [several, len(e.fields)]
    torch.testing.assert_close(aside[0].total, 0.5 * contrast[0])
    torch.testing.assert_close(aside[1].total, 0.25 * alike[0])


def test_its_own_losses_can_be_left_out() -> None:
    trunk, e, aside = made(CLSR, contrast=0.0, discrepancy=0.0), encoded(), []
    torch.testing.assert_close(trunk(replace(e, aside=aside), ["a"]), made(CLSR)(e, ["a"]))
    assert not aside
    with pytest.raises(ValueError, match=r"Found -1, 0\.01 and 3"):
        made(CLSR, contrast=-1)


def test_it_compares_with_the_item() -> None:
    compared.check_it_compares(made(CLSR))
    compared.check_streams(made(CLSR))
    compared.check_gradients(made(CLSR))


def test_a_stream_without_the_user_is_refused() -> None:
    with pytest.raises(ValueError, match=r"user should name a field of stream 's', \['item', 'age'\]. Found 'user'"):
        made(CLSR, streams={"s": ["item", "age"]})
