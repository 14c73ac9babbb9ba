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


def undecayed(model: nn.Module) -> list[nn.Parameter]:
    """Parameters that weight decay would pull to where they say something: biases, norms, scales, gates, log weights.

    These are all of at most one axis, every ``bias``, and what a module names in its class attribute ``no_decay`` (a
    gate or a stitch of two axes). Decoupled decay pulls to 0, and 0 is no neutral value of a gate or of a norm's scale
    (as in the authors' code of GPT-2 and BERT: decay for matrices alone).

    Raises:
        TypeError: ``no_decay`` names what is no parameter of its module.
    """
    spared: list[nn.Parameter] = []
    for part in model.modules():
        spared += [one for name, one in part.named_parameters(recurse=False) if one.ndim <= 1 or name == "bias"]
        for name in getattr(type(part), "no_decay", ()):
            named = getattr(part, name, None)
            if not isinstance(named, nn.Parameter | nn.ParameterList):
                raise TypeError(f"no_decay of {type(part).__name__} should name its parameters. Found {name}.")
            spared += [named] if isinstance(named, nn.Parameter) else list(named)
    return spared


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
