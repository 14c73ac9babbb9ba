"""The contract of every balancer, and what those that read gradients have in common."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

Place = Literal["representation", "layer", "trunk"]


class Balancer(nn.Module, ABC):
    """Losses (T,), already times their role's weight, and if asked for their gradients' Gramian (T, T) -> scalar.

    A weight is d scalar / d loss. Weights add up to T, as in the plain sum, wherever a method fixes them only up to a
    common factor, so that one learning rate serves all balancers; a method that says otherwise says so. A task alone
    has weight 1: there is nothing to balance. A loss of exactly 0 is a task without rows in this batch, or one that
    rests in this phase: it takes no part.

    Every process has to come to the same weights, so ``forward`` depends on nothing but its arguments and its own
    state: parameters, and buffers that change once per call in training mode and are saved in checkpoints.

    Args (completed by the program): ``tasks``, the names in the order of the losses; ``seed`` for those that draw.
    """

    needs_gramian: bool = False
    additive: bool = False  # True: balancing parts of a batch and taking the mean is balancing the whole
    at: Place = "layer"  # where gradients are compared
    looks_again: bool = False  # True: `look` is told what the losses of a batch are after the step that it was for

    # What tests hold a method to. Scale-invariant: after a warm-up, if it has one, the direction of the update does not
    # depend on the unit of a loss. So weights of tasks and lambda_shared change nothing, and are refused (`together`)
    scale_invariant: bool = False
    permutation_equivariant: bool = True  # the order of the tasks does not matter
    no_conflict: bool = False  # to first order the update makes no task worse: (G w)_t >= 0

    @abstractmethod
    def forward(self, losses: Tensor, gramian: Tensor | None = None) -> Tensor:
        """The scalar that one ordinary backward minimises."""

    def look(self, losses: Tensor) -> None:
        """The losses (T,) of the last ``forward`` once more, after its step; a step that was left out has no look."""


class GramianBalancer(Balancer):
    """sum_t w_t L_t with constant weights w (T,) from the Gramian G_ij = <g_i, g_j> of the tasks' gradients.

    ``at`` says where gradients are taken: ``representation`` at the output of the last module that all tasks share
    (cheapest; tasks of one stream), ``layer`` at its parameters (any streams), ``trunk`` at all parameters of the trunk
    (exact, and as many numbers as the trunk has). Papers give the combined gradient to shared parameters only; here a
    head's gradient has its task's weight as well, so that one ordinary backward does it all. Therefore a weight below
    0, which would make a head climb, counts as 0. A task without a gradient there conflicts with none: its weight is 1.

    Args:
        at: ``representation``, ``layer`` or ``trunk``.
    """

    needs_gramian = True

    def __init__(self, at: Place = "layer") -> None:
        super().__init__()
        if at not in ("representation", "layer", "trunk"):
            raise ValueError(f"at should be representation, layer or trunk. Found {at}.")
        self.at = at

    def forward(self, losses: Tensor, gramian: Tensor | None = None) -> Tensor:
        """The weighted sum; without a Gramian nothing shared is trained, and it is the plain one."""
        if gramian is None:
            return losses.sum()
        if gramian.shape != (len(losses), len(losses)):
            raise ValueError(f"gramian should be {len(losses)} x {len(losses)}. Found {tuple(gramian.shape)}.")
        with torch.no_grad():
            weights = self._all_weights(gramian.double().cpu(), losses.double().cpu())
        return (weights.to(losses) * losses).sum()

    def _all_weights(self, gramian: Tensor, losses: Tensor) -> Tensor:
        if not gramian.isfinite().all():  # solvers would hide it, or never end
            return torch.full_like(losses, torch.nan)
        active = gramian.diagonal() > 0
        weights = torch.ones_like(losses)
        if active.sum() > 1:
            unit, norms = cosines(gramian[active][:, active])
            squares, vectors = torch.linalg.eigh(unit)
            unit = vectors * squares.clamp_min(0) @ vectors.T  # float32 leaves squared lengths below 0 behind
            norms = norms / norms.pow(2).mean().sqrt()
            found = self.weights(norms[:, None] * unit * norms, losses[active], active)
            weights[active] = found.clamp_min(0)
        return weights

    @abstractmethod
    def weights(self, gramian: Tensor, losses: Tensor, active: Tensor) -> Tensor:
        """Weights (N,) of the N >= 2 tasks that ``active`` (T,) marks, all with a gradient.

        ``gramian`` (N, N) is positive semi-definite with a mean diagonal of 1; it and ``losses`` (N,) are float64 on
        the CPU.
        """


def cosines(gramian: Tensor) -> tuple[Tensor, Tensor]:
    """Gramian (T, T) of unit gradients, and the norms (T,): G = diag(norms) cosines diag(norms)."""
    norms = gramian.diagonal().sqrt()
    return gramian / (norms[:, None] * norms), norms


def shares(scores: Tensor, present: Tensor) -> Tensor:
    """softmax of ``scores`` (T,) over the N tasks that are ``present`` (T,), times N; 0 for the others."""
    softmax = scores.masked_fill(~present, -torch.inf).softmax(0)
    return torch.where(present, softmax * present.sum(), torch.zeros_like(softmax))


def generator(seed: int, step: int) -> torch.Generator:
    """For the draws of one step: all processes, and a run that goes on from a checkpoint, draw the same."""
    digest = hashlib.sha256(f"{seed}/{step}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))


def check_not_negative(losses: Tensor, method: str) -> None:
    """ValueError for losses that a method of logarithms or ratios is not defined for."""
    if (losses < 0).any():
        raise ValueError(f"{method} needs losses of at least 0. Found {losses.tolist()}; balancer=sum takes any.")
