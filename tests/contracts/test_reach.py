"""LoRA and adapters reach what they claim in every trunk and interaction, and say what they leave."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from test_contracts import EDGES, STREAMS, TASKS, B, D, F, L, draw, encoded, make
from torch import Tensor, nn

from discovery import classes
from graftrec.models.interactions.base import Interaction
from graftrec.models.layers.adapters import LowRank, matrices
from graftrec.models.layers.embedding_tables import Tables
from graftrec.models.trunks.base import Trunk
from graftrec.transfer.adapters import Bottlenecks
from graftrec.transfer.base import Means, share
from graftrec.transfer.lora import LowRankChanges
from graftrec.utils.errors import UserError

RANK, WIDTH = 3, 16
KNOWN: dict[str, Any] = {
    "fields": F, "width": D, "history": True, "tasks": TASKS, "streams": STREAMS, "edges": EDGES,
    "behaviours": {"s": 5},
}  # fmt: skip
REFUSED = {"MeLU"}  # see `changeable`
NO_MATRIX = {"BiTGCF", "CMF"}  # their dense layers are the tables
TRUNKS = [cls for cls in classes("models.trunks") if cls.__name__ not in NO_MATRIX]
CHANGED = [cls for cls in TRUNKS if cls.__name__ not in REFUSED]


class Model(nn.Module):
    """A model of one trunk, with everything that was pretrained frozen."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.encoder, self.trunk = nn.Module(), trunk
        self.encoder.add_module("tables", Tables({"item": 5}, D))
        self.requires_grad_(False)


def model(cls: type[Trunk]) -> Model:
    torch.manual_seed(0)
    return Model(make(cls, **KNOWN))


def read(trunk: nn.Module, cls: type[Trunk]) -> Tensor:
    """What the tasks read, side by side, of a batch with all that a trunk may look at."""
    torch.manual_seed(1)
    times = torch.arange(B * L).view(B, L) * 86_400_000
    z = trunk(replace(encoded(cls), times=times), TASKS)
    return torch.cat([z[task] for task in TASKS], -1)


def moved(added: dict[str, nn.Parameter]) -> None:
    """Away from the start, where half of what is added is 0."""
    for number, part in enumerate(added.values()):
        part.data.copy_(0.3 * draw(*part.shape, seed=number))


@pytest.mark.parametrize("means", [LowRankChanges(RANK, 4.0), Bottlenecks(WIDTH, ())], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("cls", TRUNKS, ids=lambda cls: cls.__name__)
def test_all_that_is_added_learns_in_every_step(cls: type[Trunk], means: Means) -> None:
    made = model(cls).train()
    if cls.__name__ in REFUSED:
        with pytest.raises(ValueError, match=f"the trunk {cls.__name__} takes steps on its own weights"):
            means.build(made)
        return
    before = read(made.trunk, cls).detach()
    means.build(made)
    torch.testing.assert_close(read(made.trunk, cls), before)
    added = {name: part for name, part in made.trunk.named_parameters() if part.requires_grad}
    assert added
    moved(added)
    z = read(made.trunk, cls)
    (z * draw(*z.shape)).sum().backward()
    means.gradients()  # nothing is idle
    for name, part in added.items():
        assert part.grad is not None, name
        # a constant is no news to a softmax: the last bias in front of one has no gradient
        assert part.grad.any() or name.endswith("bias"), name


PRICED = {"CoNet": {"sparse": 0.5}, "SNR": {"sparsity": 0.5}}  # trunks with a loss of their weights alone, at a price


@pytest.mark.parametrize("means", [LowRankChanges(RANK, 4.0), Bottlenecks(WIDTH, ())], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("cls", CHANGED, ids=lambda cls: cls.__name__)
def test_the_loss_of_weights_alone_is_of_the_weights_that_are_read(cls: type[Trunk], means: Means) -> None:
    torch.manual_seed(0)
    made = Model(make(cls, **KNOWN, **PRICED.get(cls.__name__, {})))
    trunk = made.trunk
    assert isinstance(trunk, Trunk)
    before = trunk.penalty()
    assert (before is not None) == (cls.__name__ in PRICED)
    if before is None:
        return
    means.build(made)
    torch.testing.assert_close(trunk.penalty(), before.detach(), check_stride=False)
    moved({name: part for name, part in made.trunk.named_parameters() if part.requires_grad})
    changed = trunk.penalty()
    assert changed is not None
    means.finish(made)
    torch.testing.assert_close(trunk.penalty(), changed)  # what is merged is priced as it was


@pytest.mark.parametrize("cls", classes("models.interactions"), ids=lambda cls: cls.__name__)
def test_low_rank_changes_reach_every_matrix_of_an_interaction(cls: type[Interaction]) -> None:
    torch.manual_seed(0)
    made = Model(nn.Linear(D, D))
    made.add_module("interaction", make(cls, **KNOWN))
    whole = made.get_submodule("interaction").requires_grad_(False)
    names = [name for name, _, _ in matrices(whole)]
    LowRankChanges(RANK, 4.0).build(made)
    added = {name: part for name, part in whole.named_parameters() if part.requires_grad}
    assert len(added) == 2 * len(names)
    moved(added)
    if added:
        whole(draw(B, F, D)).square().sum().backward()
    for name, part in added.items():
        assert part.grad is not None, name
        assert part.grad.any(), name


@pytest.mark.parametrize("cls", CHANGED, ids=lambda cls: cls.__name__)
def test_low_rank_changes_leave_no_matrix_and_are_told(cls: type[Trunk]) -> None:
    made, means = model(cls), LowRankChanges(RANK, 4.0)
    names = {f"trunk.{name}" for name, _, _ in matrices(made.trunk)}
    assert names
    means.build(made)
    assert set(means.told().partition("on the tables and ")[2].split(", ")) == names
    rest = [p for n, p in made.trunk.named_parameters() if p.ndim > 1 and ".original" not in n and not p.requires_grad]
    assert len(rest) == len([p for n, p in model(cls).trunk.named_parameters() if p.ndim > 1]) - len(names)
    for name, part in made.trunk.named_parameters():  # two axes, and no matrix: biases of experts, gates and stitches
        if part.ndim > 1 and not part.requires_grad and ".original" not in name:
            assert name.rpartition(".")[2] in {"bias", "weights", "biases", "log_alpha"} or "stitches" in name, name


@pytest.mark.parametrize("cls", CHANGED, ids=lambda cls: cls.__name__)
def test_low_rank_changes_are_merged_into_what_was_judged(cls: type[Trunk]) -> None:
    made, means = model(cls).eval(), LowRankChanges(RANK, 4.0)
    names = list(made.state_dict())
    means.build(made)
    moved({name: part for name, part in made.trunk.named_parameters() if part.requires_grad})
    before = read(made.trunk, cls)
    means.finish(made)
    assert sorted(made.state_dict()) == sorted(names)
    torch.testing.assert_close(read(made.trunk, cls), before)


@pytest.mark.parametrize("cls", CHANGED, ids=lambda cls: cls.__name__)
def test_at_full_rank_any_change_of_the_matrices_can_be_learnt(cls: type[Trunk]) -> None:
    made, other, means = model(cls), model(cls), LowRankChanges(10_000, 10_000.0)
    wanted = {}
    with torch.no_grad():
        for number, (name, part, own) in enumerate(matrices(other.trunk)):
            wanted[name] = getattr(part, own).add_(draw(*getattr(part, own).shape, seed=number))
    means.build(made)
    assert len(means._changed) == len(wanted)
    for name, part, own in means._changed:
        (low,) = part.get_submodule(f"parametrizations.{own}").children()
        assert isinstance(low, LowRank)
        change = (wanted[name.removeprefix("trunk.")] - getattr(part, own)).detach()
        left, sizes, right = torch.linalg.svd(change.flatten(2) if change.ndim > 3 else change, full_matrices=False)
        assert low.b.shape == left.shape
        assert low.a.shape == right.shape
        low.b.data, low.a.data = left * sizes[..., None, :], right
    means.finish(made)
    found = made.state_dict()
    assert found.keys() == other.state_dict().keys()
    for name, part in other.state_dict().items():
        torch.testing.assert_close(found[name], part, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cls", CHANGED, ids=lambda cls: cls.__name__)
def test_bottlenecks_say_behind_which_weights_nothing_stands(cls: type[Trunk]) -> None:
    made, means = model(cls), Bottlenecks(WIDTH, ())
    names = {name for name, _, _ in matrices(made.trunk)}
    means.build(made)
    behind, _, rest = means.told().partition(" behind ")[2].partition(" of the trunk; nothing stands behind ")
    layers = {f"{name}.weight" for name in behind.removesuffix(" of the trunk").split(", ")}
    assert layers | set(rest.split(", ") if rest else ()) == names
    assert not layers & set(rest.split(", "))


@pytest.mark.parametrize("cls", CHANGED, ids=lambda cls: cls.__name__)
def test_norms_learn_beside_bottlenecks_and_nothing_else(cls: type[Trunk]) -> None:
    made = model(cls)
    Bottlenecks(WIDTH, ()).build(made)
    norms = {id(p) for part in made.trunk.modules() if type(part).__name__.endswith("Norm") for p in part.parameters()}
    for name, part in made.trunk.named_parameters():
        assert part.requires_grad == (id(part) in norms or ".adapter." in name or name.startswith("adapter.")), name


@pytest.mark.parametrize("cls", [cls for cls in classes("models.trunks") if cls.__name__ in NO_MATRIX], ids=str)
def test_a_trunk_without_a_dense_layer_has_no_place_for_bottlenecks(cls: type[Trunk]) -> None:
    with pytest.raises(ValueError, match=f"Found {cls.__name__} with none"):
        Bottlenecks(WIDTH, ()).build(model(cls))


class Attending(nn.Module):
    """As torch's layers do: its attention reads the weights of ``out_proj``, and ``idle`` is never run."""

    def __init__(self, idle: bool) -> None:
        super().__init__()
        self.attention, self.last = nn.MultiheadAttention(D, 2, batch_first=True), nn.Linear(D, D)
        if idle:
            self.idle = nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.attention(x, x, x)[0])  # type: ignore[no-any-return]


def test_a_layer_that_never_runs_gets_no_bottleneck() -> None:
    made, means = Model(Attending(False)), Bottlenecks(WIDTH, ())
    means.build(made)
    assert means.told() == (
        "bottlenecks of width 16 behind last of the trunk; nothing stands behind attention.in_proj_weight, "
        "attention.out_proj.weight"
    )
    idle = Model(Attending(True))
    means.build(idle)
    idle.trunk(draw(2, 3, D)).sum().backward()
    with pytest.raises(UserError, match=r"should name layers that every step runs\. Found idle, which"):
        means.gradients()
    low = Model(Attending(False))
    LowRankChanges(RANK, 4.0).build(low)
    moved({name: part for name, part in low.named_parameters() if part.requires_grad and "trunk" in name})
    low.trunk(draw(2, 3, D)).square().sum().backward()
    for name, part in low.trunk.named_parameters():
        assert not part.requires_grad or part.grad.any(), name  # type: ignore[union-attr]


def test_the_share_that_trains_is_counted_by_part() -> None:
    made = Model(nn.Linear(2, 3))
    made.add_module("tasks", nn.Linear(3, 1))
    assert share(made) == f"4 of {40 + 9 + 4} numbers train (7.55 %): tables 0 of 40, trunk 0 of 9, heads 4 of 4"
    Bottlenecks(2, ()).build(made)
    assert "trunk 17 of 26" in share(made)
    made.requires_grad_(True)
    assert share(made) == ""
