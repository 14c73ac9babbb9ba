"""Which parameters are no matrices: what weight decay, low rank and bottlenecks leave alone."""

from __future__ import annotations

from torch import nn


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
