"""Whatever is typed for an option is refused in words, or makes an object; it never ends in another error."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from tiny import TABLES, WIDTH, edges, shape_of, streams
from torch import nn

from discovery import classes, path_of
from graftrec.config.instantiate import arguments, build, problems_of_tree, settable
from graftrec.config.value_rules import PASSED, TRAINER
from graftrec.data.datasets.planted import Planted
from graftrec.data.schema import Schema
from graftrec.data.splits.temporal import ByTime
from graftrec.data.streams.sampling_config import Candidates, History
from graftrec.models.encoder import Encoder
from graftrec.training.fit import check_trainer
from graftrec.training.optimizers.rowwise import RowWise
from graftrec.utils.errors import UserError

ODD: list[Any] = [-1, 0, 0.5, 2**40, -(2**40), 1e30, -1e30, 5e-324, float("nan"), float("inf"), "", "x", "1e-3", True]
ODD += [None, [], [0.9], [-1, -1], [float("nan"), 0.5], {}, {"a": -1}, [["x"]]]
SLOTS = {
    "models.trunks": "trunk",
    "models.interactions": "interaction",
    "training.balancers": "balancer",
    "transfer": "transfer",
    "data.splits": "split",
    "data.protocols": "protocol",
}
HEADS = {"models.heads": "head", "tasks.losses": "loss"}  # parts of a task
NAMES = ["one", "other"]


def known_of(package: str, cls: type[Any]) -> dict[str, Any]:
    """What the program completes for a class of this package."""
    if package == "models.trunks":
        schema = Schema(TABLES, streams(shape_of(cls)))
        named = {name: ["user", "item", "numbers"] for name in schema.streams}
        return {"fields": 3, "width": WIDTH, "history": True, "tasks": NAMES, "streams": named,
                "edges": edges(list(named)), "behaviours": dict.fromkeys(named, 5)}  # fmt: skip
    if package == "data.protocols":
        return {"dataset": Planted(), "split": ByTime(), "history": History(), "candidates": Candidates()}
    return {
        "models.interactions": {"fields": 3, "width": WIDTH},
        "training.balancers": {"tasks": NAMES, "seed": 0},
        "models.heads": {"in_dim": WIDTH, "item_dim": WIDTH, "cross_dim": 1, "classes": 1},
    }.get(package, {})


def cases() -> Iterator[Any]:
    """Each class with the key of the tree that it stands at, and what it is built with."""
    for package, key in (SLOTS | HEADS).items():
        for cls in classes(package):
            yield pytest.param(cls, key, known_of(package, cls), id=cls.__name__)
    yield pytest.param(Encoder, "encoder", {"schema": Schema(TABLES, streams("rows"))}, id="Encoder")
    yield pytest.param(History, "history", {}, id="History")
    yield pytest.param(Candidates, "candidates", {}, id="Candidates")
    for cls in (RowWise, torch.optim.AdamW, torch.optim.SGD, torch.optim.Adagrad, torch.optim.RMSprop):
        yield pytest.param(cls, "optimizer", {"params": [nn.Parameter(torch.zeros(2, 2))]}, id=cls.__name__)


def refused(tree: dict[str, Any], key: str, option: str) -> bool:
    """Whether the check of a tree names the option."""
    whole: dict[str, Any] = {key: tree}
    where = f"{key}.{option}"
    if key in HEADS.values():
        whole, where = {"target": {"t": {"_target_": "graftrec.tasks.binary.Binary", key: tree}}}, f"target.t.{where}"
    return any(problem.startswith(where) for problem in problems_of_tree(whole))


@pytest.mark.parametrize(("cls", "key", "known"), list(cases()))
def test_every_option_takes_odd_values_or_says_why_not(cls: type[Any], key: str, known: dict[str, Any]) -> None:
    needed = {name: given for name, given in known.items() if name in arguments(cls)}
    for option in settable(cls):
        for value in ODD:
            tree = {"_target_": path_of(cls), option: value}
            if refused(tree, key, option):
                continue
            try:
                with suppress(UserError):
                    build(tree, **needed)
            except Exception as error:
                raise AssertionError(f"{option}={value!r}: {type(error).__name__}: {error}") from error


def test_every_argument_of_a_trainer_is_checked_or_is_the_programs() -> None:
    """Those that Lightning checks itself are tried; what the program passes is refused, whatever it is."""
    for option in inspect.signature(pl.Trainer).parameters:
        for value in ODD:
            tree = {"_target_": "pytorch_lightning.Trainer", "accelerator": "cpu", option: value}
            named = [text for text in problems_of_tree({"trainer": tree}) if text.startswith(f"trainer.{option}")]
            if named:
                continue
            assert option not in PASSED
            try:
                with suppress(UserError):
                    check_trainer({"trainer": tree})
            except Exception as error:
                raise AssertionError(f"{option}={value!r}: {type(error).__name__}: {error}") from error
    assert {*TRAINER, *PASSED} <= {*inspect.signature(pl.Trainer).parameters}
