"""A trained run that answers: which items for these users?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import polars as pl
import torch
from torch import Tensor

from graftrec.config.instantiate import build, near, problems_of_tree, resolve
from graftrec.data.protocols.base import Protocol
from graftrec.data.streams.baskets import BasketRows
from graftrec.data.streams.sequences import SequenceRows
from graftrec.models.propagation import candidates
from graftrec.tasks.metrics.top_k import Best, best_of, merged
from graftrec.training.builder import assemble, learnt_in, protocol_of, streams_of
from graftrec.training.checkpoints.checkpoint import belongs_to, check_data, configuration_in, load
from graftrec.training.fit import data_of
from graftrec.training.lightning_module import GraftModule
from graftrec.transfer.base import Transfer
from graftrec.utils.errors import DataError, UserError
from graftrec.utils.yaml_loader import check_plain

At = Literal["test", "val", "latest"]
USERS = 128  # of a block: more encode the items less often, but leave the cache (512 take 1.5 to 1.9 times as long)
PAIRS = 1_000_000  # of users and items whose scores are there at once


class Recommender:
    """A trained target that ranks its catalogue.

        Recommender.load("runs/2026-11-24_10-00-00").recommend([1, 22], k=10)

    Args:
        module: trained. protocol: prepared, with the streams that the module reads. task: a ranking task's name.
    """

    def __init__(self, module: GraftModule, protocol: Protocol, task: str) -> None:
        self.module, self.protocol, self.task = module.eval(), protocol, task
        stream = protocol.stream(module.task(task).stream, module.encoder.schema.streams)
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
        loaded = load(path)
        tree = configuration_in(loaded, path)
        check_plain(tree, str(path))
        problems = problems_of_tree(tree)  # it may come from a stranger: nothing is built before this
        if problems:
            raise UserError([f"{path}: {problem}" for problem in problems])
        targets = list(tree["target"])
        if task is not None and task not in targets:
            raise UserError(f"{run} has no target '{task}'{near(task, targets)}")
        asked = task or targets[0]
        if not resolve(tree["target"][asked]["_target_"]).ranks:  # before any data is read
            ranked = [name for name in targets if resolve(tree["target"][name]["_target_"]).ranks]
            others = f"; those that do: {', '.join(ranked)}" if ranked else ", and so do the others of this run"
            raise UserError(f"task '{asked}' ranks no catalogue, so it recommends nothing{others}")
        transfer: Transfer = build(tree["transfer"])
        last = transfer.phases()[-1]
        roles = last.roles
        protocol = protocol_of(tree)
        read = belongs_to(loaded).get("streams") or streams_of(tree, roles)
        protocol.prepare([str(name) for name in read], judged=streams_of(tree, ("target",)))
        check_data(loaded, data_of(protocol), str(path))
        module = assemble(tree, protocol, roles, int(tree["seed"]), learnt_in(tree, last))
        for means in last.means:
            if means.stays:
                means.build(module)
        try:
            module.load_state_dict(loaded["state_dict"])
        except RuntimeError as error:
            raise DataError(
                "CKPT-003", f"{path} does not fit what its configuration builds now (data or code changed): {error}"
            ) from error
        return cls(module, protocol, asked)

    def users(self, at: At = "test") -> list[Any]:
        """Raw ids of the users that evaluation ranked for, or at ``latest`` of all."""
        if at == "latest":
            return self._users.keys.to_list()
        return self._users.decode(self.stream.users(at).numpy()).to_list()

    def scores(self, users: Sequence[Any], at: At = "test") -> Tensor:
        """Probabilities (U, N) of the catalogue for raw user ids; a stranger gets what is known of everybody."""
        blocks = torch.split(self._asked(users)[1], self._at_once)
        logits = [torch.cat(list(self._logits(block, at)), 1) for block in blocks]
        return self.module.task(self.task).predict(torch.cat(logits))

    def recommend(self, users: Sequence[Any], k: int = 10, seen: bool | None = None, at: At = "test") -> pl.DataFrame:
        """The k best items of each user: columns user, item, score (probability), rank (from 1), known.

        Of tied items the one that comes first in the catalogue leads. Memory is bounded, however large the catalogue:
        blocks of users meet blocks of items, of which the best so far are kept.

        Args:
            users: raw ids; those that training never saw are served from what everybody buys, and are not ``known``.
            k: items per user, fewer where there are no more. seen: also items that the user chose before; none: if
                evaluation ranked them as well, see ``candidates.seen``.
            at: the state that is asked: ``test`` as evaluation saw it, ``latest`` after the last row.

        Raises:
            ValueError: k below 1, or a text in the place of a list of ids.
        """
        if k < 1:
            raise ValueError(f"k should be at least 1. Found {k}.")
        asked, numbers = self._asked(users)
        seen = self.stream.lines.seen if seen is None else seen
        order = self.stream.catalogue.events(numbers).argsort(stable=True)  # histories of about one length together
        parts = [self._best(part, k, seen, at) for part in torch.split(numbers[order], self._at_once)]
        scores, places = (torch.cat(each)[order.argsort()] for each in zip(*parts, strict=True))
        row, rank = (scores > -torch.inf).nonzero(as_tuple=True)
        return pl.DataFrame(
            {
                "user": asked.gather(row.numpy()),
                "item": self._items.decode(self.stream.lines.items[places[row, rank]].numpy()),
                "score": scores[row, rank].numpy(),
                "rank": (rank + 1).numpy(),
                "known": (numbers > 0)[row].numpy(),
            }
        )

    @property
    def _at_once(self) -> int:
        """Users of a block."""
        return min(USERS, self.stream.asked_at_once)

    def strangers(self, users: Sequence[Any]) -> list[Any]:
        """Those of raw ids that training never saw."""
        asked, numbers = self._asked(users)
        found: list[Any] = asked.filter(pl.Series(numbers.numpy() == 0)).to_list()
        return found

    def _asked(self, users: Sequence[Any]) -> tuple[pl.Series, Tensor]:
        """Ids and their numbers, as training read them: ``007`` is no 7, and none is lost beside ids of another type.

        Raises:
            ValueError: a text, which is a sequence of letters.
        """
        if isinstance(users, (str, bytes)):
            raise ValueError(f"users should be a list of ids. Found {users!r}.")
        plain = [str(int(id_) if isinstance(id_, float) and id_.is_integer() else id_) for id_ in users]
        texts = pl.Series("user", plain, pl.String)
        ids = texts.cast(self._users.keys.dtype, strict=False)
        right = (ids.cast(pl.String) == texts).fill_null(False)
        numbers = torch.from_numpy(self._users.encode(ids.set(~right, None)))
        return (ids if right.all() else texts), numbers

    @torch.no_grad()
    def _logits(self, users: Tensor, at: At) -> Iterator[Tensor]:
        """Logits (B, n) of users (B,) and one block of the catalogue after the other; z is computed once."""
        batch = self.stream.state(users, at)
        items = batch.pop("catalogue")
        stream, known = self.stream.schema.name, self.module.spread()
        z = self.module.read(stream, batch, [self.task], spread=known)[self.task].z
        cross, step = batch.get("cross"), max(1, PAIRS // max(1, len(users)))
        for low in range(0, len(items), step):
            part = slice(low, low + step)
            candidate = candidates(self.module.encoder, stream, items[part], known)[None]
            yield self.module.task(self.task)(z, candidate, cross if cross is None else cross[:, part], part).float()

    @torch.no_grad()
    def _best(self, users: Tensor, k: int, seen: bool, at: At) -> tuple[Tensor, Tensor]:
        """Probabilities (B, K) and places of the best for users (B,); minus infinity where there is nothing more."""
        row, place = self.stream.catalogue.before(users, at)
        order = place.argsort()
        row, place = row[order], place[order]
        best = Best(torch.zeros(len(users), 0), torch.zeros(len(users), 0, dtype=torch.int64))
        total, low = torch.full((len(users),), -torch.inf), 0
        for logits in self._logits(users, at):
            high = low + logits.shape[1]
            total = torch.logaddexp(total, logits.logsumexp(1))
            if not seen:
                first, last = torch.searchsorted(place, torch.tensor([low, high])).tolist()
                logits[row[first:last], place[first:last] - low] = -torch.inf
            block = best_of(logits, k)
            best, low = merged(best, Best(block.scores, block.places + low), k), high
        # a softmax over the catalogue needs all of it: the rest stands behind the best as one with the weight of all
        weight = (best.scores - total[:, None]).exp().sum(1)
        rest = total + torch.log1p(-weight.clamp_max(1))
        scores = self.module.task(self.task).predict(torch.cat((best.scores, rest[:, None]), 1))[:, :-1]
        return scores.masked_fill(best.scores == -torch.inf, -torch.inf), best.places
