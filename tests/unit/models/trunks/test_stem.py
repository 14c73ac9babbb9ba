"""STEM against its equation, and where gradients stop."""

import pytest
import torch
from torch import Tensor

from graftrec.data.batch import Encoded
from graftrec.models.trunks.stem import STEM

FIELDS, ROWS, TASKS = 3, 5, ["a", "b"]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def trunk(width: int = 7, history: bool = False) -> STEM:
    torch.manual_seed(0)
    return STEM(FIELDS, width, history, TASKS, experts=2, shared_experts=3, hidden=[6, 4]).double()


def expert(layers: torch.nn.ModuleList, number: int, x: Tensor) -> Tensor:
    for layer in layers:
        x = (x @ layer.weight[number].T + layer.bias[number]).clamp_min(0)
    return x


def test_it_is_its_equation_on_slices_of_the_width() -> None:
    stem, history, fields = trunk(history=True), draw(ROWS, 2, 7, seed=1), draw(ROWS, FIELDS, 7)
    e = Encoded(fields, history, torch.ones(ROWS, 2, dtype=torch.bool))
    x = torch.cat([fields, history.mean(1, keepdim=True)], 1)
    # width 7, two tasks: the shared slice has 3 elements, each task's 2
    parts = {"shared": x[..., :3], "a": x[..., 3:5], "b": x[..., 5:]}
    parts = {name: part.reshape(ROWS, -1) for name, part in parts.items()}
    h = [expert(stem.specific.layers, number, parts[TASKS[number // 2]]) for number in range(4)]
    h += [expert(stem.shared.layers, number, parts["shared"]) for number in range(3)]
    z = stem(e, ["b", "a"])
    for t, task in enumerate(TASKS):
        read = torch.cat([parts[task], parts["shared"]], 1)
        gate = (read @ stem.gates.weight[t].T + stem.gates.bias[t]).softmax(-1)
        torch.testing.assert_close(z[task], sum(gate[:, i : i + 1] * h[i] for i in range(7)))


def test_a_task_reads_what_is_another_tasks_and_does_not_train_it() -> None:
    stem, fields = trunk(), draw(ROWS, FIELDS, 7).requires_grad_(True)
    read = stem(Encoded(fields), ["a"])["a"]
    parameters = [*stem.specific.parameters(), *stem.shared.parameters(), stem.gates.weight]
    into, *gradients = torch.autograd.grad(read.pow(2).sum(), [fields, *parameters])
    assert not into[..., 5:].any()  # the embedding of b
    assert into[..., :3].any()
    assert into[..., 3:5].any()
    for gradient in gradients[: len(list(stem.specific.parameters()))]:
        assert gradient[:2].any()
        assert not gradient[2:].any()  # the experts of b
    assert all(gradient.any() for gradient in gradients)
    assert not gradients[-1][1].any()  # the gate of b
    assert gradients[-1][0].any()

    other = fields.detach().clone()
    other[..., 5:] += 1
    assert not torch.allclose(stem(Encoded(other), ["a"])["a"], read)


def test_a_width_below_the_number_of_slices_is_refused() -> None:
    assert trunk(width=3).own == 1
    with pytest.raises(ValueError, match=r"encoder.width should be at least 3, .* Found 2"):
        trunk(width=2)
    with pytest.raises(ValueError, match="shared_experts"):
        STEM(FIELDS, 8, False, TASKS, shared_experts=0)
