"""The bias of user and item against the normal equations, and what it is fitted and chosen on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from graftrec.data.batch import Batch
from graftrec.evaluation.baselines.bias import GRID, Bias, bias


def test_it_is_the_penalised_least_squares() -> None:
    random = torch.Generator().manual_seed(0)
    user, item = torch.randint(0, 4, (40,), generator=random), torch.randint(0, 3, (40,), generator=random)
    label, weight = torch.rand(2, 40, generator=random).double() * 4
    weight[::5], penalty = 0.0, 2.0
    x = torch.cat([torch.nn.functional.one_hot(user, 4), torch.nn.functional.one_hot(item, 3)], 1).double()
    mean = (weight * label).sum() / weight.sum()
    solution = torch.linalg.solve(x.T * weight @ x + penalty * torch.eye(7), x.T * weight @ (label - mean))
    found = Bias(user, item, label, weight, penalty)
    torch.testing.assert_close(found.user, solution[:4], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.item, solution[4:], rtol=1e-3, atol=1e-4)
    asked = found(torch.tensor([0, 9]), torch.tensor([1, 9]))
    torch.testing.assert_close(asked[0].double(), mean + solution[0] + solution[5], rtol=1e-3, atol=1e-4)
    assert float(asked[1]) == pytest.approx(float(mean))  # nobody knows either


class Stream:
    """Rows of a plain additive truth; ``shown`` has a row without a label."""

    def __init__(self) -> None:
        random = torch.Generator().manual_seed(1)
        self.parts = {name: self.drawn(random, rows) for name, rows in (("shown", 4000), ("val", 500), ("test", 500))}
        self.parts["shown"]["y"][0] = torch.nan

    def drawn(self, random: torch.Generator, rows: int) -> Batch:
        user, item = torch.randint(1, 30, (2, rows), generator=random)
        noise = torch.randn(rows, generator=random) * 0.1
        return {"user": user, "item": item, "y": (user % 5).float() - (item % 3).float() + noise}

    def shown(self) -> list[Batch]:
        return [self.parts["shown"]]

    def evaluation(self, stage: str) -> list[Batch]:
        return [self.parts[stage]]


def labels(batch: Batch) -> Tensor:
    return batch["y"]


def alike(label: Tensor, batch: Batch) -> Tensor:
    return torch.ones_like(label)


def test_rows_count_by_their_weights() -> None:
    stream = Stream()
    shown = stream.parts["shown"]
    shown["y"][1::2] = 100.0  # nonsense, of weight 0

    def odd(label: Tensor, batch: Batch) -> Tensor:
        return (torch.arange(len(label)) % 2 == 0).float()

    def error(prediction: Tensor, label: Tensor) -> float:
        return float((prediction - label).abs().mean())

    prediction = bias(stream, labels, odd, error)[0]  # type: ignore[arg-type]
    assert error(prediction, stream.parts["test"]["y"]) < 0.1
    assert error(bias(stream, labels, alike, error)[0], stream.parts["test"]["y"]) > 10  # type: ignore[arg-type]


def test_the_penalty_is_chosen_on_validation_and_what_is_said_is_of_the_test() -> None:
    stream, seen = Stream(), []

    def error(prediction: Tensor, label: Tensor) -> float:
        seen.append(len(label))
        return float((prediction - label).abs().mean())

    prediction, penalty = bias(stream, labels, alike, error)  # type: ignore[arg-type]
    assert penalty == 1.0  # there is plenty of data
    assert seen == [500] * len(GRID)
    assert float((prediction - stream.parts["test"]["y"]).abs().mean()) < 0.1
