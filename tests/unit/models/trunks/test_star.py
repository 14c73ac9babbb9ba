"""STAR against its equations, and its domains against each other."""

import pytest
import torch
from torch import Tensor

from graftrec.data.batch import Encoded
from graftrec.models.trunks.star import STAR

FIELDS, WIDTH, ROWS = 2, 3, 6
STREAMS = {"books": ["user", "item"], "films": ["user", "item"]}


def encoded(stream: str, rows: int = ROWS, seed: int = 0) -> Encoded:
    generator = torch.Generator().manual_seed(seed)
    return Encoded(torch.randn(rows, FIELDS, WIDTH, generator=generator, dtype=torch.float64), stream=stream)


def trunk() -> STAR:
    torch.manual_seed(0)
    return STAR(FIELDS, WIDTH, False, STREAMS, [5, 4]).double()


def shaken() -> STAR:
    star = trunk()
    with torch.no_grad():
        for parameter in star.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return star


def network(star: STAR, x: Tensor, domain: int) -> Tensor:
    for centre, own in zip(star.shared, star.domains, strict=True):
        x = (x @ (centre.weight * (1 + own.offset[domain])).T + centre.bias + own.bias[domain]).clamp_min(0)
    return x


def normed(star: STAR, x: Tensor, domain: int, mean: Tensor, var: Tensor) -> Tensor:
    own = star.norm.domains
    scale = star.norm.weight * (1 + own.offset[domain, :, 0])
    return scale * (x - mean) / (var + 1e-5).sqrt() + star.norm.bias + own.bias[domain]


def test_it_is_its_equations_in_training_and_in_evaluation() -> None:
    star, e = shaken(), encoded("films")
    x = e.fields.flatten(1)
    mean, var = x.mean(0), ((x - x.mean(0)) ** 2).mean(0)
    z = star(e, ["click", "like"])
    assert list(z) == ["click", "like"]
    torch.testing.assert_close(z["click"], network(star, normed(star, x, 1, mean, var), 1))

    # what evaluation takes is a moving mean of this domain's batches; those of the other are as they were
    moved = (0.1 * mean, 0.9 + 0.1 * var * ROWS / (ROWS - 1))
    torch.testing.assert_close(star.norm.mean, torch.stack([torch.zeros_like(mean), moved[0]]))
    torch.testing.assert_close(star.norm.var, torch.stack([torch.ones_like(var), moved[1]]))
    star.eval()
    expected = network(star, normed(star, x, 1, *moved), 1)
    torch.testing.assert_close(star(e, ["click"])["click"], expected)
    torch.testing.assert_close(star(Encoded(e.fields[:1], stream="films"), ["click"])["click"], expected[:1])


def test_domains_start_alike_and_part_where_their_own_weights_do() -> None:
    star = trunk().eval()

    def z(stream: str) -> Tensor:
        return star(encoded(stream), ["click"])["click"]

    before = z("books")
    assert torch.equal(before, z("films"))
    with torch.no_grad():
        star.domains[0].offset[1] += 0.5
    assert torch.equal(z("books"), before)
    assert not torch.allclose(z("films"), before)


def test_a_batch_trains_the_shared_weights_and_those_of_its_domain() -> None:
    star = trunk()
    star(encoded("films"), ["click"])["click"].pow(2).sum().backward()
    for parameter in [*star.domains.parameters(), *star.norm.domains.parameters()]:
        assert parameter.grad is not None
        assert parameter.grad[1].any()
        assert not parameter.grad[0].any()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in star.meeting().parameters())


def test_a_training_batch_of_one_row_takes_running_statistics() -> None:
    star, e = trunk(), encoded("books", rows=1)
    trained = star(e, ["click"])["click"]
    assert torch.equal(trained, star.eval()(e, ["click"])["click"])
    assert not star.norm.mean.any()
    star.train()
    both = star(e, ["click"])["click"].sum() + star(encoded("films"), ["click"])["click"].sum()
    both.backward()  # the second has moved running statistics by now


def test_an_unknown_stream_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\['books', 'films'\]. Found 'games'"):
        trunk()(encoded("games"), ["click"])
    with pytest.raises(ValueError, match="hidden should be"):
        STAR(FIELDS, WIDTH, False, STREAMS, [])


def test_a_centre_starts_as_a_linear_layer_does() -> None:
    centre = trunk().shared[0]
    bound = (FIELDS * WIDTH) ** -0.5
    for start in (centre.weight, centre.bias):
        assert -bound <= start.min() < -0.2 * bound < 0.2 * bound < start.max() <= bound
