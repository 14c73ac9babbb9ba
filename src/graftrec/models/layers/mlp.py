"""A multi-layer perceptron."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def check_layers(hidden: Sequence[int], dropout: float) -> None:
    """Widths and dropout that a network can be built with.

    Raises:
        ValueError: no layer, a width below 1, or a dropout outside [0, 1).
    """
    if not hidden or min(hidden) < 1:
        raise ValueError(f"hidden should be a list of widths of at least 1. Found {list(hidden)}.")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout should be in [0, 1). Found {dropout}.")


def mlp(in_dim: int, hidden: Sequence[int], dropout: float = 0.0) -> nn.Sequential:
    """Linear - ReLU - dropout for each width in ``hidden``: (..., in_dim) -> (..., hidden[-1]).

    Raises:
        ValueError: no layer, a width below 1, or a dropout outside [0, 1).
    """
    check_layers(hidden, dropout)
    layers: list[nn.Module] = []
    for width in hidden:
        # always three layers, so that a parameter's name does not depend on the dropout
        layers += [nn.Linear(in_dim, width), nn.ReLU(), nn.Dropout(dropout)]
        in_dim = width
    return nn.Sequential(*layers)


def last_linear(net: nn.Sequential) -> nn.Module:
    """The last linear layer of what `mlp` made; a ReLU and dropout follow it."""
    return net[-3]
