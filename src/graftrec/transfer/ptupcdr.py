"""A bridge of each user's own from source to target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graftrec.data.batch import Batch
from graftrec.models.layers.embedding_tables import Change
from graftrec.tasks.base import Task
from graftrec.transfer.base import SHARED, Means, Past, Phase, Transfer, at_least_one, norms_rest
from graftrec.transfer.rows import SeenRows, tables_of
from graftrec.transfer.users import Shared, encoder_of


class PTUPCDR(Transfer):
    """Users of the source alone get W_u u_source, where the matrix W_u is made of what the user chose in the source.

    Y. Zhu et al., Personalized Transfer of User Preferences for Cross-domain Recommendation, WSDM 2022,
    https://arxiv.org/abs/2110.11154: p_u = sum_j softmax_j(h(v_j)) v_j over the source's items of u (equations 1 to 3),
    W_u = g(p_u) (equation 4), u_target = W_u u_source (equation 5), and h and g learn by the target's own loss on users
    of both domains (equation 8), with all else at rest.

    Where we differ: any encoder and trunk stand in place of the factorisation, u is the user's own row of the shared
    table; g starts around the identity (there: at random); in this phase all users that the source knows are validated
    over the bridge, and at its end only those of the source alone keep it.

    Args:
        source, target, bridge: epochs of the phases. hidden: width of g's hidden layer. length: source items of a user
            that count, the newest.
    """

    def __init__(self, source: int = 2, target: int = 4, bridge: int = 2, hidden: int = 50, length: int = 20) -> None:
        at_least_one(source=source, target=target, bridge=bridge, hidden=hidden, length=length)
        self.source, self.target, self.bridge, self.hidden, self.length = source, target, bridge, hidden, length

    def phases(self) -> list[Phase]:
        there, here, chosen = SeenRows(), SeenRows(), Chosen(self.length)
        frozen = (*SHARED, "tasks.")
        means = (Bridges("source", there, here, chosen, self.hidden),)
        return [
            Phase("source", ("source", "shared"), self.source, means=(there, chosen)),
            Phase("target", ("target",), self.target, means=(here,)),
            Phase("bridge", ("target",), self.bridge, frozen, start_from="target", carry=frozen, means=means),
        ]


class Chosen(Means):
    """Remembers what users chose in the source: the longest history that a batch showed.

    Attributes:
        items: (rows of users, length) entities of items, 0 where there is none. vectors: (E, D) of these, at the end.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self.items = self.vectors = torch.zeros(0, 0)

    def start(self, model: nn.Module, past: Past) -> None:
        schema = encoder_of(model).schema
        self._columns = {
            name: (feature.name, feature.table)
            for name, stream in schema.streams.items()
            for feature in stream.features
            if feature.kind in ("history", "sequence") and any(other.name == "user" for other in stream.features)
        }
        if len({table for _, table in self._columns.values()}) != 1:
            raise ValueError(
                "the sources should tell what a user chose before, in one table of items. Found "
                f"{', '.join(sorted({t for _, t in self._columns.values()})) or 'no history'}; set history.short."
            )
        users = {f.table for s in schema.streams.values() for f in s.features if f.name == "user"}
        self._users = schema.tables[next(iter(users))]
        self.items = torch.zeros(self._users.size, self.length, dtype=torch.int64)

    def loss(self, name: str, task: Task, loss: Tensor, logits: Tensor | None, stream: str, batch: Batch) -> Tensor:
        if stream in self._columns:
            events, user = batch[self._columns[stream][0]].cpu(), batch["user"].cpu()
            self._take(user if self._users.rows is None else self._users.rows.cpu()[user], events[:, -self.length :])
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {"items": self.items, "vectors": self.vectors}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.items, self.vectors = state["items"], state["vectors"]

    def _take(self, rows: Tensor, events: Tensor) -> None:
        """Histories (B, L) of users with these rows (B,), if they are longer than what is known."""
        count = (events > 0).sum(1)
        order = torch.argsort(count, stable=True)
        rows, events, count = rows[order], events[order], count[order]
        distinct, where = torch.unique(rows, return_inverse=True)
        last = torch.zeros(len(distinct), dtype=torch.int64).scatter_reduce(0, where, torch.arange(len(rows)), "amax")
        longer = (count[last] >= (self.items[distinct] > 0).sum(1)) & (distinct > 0)
        known = events[last[longer]]
        self.items[distinct[longer]] = torch.nn.functional.pad(known, (self.length - known.shape[1], 0))

    @torch.no_grad()
    def finish(self, model: nn.Module) -> str:
        self.vectors = encoder_of(model).items(next(iter(self._columns.values()))[1]).detach().cpu().clone()
        return ""


class Bridges(Means):
    """Puts a `Bridge` on the table of users, and leaves the vectors of the source's users that it makes."""

    gives_users = True

    def __init__(self, phase: str, there: SeenRows, here: SeenRows, chosen: Chosen, hidden: int) -> None:
        self.phase, self.there, self.here, self.chosen, self.hidden = phase, there, here, chosen, hidden

    def build(self, model: nn.Module) -> None:
        norms_rest(model)

    def start(self, model: nn.Module, past: Past) -> None:
        users, tables = Shared(model, past, self.phase), tables_of(model)
        both, alone = users.split(self.there, self.here)
        block = tables.get_parameter(f"block_{users.width}")
        items = self.chosen.items if len(self.chosen.items) == len(users.source) else torch.zeros(len(users.source), 1)
        vectors = self.chosen.vectors if len(self.chosen.vectors) else torch.zeros(1, users.width)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            bridge = Bridge(users.source, items.long(), vectors, self.hidden)
        tables.low[str(users.width)] = Bridged(bridge, block, users.at.start, both, alone)
        self._said = (
            f"{len(alone):,} users of the source alone bridged, by what {len(both):,} users of both domains show"
        )

    def finish(self, model: nn.Module) -> str:
        tables_of(model).merge()
        return self._said


class Bridge(nn.Module):
    """u W_u of users: the source's vectors (U, D) and items (U, L), whose vectors are (E, D)."""

    def __init__(self, users: Tensor, items: Tensor, vectors: Tensor, hidden: int) -> None:
        super().__init__()
        width = users.shape[1]
        self.register_buffer("users", users, persistent=False)
        self.register_buffer("items", items, persistent=False)
        self.register_buffer("vectors", vectors, persistent=False)
        self.attention = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1, bias=False))
        self.decoder = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width * width))
        last = self.decoder[-1]
        if isinstance(last, nn.Linear):
            with torch.no_grad():
                last.bias.copy_(torch.eye(width).flatten())

    users: Tensor
    items: Tensor
    vectors: Tensor

    def forward(self, users: Tensor) -> Tensor:
        """Users (n,), as rows of their table -> (n, D)."""
        items = self.items[users]
        events, there = self.vectors[items], items > 0
        weight = self.attention(events).squeeze(-1).masked_fill(~there, -torch.inf).softmax(1).nan_to_num(0.0)
        matrix = self.decoder((weight[..., None] * events).sum(1)).view(len(users), events.shape[-1], events.shape[-1])
        found: Tensor = (self.users[users][:, None] @ matrix).squeeze(1)
        return found


class Bridged(Change):
    """Rows (n,) of users whom the source knows, over a bridge; ``first`` is where their table begins in ``block``."""

    def __init__(self, bridge: Bridge, block: nn.Parameter, first: int, both: Tensor, alone: Tensor) -> None:
        super().__init__()
        self.bridge, self._block, self.first = bridge, [block], first  # a list: the block is the tables'
        known = torch.zeros(len(block), dtype=torch.bool)
        known[first + torch.cat([both, alone])] = True
        self.register_buffer("known", known, persistent=False)
        self.register_buffer("alone", alone, persistent=False)

    known: Tensor
    alone: Tensor

    def forward(self, rows: Tensor) -> Tensor:
        block = self._block[0]
        bridged = self.known[rows]
        distinct, where = torch.unique(rows[bridged], return_inverse=True)
        moved = self.bridge(distinct - self.first) - block[distinct].detach()
        found = torch.zeros(*rows.shape, block.shape[1], dtype=moved.dtype, device=rows.device)
        return found.masked_scatter(bridged[..., None].expand_as(found), moved[where])

    @torch.no_grad()
    def change(self) -> Tensor:
        block, rows = self._block[0], self.alone + self.first
        found = torch.zeros_like(block)
        found[rows] = self.bridge(self.alone) - block[rows]
        return found
