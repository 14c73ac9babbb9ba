"""A network of tasks that depend on each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftrec.data.batch import Encoded
from graftrec.models.layers.experts import Experts
from graftrec.models.layers.mlp import last_linear, mlp
from graftrec.models.trunks.base import Trunk, flat


class DBMTL(Trunk):
    """z_t = relu(W_t [f_t(s(x)); z_p of each parent p of t] + b_t): layers shared s, specific f_t, then Bayesian W_t.

    Q. Wang et al., Deep Bayesian Multi-Target Learning for Recommender Systems, 2019,
    https://arxiv.org/abs/1902.09154. The probability of all labels is the product of each one's given its parents', as
    in a Bayesian network.

    x is all fields side by side and the mean of the history, (B, F * D) or (B, (F + 1) * D); z_t is (B, hidden[-1]).

    Where we differ: a Bayesian layer is one layer, and parents enter as what their own Bayesian layers say.

    Args:
        shared, hidden: widths of the shared and of each task's specific layers, each at least one of at least 1.
        parents: task -> its parents, with an entry for every task and without a cycle (default: all tasks before it).
            Names of tasks that rest are passed over.
        dropout: behind every shared layer, in [0, 1).
    """

    def __init__(
        self,
        fields: int,
        width: int,
        history: bool,
        tasks: Sequence[str],
        shared: Sequence[int] = (128,),
        hidden: Sequence[int] = (64,),
        parents: Mapping[str, Sequence[str]] | None = None,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.tasks = list(tasks)
        self.parents = _checked(self.tasks, parents)
        self.shared = mlp((fields + history) * width, shared, dropout)
        self.specific = Experts(len(tasks), shared[-1], hidden)
        self.out_dim = k = hidden[-1]
        self.bayes = nn.ModuleList(nn.Linear(k * (1 + len(self.parents[task])), k) for task in tasks)

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        h, z = self.specific(self.shared(flat(encoded))), {}  # h (T, B, out_dim)

        def of(task: str) -> Tensor:
            if task not in z:
                at = self.tasks.index(task)
                z[task] = F.relu(self.bayes[at](torch.cat([h[at], *map(of, self.parents[task])], -1)))
            return z[task]

        return {task: of(task) for task in tasks}

    def meeting(self) -> nn.Module:
        return last_linear(self.shared)


def _checked(tasks: list[str], parents: Mapping[str, Sequence[str]] | None) -> dict[str, list[str]]:
    """Parents of each of ``tasks``; ValueError for what is no network of tasks.

    A phase or the twin builds the trunk with some of the tasks, from the same settings: so a name is right if it has an
    entry of its own.
    """
    if parents is None:
        return {task: tasks[:at] for at, task in enumerate(tasks)}
    entries = {*tasks, *(name for names in parents.values() for name in names)}
    if not entries <= set(parents):
        missing = sorted(entries - set(parents))
        raise ValueError(f"parents should have an entry for every task and every parent. Found none for {missing}.")
    twice = [task for task, names in parents.items() if len(set(names)) < len(names)]
    if twice:
        raise ValueError(f"parents should name each parent once. Found one twice for {twice}.")
    try:
        TopologicalSorter(parents).prepare()
    except CycleError as error:
        raise ValueError(f"parents should have no cycle. Found {' - '.join(error.args[1])}.") from error
    return {task: [name for name in parents[task] if name in tasks] for task in tasks}
