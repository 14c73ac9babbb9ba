"""Which class each place of a tree asks for: nothing else is built there, and nothing is built anywhere else.

A name under an allowed package is not enough: ``pytorch_lightning.cli.LightningCLI`` is defined under one of them, and
runs whatever its arguments name.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any

SLOTS: dict[str, tuple[str, ...]] = {  # key of the tree -> classes, by their full names
    "dataset": ("graftrec.data.datasets.base.Dataset",),
    "protocol": ("graftrec.data.protocols.base.Protocol",),
    "split": ("graftrec.data.splits.base.Split",),
    "history": ("graftrec.data.streams.sampling_config.History",),
    "candidates": ("graftrec.data.streams.sampling_config.Candidates",),
    "encoder": ("graftrec.models.encoder.Encoder",),
    "interaction": ("graftrec.models.interactions.base.Interaction",),
    "trunk": ("graftrec.models.trunks.base.Trunk",),
    "balancer": ("graftrec.training.balancers.base.Balancer",),
    "transfer": ("graftrec.transfer.base.Transfer",),
    "optimizer": ("torch.optim.Optimizer",),
    "trainer": ("pytorch_lightning.Trainer",),
    "logger": ("graftrec.training.loggers.logs.CsvLog", "graftrec.training.loggers.logs.WandbLog"),
}
TASK = ("graftrec.tasks.base.Task",)  # of every key under a role


def classes_of(hint: Any) -> tuple[type[Any], ...]:
    """The classes that a constructor's hint asks for, also in lists and mappings; none for ``Any`` and functions."""
    inner = typing.get_args(hint)
    if typing.get_origin(hint) is Callable:
        return ()
    if inner:
        return tuple(dict.fromkeys(found for part in inner for found in classes_of(part)))
    return (hint,) if inspect.isclass(hint) and hint.__module__ != "builtins" else ()
