"""The past of several domains as one: what a neighbourhood model sees that knows their users under one name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from graftrec.data.streams.base import Stage
from graftrec.data.streams.baskets import BasketRows
from graftrec.data.streams.sequences import SequenceRows
from graftrec.evaluation.baselines.rankers import Past

Ranked = BasketRows | SequenceRows


def past_of(stream: Ranked, stage: Stage, beside: Sequence[Ranked] = ()) -> Past:
    """All rows before a stage of a stream and of those ``beside`` it, whose users have the same numbers.

    The first columns are the stream's own catalogue in its order. Items of domains with the same item table are the
    same column, all others get columns of their own behind them.

    Raises:
        ValueError: streams of other users.
    """
    people = len(stream.lines.cold_user)
    width = len(stream.lines.items)
    columns = {stream.schema.candidate: _places(stream)}
    parts = []
    for each in (stream, *beside):
        lines = each.lines
        if len(lines.cold_user) != people:
            raise ValueError(f"'{each.schema.name}' should have the users of '{stream.schema.name}'. Found others.")
        known = lines.known(stage)
        item = lines.item[known]
        place = columns.setdefault(each.schema.candidate, torch.full((len(lines.cold_item),), -1, dtype=torch.int64))
        new = torch.unique(item[place[item] < 0])
        place[new] = torch.arange(width, width + len(new))
        width += len(new)
        parts.append((lines.user[known], place[item], lines.time[known]))
    users, places, times = (np.concatenate([part[at].numpy() for part in parts]) for at in range(3))
    return Past(users, places, times, people, width)


def _places(stream: Ranked) -> torch.Tensor:
    """Item -> its place in the catalogue, -1 where it is not in it: (E,)."""
    place = torch.full((len(stream.lines.cold_item),), -1, dtype=torch.int64)
    place[stream.lines.items] = torch.arange(len(stream.lines.items))
    return place
