"""Tasks that are judged by how they rank a whole catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from graftrec.data.batch import Batch
from graftrec.tasks.base import Task, gathered, of_all
from graftrec.tasks.metrics.beyond_accuracy import Lists
from graftrec.tasks.metrics.pointwise import Value
from graftrec.tasks.metrics.ranking import per_user

COHORTS = ("cold_", "history_")  # those that may be empty, and are then left out


class RankingTask(Task):
    """ndcg@k, recall@k, hr@k, mrr@k, map@k and gauc: means over users with a relevant item, over all and per cohort.

    See `per_user`; coverage@k, novelty@k and popularity_bias@k are of all users' lists together, see `Lists`. Rankings
    are logits (B, N) of users and the catalogue.
    """

    ranks = True
    k = 10
    at: tuple[int, ...] = ()
    relevant = "relevant"  # the column that says what a ranking should have found
    _parts: dict[str, list[Tensor]] | None = None
    _units: dict[str, Tensor] | None = None

    def judge_at(self, k: int, at: Sequence[int] = ()) -> None:
        """Length of the list that counts, and further ones that are judged."""
        for name, length in (("k", k), *(("at", length) for length in at)):
            if length < 1:
                raise ValueError(f"{name} should be at least 1. Found {length}.")
        self.k, self.main = k, f"ndcg@{k}"
        self.at = tuple(length for length in dict.fromkeys(at) if length != k)
        self._lists = Lists((k, *self.at))

    def update(self, logits: Tensor, batch: Batch, given: Tensor | None = None) -> None:
        scores = logits.detach().float()
        found = {"user": batch["query"], **per_user(scores, batch, self.k, self.at)}
        self._lists.update(scores, batch)
        self._parts = self._parts or {}
        for name, values in found.items():
            self._parts.setdefault(name, []).append(values)

    def compute(self) -> dict[str, Value]:
        found, lists = gathered(self._parts or {}), self._lists.compute(of_all)
        self._parts, self._units = None, {}
        if not found:
            return {self.main: Value(None, "0 users")}
        order = torch.argsort(found["user"], stable=True)
        self._units = {name: values[order] for name, values in found.items()}
        return of_users({name: values for name, values in found.items() if name != "user"}, lists)

    def units(self) -> dict[str, Tensor]:
        return self._units or {}


def of_users(found: Mapping[str, Tensor], lists: Mapping[str, Value]) -> dict[str, Value]:
    """Mean of each metric's values (U,) over the users who have one, and the metrics of all ``lists``; cohorts last.

    A cohort of `COHORTS` that nobody is in is left out.
    """
    means: dict[str, Value] = {}
    for name, values in found.items():
        kept = values[~values.isnan()]
        if len(kept):
            means[name] = Value(float(kept.mean()))
        elif not name.partition("/")[2].startswith(COHORTS):
            means[name] = Value(None, "0 users with a relevant item")
    return dict(sorted((means | dict(lists)).items(), key=lambda item: "/" in item[0]))
