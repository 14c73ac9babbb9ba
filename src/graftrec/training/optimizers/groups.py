"""Rates and decay of parts of a model, in any optimizer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn


def paced(optimizer: torch.optim.Optimizer, named: Mapping[str, nn.Parameter], rates: Mapping[str, float]) -> None:
    """Multiply the learning rate of parameters by the factor of the longest prefix of their names, before any step.

    Args:
        optimizer: whose groups are split. named: parameters by name. rates: prefix -> factor.
    """
    if not rates:
        return
    order = sorted(rates, key=len, reverse=True)
    factor = {id(part): next((rates[p] for p in order if name.startswith(p)), 1.0) for name, part in named.items()}
    groups = []
    for group in optimizer.param_groups:
        for own in dict.fromkeys(factor[id(part)] for part in group["params"]):
            parts = [part for part in group["params"] if factor[id(part)] == own]
            groups.append({**group, "params": parts, "lr": group["lr"] * own})
    optimizer.param_groups[:] = groups


def spare(optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter]) -> None:
    """Take parameters out of their groups into others without weight decay, before any step."""
    spared = {id(parameter) for parameter in parameters}
    groups = []
    for group in optimizer.param_groups:
        for exempt in (False, True):
            members = [parameter for parameter in group["params"] if (id(parameter) in spared) == exempt]
            if members:
                changed = {"weight_decay": 0.0} if exempt and "weight_decay" in group else {}
                groups.append({**group, "params": members, **changed})
    optimizer.param_groups[:] = groups


def without_decay(optimizer: torch.optim.Optimizer) -> None:
    """No weight decay of the optimizer's own."""
    for group in optimizer.param_groups:
        group.update({name: 0.0 for name in ("weight_decay", "table_decay") if name in group})
