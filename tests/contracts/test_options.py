"""No option is without an effect: each argument of a constructor, moved, changes a step or what an evaluation says.

Weights are drawn by their names and shapes (`scramble`), so that a part that is made and not used moves no other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from tiny import (
    BRANDS,
    ROWS,
    WIDTH,
    batches,
    domains_of,
    few_tasks,
    module,
    plain,
    ranking,
    scramble,
    shape_of,
    step,
    task_shape,
)
from torch import Tensor

from discovery import classes
from graftrec.config.instantiate import KNOWN, arguments
from graftrec.models.encoder import Encoder
from graftrec.models.heads.base import Head
from graftrec.models.interactions.base import Interaction
from graftrec.models.trunks.base import Trunk
from graftrec.models.trunks.shared_bottom import SharedBottom
from graftrec.models.trunks.transformer import Transformer
from graftrec.tasks.base import Task
from graftrec.training.lightning_module import GraftModule

COMPLETED = KNOWN | {"head", "loss", "stream", "column", "columns", "across"}
"""What no option is: the program completes it, or it says which parts and which data there are."""
NAMES = list(few_tasks("rows", 1))
MOVES: dict[str, tuple[Any, Any]] = {  # option, or Class.option -> two legal values; else see `moved`
    "attention": ((36,), (20,)),
    "by": ("", "brand"),
    "dropout": (0.0, 0.5),
    "groups": (None, {"one": NAMES[:1], "other": NAMES[1:]}),
    "heads": (2, 4),
    "hides": ("all", "id"),
    "item": ("item", "user"),
    "newest": (1, 2),
    "numbers": ("together", "periodic"),
    "order": (None, NAMES[::-1]),
    "parents": (None, {name: NAMES[at + 1 :] for at, name in enumerate(NAMES)}),
    "positions": (2, 3),
    "prior": (("user",), ("item",)),
    "reads": ("trunk", "encoder"),
    "row_weight": ("", "trust"),
    "space": ("", "like"),
    "top": (1, 2),
    "user": ("user", "item"),
    "values": ((1.0, 2.0, 3.0, 4.0, 5.0), (1.0, 5.0, 3.0, 4.0, 2.0)),
    "vectors": ("linear", "as_is"),
    "AlignAdversarial.rise": ("ramp", "constant"),
    "Binary.given": ("clicks", ""),
    "Dot.temperature": (None, 0.3),
    "Encoder.content_dropout": (0.0, 0.5),
    "Encoder.content_only": ((), ("item",)),
    "Encoder.generated": ((), ("item",)),
    "Encoder.id_dropout": (0.0, 0.5),
    "Encoder.shrink": (None, {"item": {"hash": 3}}),
    "ESCM2.clip": (0.05, 0.9),
    "ESCM2.estimator": ("dr", "ips"),
    "ESCM2.given": ("clicks", ""),
    "ESCM2.space": ("click", "like"),
    "ESMM.given": ("clicks", ""),
    "ESMM.space": ("click", "like"),
    "NextItem.drawn": ("uniform", "popularity"),
    "Regression.chosen_by": ("rmse", "mae"),
    "rise": ("constant", "ramp"),
}
BESIDE: dict[str, dict[str, Any]] = {  # Class.option -> what it needs beside it to be of use
    "Binary.calibration": {"given": "clicks"},
    "Binary.given": {"calibration": 0.5},
    "Encoder.generated": {"id_dropout": 0.5, "hides": "id"},
    "Encoder.hides": {"id_dropout": 0.5},
    "Encoder.sigma": {"numbers": "periodic"},
    "GRU4Rec.dropout": {"layers": 1},
    "NextItem.drawn": {"negatives": 3},
    "NextItem.own": {"negatives": 3},
}
STARTS = {"CrossStitch.own", "Encoder.sigma"}
"""Where weights begin: here they keep those that they are built with."""
SAME = {"checkpoint": "memory for time: the step is the same to the last digit"}
ELSEWHERE = {"Transformer.optional": "whether there may be no history: see below"}


def moved(owner: str, name: str, default: Any) -> tuple[Any, Any]:
    """Two legal values of an option."""
    for key in (f"{owner}.{name}", name):
        if key in MOVES:
            return MOVES[key]
    if isinstance(default, bool):
        return default, not default
    if isinstance(default, int):
        return default, default + 1
    if isinstance(default, float):
        return default, default / 2 or 0.3
    if isinstance(default, (tuple, list)):
        return tuple(default), tuple(each + 1 for each in default) or (2,)
    raise TypeError(f"{owner}.{name} has no two values here: add them to MOVES. Found {default!r}.")


def options(package: str) -> list[Any]:
    """Every option of every class of a package."""
    return [
        pytest.param(cls, name, id=f"{cls.__name__}-{name}") for cls in classes(package) for name in options_of(cls)
    ]


def options_of(cls: type[Any]) -> Iterator[str]:
    yield from (name for name in arguments(cls) if name not in COMPLETED or f"{cls.__name__}.{name}" in MOVES)


@pytest.fixture(autouse=True)
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GraftModule, "log_dict", lambda *_, **__: None)


def pair_of(cls: type[Any], name: str) -> list[dict[str, Any]]:
    """Settings with an option at each of two values."""
    owner = cls.__name__
    return [
        BESIDE.get(f"{owner}.{name}", {}) | {name: value} for value in moved(owner, name, arguments(cls)[name].default)
    ]


def step_of(model: GraftModule, given: Any, key: str) -> dict[str, Tensor]:
    """The loss and the gradients of a step."""
    if key not in STARTS:
        scramble(model)
    loss = step(model, given)
    return {"": loss} | {name: part.grad for name, part in model.named_parameters() if part.grad is not None}


def differ(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two steps do, in what both have; a weight that only one has shows in the loss, if it is of use."""
    both = [name for name in one if name in other and one[name].shape == other[name].shape]
    return any(not torch.equal(one[name].to_dense(), other[name].to_dense()) for name in both)


def holds(cls: type[Any], name: str, of: Any) -> None:
    """``of`` settings differs between the two values of an option, or the second is refused by its name."""
    one, other = pair_of(cls, name)
    before = of(one)
    try:
        after = of(other)
    except ValueError as error:
        assert name in str(error)  # noqa: PT017  most are legal: see the else
    else:
        assert differ(before, of(one)) is False  # nothing else moves
        assert differ(before, after) == (name not in SAME)


@pytest.mark.parametrize(("cls", "name"), options("models.trunks"))
def test_an_option_of_a_trunk_changes_its_step(cls: type[Trunk], name: str) -> None:
    if f"{cls.__name__}.{name}" in ELSEWHERE:
        return
    given = batches(shape_of(cls), cloze=cls.cloze)
    holds(cls, name, lambda settings: step_of(module(cls, **settings), given, f"{cls.__name__}.{name}"))


def test_a_transformer_goes_without_a_history_where_it_may() -> None:
    with pytest.raises(ValueError, match="history"):
        Transformer(3, WIDTH, False)
    assert Transformer(3, WIDTH, False, optional=True).out_dim


@pytest.mark.parametrize(("cls", "name"), options("models.interactions"))
def test_an_option_of_an_interaction_changes_its_step(cls: type[Interaction], name: str) -> None:
    holds(cls, name, lambda more: step_of(module(SharedBottom, interaction=cls, more=more), batches("rows"), ""))


@pytest.mark.parametrize("name", [*options_of(Encoder), "width"])
def test_an_option_of_the_encoder_changes_its_step(name: str) -> None:
    key = f"Encoder.{name}"
    holds(Encoder, name, lambda settings: step_of(module(SharedBottom, encoder=settings), batches("rows"), key))


HEADS = {"rows": (0, 1), "classes": (0, 4), "candidates": (WIDTH, 1)}  # width of a candidate, classes


@pytest.mark.parametrize("mode", HEADS)
@pytest.mark.parametrize(("cls", "name"), options("models.heads"))
def test_an_option_of_a_head_changes_what_it_says_of_all_that_it_can_read(
    cls: type[Head], name: str, mode: str
) -> None:
    item_dim, count = HEADS[mode]
    random = torch.Generator().manual_seed(1)
    z, candidate = torch.randn(ROWS, WIDTH, generator=random), torch.randn(ROWS, BRANDS, WIDTH, generator=random)
    sizes = {"in_dim": WIDTH, "item_dim": item_dim, "cross_dim": 0, "classes": count}
    sizes = {key: size for key, size in sizes.items() if key in arguments(cls)}
    made: Any = cls
    if mode != "candidates":
        try:
            made(**sizes)
        except (ValueError, TypeError) as error:
            assert "candidate" in str(error)  # noqa: PT017  then there is no such mode
            return

    def of(settings: dict[str, Any]) -> dict[str, Tensor]:
        head = made(**sizes, **settings).train()
        scramble(head)
        torch.manual_seed(0)
        return {"": head(z, candidate) if item_dim else head(z)}

    holds(cls, name, of)


@pytest.mark.parametrize(("cls", "name"), options("tasks"))
def test_an_option_of_a_task_changes_its_step_or_what_an_evaluation_says(cls: type[Task], name: str) -> None:
    shape, domains = task_shape(cls), domains_of(cls)

    def of(settings: dict[str, Any]) -> dict[str, Tensor]:
        model = plain(cls, **settings)
        found = step_of(model, batches(shape, domains=domains), f"{cls.__name__}.{name}")
        with torch.no_grad():
            given = ranking(shape) if cls.ranks else batches(shape, domains=domains)
            model.eval().validation_step(given, 0)
        said = model.task("own").compute()
        return found | {f"metric {key}": torch.tensor(each.value or 0.0) for key, each in said.items()} | {
            f"main is {model.task('own').main}": torch.zeros(()), "names": torch.zeros(len(said))
        }  # fmt: skip

    one, other = pair_of(cls, name)
    before = of(one)
    try:
        after = of(other)
    except ValueError as error:
        assert name in str(error)  # noqa: PT017  most are legal: see the else
    else:
        assert differ(before, of(one)) is False
        assert differ(before, after) or set(before) ^ set(after)


def test_an_option_that_nothing_reads_is_found() -> None:
    class Deaf(SharedBottom):
        def __init__(self, fields: int, width: int, history: bool, dropout: float = 0.0, deaf: int = 3) -> None:
            super().__init__(fields, width, history, dropout=dropout)
            self.spare = torch.nn.Linear(deaf, deaf)

    given = batches("rows")
    with pytest.raises(AssertionError):
        holds(Deaf, "deaf", lambda settings: step_of(module(Deaf, **settings), given, ""))
    holds(Deaf, "dropout", lambda settings: step_of(module(Deaf, **settings), given, ""))
