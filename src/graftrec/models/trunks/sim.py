"""Search-based interest model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from graftrec.data.batch import Encoded
from graftrec.models.layers.mlp import last_linear, mlp
from graftrec.models.layers.pooling import asked, asked_plainly, events_of, items_of, must_have_history, places, softmax
from graftrec.models.trunks.base import Trunk


class SIM(Trunk):
    """z = f([fields; head_1; ...; head_q]): first the ``top`` events by r_j, then attention on those alone.

    soft search:  r_j = i_j . i_a, of the event's item and the item a asked about, both without dropout
    hard search:  r_j = 1 if both are of one category, else 0: no event of another; of its own the newest
    attention:    head_i = sum_j softmax_j(W_i e_j . V_i e_a) e_j

    Q. Pi et al., Search-based User Interest Modeling with Lifelong Sequential Behavior Data for Click-Through Rate
    Prediction, CIKM 2020, https://arxiv.org/abs/2006.05639, equations 1 and 5 to 7. A history of thousands of events
    costs one product each; set history.short to its length. Of fields (B, F, D) and events e (B, L, D) z is
    (B, hidden[-1]), the same for all tasks.

    Where we differ: soft search compares vectors as they are: the maps that the paper learns for it are trained by a
    loss on the label, which a trunk does not see. An item without a category finds nothing; one with several finds what
    shares one with it. Time enters by the event vectors, to which the encoder adds a learned map of the age (the paper:
    embedded intervals, side by side). No second model reads the newest events.

    Args:
        item: the field that events are searched by; every stream has it.
        by: the attribute of items that is the category of hard search; empty: soft search.
        top: events that are kept of a history, at least 1. heads: q, at least 1.
        hidden: widths of f, at least one, each at least 1. dropout: behind each of them, in [0, 1).

    Raises:
        ValueError: streams without a history, a stream without the item, or numbers outside these ranges.
    """

    by_name = True

    def __init__(
        self,
        fields: int,
        width: int,
        history: bool,
        streams: Mapping[str, Sequence[str]],
        item: str = "item",
        by: str = "",
        top: int = 50,
        heads: int = 2,
        hidden: Sequence[int] = (128, 64),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        must_have_history("SIM", history)
        if top < 1 or heads < 1:
            raise ValueError(f"top and heads should be at least 1. Found {top} and {heads}.")
        self.item, self.field, self.by = places("item", item, streams), item, by
        self.top, self.heads = top, heads
        self.key = nn.Linear(width, heads * width, bias=False)
        self.query = nn.Linear(width, heads * width, bias=False)
        self.fuse = mlp((fields + heads) * width, hidden, dropout)
        self.out_dim = hidden[-1]

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        item = asked(encoded, self.item)
        history, mask = events_of(encoded)
        scores = (
            self._category(encoded, mask)
            if self.by
            else self._like(items_of(encoded), asked_plainly(encoded, self.item))
        )
        events, there = self._search(history, mask, scores)
        key = self.key(events).unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, heads, top, D)
        query = self.query(item).unflatten(1, (self.heads, -1))[..., None]
        weights = softmax((key @ query).squeeze(3), there[:, None])
        interests = torch.bmm(weights, events)  # (B, heads, D)
        z = self.fuse(torch.cat([encoded.fields.flatten(1), interests.flatten(1)], 1))
        return dict.fromkeys(tasks, z)

    @torch.no_grad()  # which events are taken has no slope
    def _like(self, items: Tensor, item: Tensor) -> Tensor:
        """r of soft search (B, L), of items (B, L, D) and the one asked about (B, D)."""
        return torch.bmm(items, item[:, :, None]).squeeze(2)

    def _category(self, encoded: Encoded, mask: Tensor) -> Tensor:
        """Of events (B, L) of the item's category the place, so that the newest come first; of others -inf."""
        if encoded.attributes is None or self.field not in encoded.attributes[1]:
            raise ValueError(
                f"by='{self.by}' needs that attribute of the events and of the field '{self.field}', which should be "
                f"of the same table. Stream '{encoded.stream}' has none."
            )
        events, asked_about = encoded.attributes[0], encoded.attributes[1][self.field]
        if events.ndim == 2:
            events, asked_about = events[..., None], asked_about[..., None]
        same = torch.zeros_like(mask)
        for category in asked_about.unbind(1):
            same |= ((events == category[:, None, None]) & (events > 0)).any(2)
        place = torch.arange(mask.shape[1], dtype=torch.float32, device=mask.device)
        return torch.where(same, place, -torch.inf)

    def _search(self, history: Tensor, mask: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """The events of each row with the highest scores, (B, top, D), and which of them there are (B, top)."""
        found = scores.masked_fill(~mask, -torch.inf).topk(min(self.top, mask.shape[1]), 1)
        taken = history.gather(1, found.indices[..., None].expand(-1, -1, history.shape[2]))
        return taken, found.values > -torch.inf

    def meeting(self) -> nn.Module:
        return last_linear(self.fuse)
