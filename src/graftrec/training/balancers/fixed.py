"""Weights chosen by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from graftrec.training.balancers.base import Balancer


class Fixed(Balancer):
    """sum_t w_t L_t with ``weights`` by task; a task that is not named has weight 1.

    Names that are no task here are left alone: a phase or a twin trains some of the tasks only. Whether they are tasks
    at all is checked with the configuration, before anything is built.

    Args:
        tasks: names in the order of the losses (completed by the program).
        weights: task -> its weight, at least 0; 1 for those that are not named.

    Raises:
        ValueError: a weight below 0 or not finite, or none above 0.
    """

    additive = True

    def __init__(self, tasks: Sequence[str], weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        chosen = dict(weights or {})
        if not all(0 <= weight < float("inf") for weight in chosen.values()):
            raise ValueError(f"weights should be finite and at least 0. Found {chosen}.")
        if len(tasks) > 1 and not any(chosen.get(task, 1.0) for task in tasks):
            raise ValueError(f"weights should not all be 0. Found {chosen}.")
        values = [chosen.get(task, 1.0) for task in tasks] if len(tasks) > 1 else [1.0]
        self.register_buffer("weights", torch.tensor(values), persistent=False)  # the configuration has them
        self.weights: Tensor

    def forward(self, losses: Tensor, gramian: Tensor | None = None) -> Tensor:
        return (self.weights.to(losses) * losses).sum()
