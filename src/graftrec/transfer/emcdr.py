"""A map from the source's users to the target's."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graftrec.transfer.base import Means, Past, Phase, Transfer, at_least_one
from graftrec.transfer.rows import SeenRows
from graftrec.transfer.users import Shared


class EMCDR(Transfer):
    """Users of the source alone get f(u_source), f learnt on users of both domains: min sum |f(u_source) - u_target|^2.

    T. Man, H. Shen, X. Jin, X. Cheng, Cross-Domain Recommendation: An Embedding and Mapping Approach, IJCAI 2017,
    https://doi.org/10.24963/ijcai.2017/343, section 4: both domains are learnt alone, each with its own vectors; f is
    linear or a network with one hidden layer of tanh, twice as wide as D there.

    Where we differ: any encoder and trunk stand in place of the factorisation, and u is the user's own row of the
    shared table; the linear f is solved for at once; there is no penalty on f.

    Args:
        source, target: epochs of the phases. hidden: width of f's hidden layer over D, 0 for a linear f. steps: of
            Adam, all users of both domains in each.
    """

    def __init__(self, source: int = 2, target: int = 4, hidden: int = 2, steps: int = 500) -> None:
        at_least_one(source=source, target=target, steps=steps)
        if hidden < 0:
            raise ValueError(f"hidden should be at least 0. Found {hidden}.")
        self.source, self.target, self.hidden, self.steps = source, target, hidden, steps

    def phases(self) -> list[Phase]:
        there, here = SeenRows(), SeenRows()
        mapping = Mapping("source", there, here, self.hidden, self.steps)
        return [
            Phase("source", ("source", "shared"), self.source, means=(there,)),
            Phase("target", ("target",), self.target, means=(here, mapping)),
        ]


class Mapping(Means):
    """Learns the map when the target's phase has ended, and gives the source's users their rows."""

    gives_users = True

    def __init__(self, phase: str, there: SeenRows, here: SeenRows, hidden: int, steps: int) -> None:
        self.phase, self.there, self.here, self.hidden, self.steps = phase, there, here, hidden, steps

    def start(self, model: nn.Module, past: Past) -> None:
        self._users = Shared(model, past, self.phase)

    def finish(self, model: nn.Module) -> str:
        both, alone = self._users.split(self.there, self.here)
        if len(both) and len(alone):
            source, target = self._users.source, self._users.target(model)
            if self.hidden:
                mapped = by_network(source[both], target[both], source[alone], self.hidden, self.steps)
            else:
                mapped = source[alone] @ linear(source[both], target[both])
            target[alone] = mapped
        return f"{len(alone):,} users of the source alone mapped, by what {len(both):,} users of both domains show"


def linear(source: Tensor, target: Tensor) -> Tensor:
    """M (D, D) with the least |source M - target|^2 of vectors (n, D), the smallest if there are several."""
    found: Tensor = torch.linalg.pinv(source) @ target
    return found


def by_network(source: Tensor, target: Tensor, asked: Tensor, hidden: int, steps: int) -> Tensor:
    """What a network that learnt ``source`` (n, D) -> ``target`` (n, D) makes of ``asked`` (m, D)."""
    width = source.shape[1]
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(width, hidden * width), nn.Tanh(), nn.Linear(hidden * width, width))
        optimizer = torch.optim.Adam(network.parameters(), 0.01)
        for _ in range(steps):
            optimizer.zero_grad()
            (network(source) - target).square().sum(1).mean().backward()
            optimizer.step()
    with torch.no_grad():
        found: Tensor = network(asked)
    return found
