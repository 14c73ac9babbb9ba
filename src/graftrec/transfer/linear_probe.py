"""Heads on representations that stay as they are."""

from __future__ import annotations

from torch import nn

from graftrec.transfer.base import SHARED, Means, Past, Phase, Transfer, at_least_one


class LinearProbe(Transfer):
    """First the source and shared tasks, then the target's head alone, on z of an encoder and trunk at rest.

    G. Alain, Y. Bengio, Understanding Intermediate Layers Using Linear Classifier Probes, 2016,
    https://arxiv.org/abs/1610.01644: what a linear head reads off z was already there. It is linear where the target's
    head is. What is frozen is in evaluation mode too: no dropout, no statistics that move.

    Args:
        pretrain, probe: epochs of the phases.
    """

    def __init__(self, pretrain: int = 2, probe: int = 4) -> None:
        at_least_one(pretrain=pretrain, probe=probe)
        self.pretrain, self.probe = pretrain, probe

    def phases(self) -> list[Phase]:
        return [
            Phase("pretrain", ("source", "shared"), self.pretrain),
            Phase("probe", ("target",), self.probe, SHARED, start_from="pretrain", means=(Still(),)),
        ]


class Still(Means):
    """Encoder, interaction and trunk in evaluation mode."""

    def start(self, model: nn.Module, past: Past) -> None:
        for name, part in model.named_children():
            if f"{name}." in SHARED:
                part.eval()
