"""Vectors of items that few have chosen, scaled and shifted into the space of those that many have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graftrec.data.batch import Batch
from graftrec.data.schema import Table
from graftrec.models.encoder import Encoder
from graftrec.models.layers.generators import Generator, Warmed
from graftrec.tasks.base import Task
from graftrec.transfer.base import OPTIONAL, ROLES, Means, Past, Phase, Transfer, at_least_one, only
from graftrec.transfer.users import encoder_of

WARMED = "encoder.generators."
AT_ONCE = 1_000_000  # pairs that are kept before equal ones become one


class MWUF(Transfer):
    """A new item's vector is v_cold * h(X) + g(G(U)): X are its attributes, G(U) the mean of those who chose it.

    Y. Zhu et al., Learning to Warm Up Cold Item Embeddings for Cold-start Recommendation with Meta Scaling and Shifting
    Networks, SIGIR 2021, https://arxiv.org/abs/2105.04790, section 3 and algorithm 1: everything is trained on the
    items that are known, and rests. Then each of them gets a cold vector as well, which starts as the mean of all
    items' vectors and learns by the loss with itself in the item's place (L_cold), while the networks h and g learn by
    the loss with the warm vector (L_warm). What is said of known items is what was said before.

    Where we differ: X is the mean of the attributes' vectors (there: one behind the other); vectors of users are those
    that the model reads, with what is known of them; a step draws for each item which of the two losses it is part of
    (there: each row is in both, one after the other); h starts at 1 and g at 0, so the mean vector is where both begin;
    new items' own few rows, if there are any, are part of both phases, where the paper has a stage for them at the end.
    On ``protocol=cold_start`` the phase ``base`` has nobody who chose a new item: G(U) is 0 there.

    Args:
        pretrain, warm: epochs of the phases. few: items that at most so many users of training chose are new as well;
            those that nobody chose always are. hidden: width of the networks' hidden layers. table: of the items.
    """

    def __init__(self, pretrain: int = 2, warm: int = 1, few: int = 0, hidden: int = 16, table: str = "item") -> None:
        at_least_one(pretrain=pretrain, warm=warm, hidden=hidden)
        if few < 0:
            raise ValueError(f"few should be at least 0. Found {few}.")
        self.pretrain, self.warm, self.few, self.hidden, self.table = pretrain, warm, few, hidden, table

    def phases(self) -> list[Phase]:
        choosers = Choosers(self.table)
        everything = ("encoder.", *OPTIONAL, "trunk.", "tasks.")
        return [
            Phase("pretrain", ROLES, self.pretrain, means=(choosers,)),
            Phase("warm", ROLES, self.warm, start_from="pretrain", carry=everything,
                  means=(Warming(choosers, self.few, self.hidden, self.table),)),
        ]  # fmt: skip


class Choosers(Means):
    """Remembers who chose which item in training.

    Attributes:
        users: (E, D), the mean vector of those who chose an item, zeros where nobody did, when the phase has ended.
        count: (E,) int64, how many they are.
    """

    def __init__(self, table: str) -> None:
        self.table = table
        self._kept: list[Tensor] = []

    def build(self, model: nn.Module) -> None:
        encoder = encoder_of(model)
        encoder.id_dropout = encoder.content_dropout = 0.0

    def start(self, model: nn.Module, past: Past) -> None:
        encoder = encoder_of(model)
        self._columns: dict[str, str] = {}
        tables = set()
        for stream in encoder.schema.streams.values():
            named = [f.name for f in stream.features if f.kind == "id" and f.table == self.table]
            column = named[0] if named else "candidate" if stream.candidate == self.table else ""
            user = [f.table for f in stream.features if f.name == "user"]
            if column and user:
                self._columns[stream.name] = column
                tables.add(user[0])
        if len(tables) != 1:
            raise ValueError(
                f"table should be of items that a stream with users of one table has. Found '{self.table}' with "
                f"{', '.join(sorted(tables)) or 'no'} users; there are the tables {', '.join(encoder.schema.tables)}"
            )
        self._user = tables.pop()
        self._people = encoder.schema.tables[self._user].entities
        self._kept = []
        self.users = torch.zeros(encoder.schema.tables[self.table].entities, encoder.width)
        self.count = torch.zeros(len(self.users), dtype=torch.int64)

    def state_dict(self) -> dict[str, Any]:
        return {"kept": self._pairs(), "users": self.users, "count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._kept, self.users, self.count = [state["kept"]], state["users"], state["count"]

    def loss(self, name: str, task: Task, loss: Tensor, logits: Tensor | None, stream: str, batch: Batch) -> Tensor:
        if stream in self._columns:
            item, user = batch[self._columns[stream]], batch["user"]
            if item.ndim > 1:
                label = task.labels(batch)
                chosen = label == 1 if label.shape == item.shape else torch.zeros_like(item, dtype=torch.bool)
                item, user = item[chosen], user[:, None].expand_as(chosen)[chosen]
            self._kept.append((item * self._people + user)[(item > 0) & (user > 0)].cpu())
            if sum(len(part) for part in self._kept[1:]) > AT_ONCE:
                self._kept = [self._pairs()]
        return loss

    def _pairs(self) -> Tensor:
        """Distinct pairs (n,), as one number each."""
        found: Tensor = torch.unique(torch.cat(self._kept)) if self._kept else torch.zeros(0, dtype=torch.int64)
        return found

    @torch.no_grad()
    def finish(self, model: nn.Module) -> str:
        vectors = encoder_of(model).items(self._user).detach().cpu()
        pairs = self._pairs()
        item, user = pairs // self._people, pairs % self._people
        self._kept = []
        self.count = torch.bincount(item, minlength=len(self.users))
        total = torch.zeros_like(self.users).index_add_(0, item, vectors[user])
        self.users = total / self.count[:, None].clamp_min(1)
        return ""

    def rare(self, few: int) -> Tensor:
        """Items (E,) bool that at most ``few`` users chose."""
        found = self.count <= few
        found[0] = False
        return found

    def line(self, few: int) -> str:
        """How many items are new, to be reported."""
        new, whole = int(self.rare(few).sum()), len(self.count) - 1
        return f"{new:,} of {whole:,} entities of '{self.table}' are new and read warm vectors"


class Warming(Means):
    """Puts `Warmed` vectors in the place of new items', and nothing else learns."""

    stays = True

    def __init__(self, choosers: Choosers, few: int, hidden: int, table: str) -> None:
        self.choosers, self.few, self.hidden, self.table = choosers, few, hidden, table

    def build(self, model: nn.Module) -> None:
        stand_in(model, self.table, lambda meaning, width: Warmed(meaning, width, self.hidden))

    @torch.no_grad()
    def start(self, model: nn.Module, past: Past) -> None:
        encoder = encoder_of(model)
        warmed = encoder.generators[self.table.replace(".", "_")]
        if not isinstance(warmed, Warmed):
            raise TypeError(f"generators should have Warmed vectors. Found {type(warmed).__name__}.")
        rare = self.choosers.rare(self.few)
        rows = known_rows(encoder, self.table, warmed.rows.cpu(), rare)
        warmed.cold.copy_(encoder.tables.block[rows].mean(0).expand_as(warmed.cold))
        warmed.users.copy_(self.choosers.users)
        warmed.rare.copy_(rare)

    def finish(self, model: nn.Module) -> str:
        return self.choosers.line(self.few)


def stand_in(model: nn.Module, table: str, make: Callable[[Table, int], Generator]) -> None:
    """Put a generator of a table's new ids into a model, show all its ids as new, and let nothing else learn.

    Raises:
        ValueError: a table without attributes, or without a row for each id.
    """
    encoder = encoder_of(model)
    meaning, own = encoder.schema.tables.get(table), encoder.tables.layouts.get(table)
    if meaning is None or not (meaning.content or meaning.vectors):
        raise ValueError(f"table should be one with attributes. Found '{table}'.")
    if own is None or own.rule != "plain" or not encoder.tables.whole(table):
        raise ValueError(
            f"table should have a row for each id. Found '{table}', which has not; leave it out of "
            "encoder.shrink and encoder.content_only"
        )
    made = make(meaning, encoder.width).to(encoder.tables.block.device)
    encoder.generators[table.replace(".", "_")] = made
    encoder.id_dropout, encoder.content_dropout, encoder.hides, encoder.hidden = 1.0, 0.0, "id", table
    only(model, WARMED)


def known_rows(encoder: Encoder, table: str, rows: Tensor, rare: Tensor) -> Tensor:
    """Places in the block of tables of the rows of those that are not ``rare`` (E,); of all, where nobody is known."""
    known = torch.unique(rows[~rare])
    known = known[known > 0]
    return encoder.tables.rows(table, known if len(known) else torch.arange(encoder.schema.tables[table].size))
