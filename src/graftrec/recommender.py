"""A trained run that answers: which items for these users?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import polars as pl
import torch
from torch import Tensor

from graftrec.assemble import assemble, protocol_of, streams_of, task_trees
from graftrec.checkpoint import configuration, weights
from graftrec.config import build, near, problems_of_tree
from graftrec.data.protocols.base import Protocol
from graftrec.data.streams.baskets import BasketRows
from graftrec.data.streams.sequences import SequenceRows
from graftrec.errors import DataError, UserError
from graftrec.module import GraftModule
from graftrec.transfer.base import Transfer

At = Literal["test", "val", "latest"]


class Recommender:
    """A trained target that ranks its catalogue.

        Recommender.load("runs/2026-11-24_10-00-00").recommend([1, 22], k=10)

    Args:
        module: trained. protocol: prepared, with the streams that the module reads. task: a ranking task's name.
    """

    def __init__(self, module: GraftModule, protocol: Protocol, task: str) -> None:
        self.module, self.protocol, self.task = module.eval(), protocol, task
        stream = protocol.streams[module.task(task).stream]
        if not module.task(task).ranks or not isinstance(stream, (BasketRows, SequenceRows)):
            raise UserError(f"task '{task}' ranks no catalogue, so it recommends nothing")
        self.stream = stream
        self._users = protocol.users_of(stream.schema.name)
        self._items = protocol.items_of(stream.schema.name)

    @classmethod
    def load(cls, run: str | Path, task: str | None = None) -> Recommender:
        """Load the best checkpoint of a run folder and prepare the data it was trained on.

        Args:
            run: folder that ``graftrec train`` left. task: a target (default: the first).

        Raises:
            UserError: a checkpoint whose configuration is not allowed, or no such task. DataError: no checkpoint.
        """
        path = Path(run) / "checkpoints" / "best.ckpt"
        tree = configuration(path)
        problems = problems_of_tree(tree)  # it may come from a stranger: nothing is built before this
        if problems:
            raise UserError([f"{path}: {problem}" for problem in problems])
        targets = list(tree["target"])
        if task is not None and task not in targets:
            raise UserError(f"{run} has no target '{task}'{near(task, targets)}")
        transfer: Transfer = build(tree["transfer"])
        roles = transfer.phases()[-1].roles
        protocol = protocol_of(tree)
        protocol.prepare(streams_of(tree, roles), judged=streams_of(tree, ("target",)))
        module = assemble(tree, protocol, roles, int(tree["seed"]))
        try:
            module.load_state_dict(weights(path))
        except RuntimeError as error:
            raise DataError(
                "CKPT-003", f"{path} does not fit what its configuration builds now (data or code changed): {error}"
            ) from error
        return cls(module, protocol, task or next(iter(task_trees(tree, ("target",)))))

    def users(self, at: At = "test") -> list[Any]:
        """Raw ids of the users that evaluation ranked for, or at ``latest`` of all."""
        if at == "latest":
            return self._users.keys.to_list()
        return self._users.decode(self.stream.users(at).numpy()).to_list()

    @torch.no_grad()
    def scores(self, users: Sequence[Any], at: At = "test") -> Tensor:
        """Probabilities (U, N) of the catalogue for raw user ids; a stranger gets what is known of everybody."""
        numbers = torch.from_numpy(self._users.encode(pl.Series(list(users), strict=False)))
        parts = []
        for part in torch.split(numbers, self.stream.ranked_at_once):
            batch = self.stream.state(part, at)
            logits = self.module(self.stream.schema.name, batch, [self.task])[self.task]
            parts.append(self.module.task(self.task).predict(logits))
        return torch.cat(parts) if parts else torch.zeros(0, len(self.stream.lines.items))

    def recommend(self, users: Sequence[Any], k: int = 10, seen: bool | None = None, at: At = "test") -> pl.DataFrame:
        """The k best items of each user: columns user, item, score (probability), rank (from 1).

        Args:
            users: raw ids; ids that training never saw are served from what everybody buys.
            k: items per user, fewer where there are no more. seen: also items that the user chose before; none: if
                evaluation ranked them as well, see ``candidates.seen``.
            at: the state that is asked: ``test`` as evaluation saw it, ``latest`` after the last row.

        Raises:
            ValueError: k below 1.
        """
        if k < 1:
            raise ValueError(f"k should be at least 1. Found {k}.")
        users = list(users)
        scores = self.scores(users, at)
        seen = self.stream.lines.seen if seen is None else seen
        if not seen and users:
            numbers = torch.from_numpy(self._users.encode(pl.Series(users, strict=False)))
            scores = scores.masked_fill(~self.stream.fresh(numbers, at), -1.0)
        best, place = torch.sort(scores, dim=1, descending=True, stable=True)
        best, place = best[:, :k], place[:, :k]
        width = best.shape[1]
        frame = pl.DataFrame(
            {
                "user": pl.Series(users, strict=False).gather(
                    torch.arange(len(users)).repeat_interleave(width).numpy()
                ),
                "item": self._items.decode(self.stream.lines.items[place.flatten()].numpy()),
                "score": best.flatten().numpy(),
                "rank": torch.arange(1, width + 1).repeat(len(users)).numpy(),
            }
        )
        return frame.filter(pl.col("score") >= 0)
