"""The contract of every loss, and the one mean that all of them use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from graftrec.data.schema import Label

Form = Literal["one", "list", "odds", "cumulative", "quantiles"]
"""What an output means: an answer for each label, a row of candidates (B, C) as a whole, the odds whose exp is a
number, cumulative logits (B, C - 1) of ordered classes, or quantiles (B, Q) of a number."""


class Loss(nn.Module, ABC):
    """A loss per label; mask and mean are `masked_mean`'s."""

    of: Literal["logits", "prediction"] = "logits"  # what the first argument is: raw logits, or the task's prediction
    kinds: tuple[str, ...]  # of labels that it is defined for
    form: Form = "one"  # a task says which it gives
    in_unit = False  # True: the unit of a number has a meaning in it, so labels are not scaled for it

    @abstractmethod
    def forward(self, output: Tensor, label: Tensor) -> Tensor:
        """Loss of each label, in the shape of ``label``."""

    def check(self, label: Label) -> None:
        """ValueError where the loss was set up for another label than ``label``, which is of one of its kinds."""

    def sampled(self, rate: float) -> None:
        """Told by a task that draws negatives: which share of all other items it draws for a positive."""

    def start(self, negatives: int) -> float:
        """The best logit that a positive and so many negatives of its list could share; 0 where any serves as well."""
        return 0.0

    def measure(self, output: Tensor, label: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Losses and which of them count: here one for every label that is ``known``, 0 stands for those that are not.

        A loss on lists overrides this: it leaves unknown candidates out and counts positives only.
        """
        return self(output, label), known


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``values`` over the labels that ``mask`` keeps, over all processes.

    No label at all gives an exact 0 that still has a graph.
    """
    return torch.where(mask, values, torch.zeros_like(values)).sum() * everywhere(mask.sum())


def everywhere(count: Tensor) -> Tensor:
    """What a sum over ``count`` labels of this process is multiplied with to become the mean over all processes.

    DDP averages gradients over ranks, so each rank divides by the global count and multiplies by the number of ranks;
    otherwise ranks with few labels would weigh too much.
    """
    ranks = 1
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        count, ranks = count.clone(), dist.get_world_size()
        dist.all_reduce(count)
    return ranks / count.clamp_min(1)
