"""What a row sees of the past, and which candidates it is compared with."""

from __future__ import annotations

from typing import Literal, get_args

Unit = Literal["items", "days", "sessions"]
Drawn = Literal["uniform", "popularity", "batch", "file"]
Avoid = Literal["basket", "history"]


class History:
    """The windows of a user's history that every row gets, strictly before its own time.

    Args:
        long, short: most events of the long window (averaged) and of the short one (in order); the newest are kept.
            0: no such window.
        unit: of ``long_within`` and ``short_within``, which say how far back a window reaches: ``days``, or
            ``sessions``; ``items`` sets no further bound.
        long_within, short_within: in that unit, positive.
        gap: days without an event, after which a new session begins; events of one basket are one session anyway.
        lag: days that a training row's state may be old; none: the length of the validation window under a split with
            one cut in time for everybody (an evaluation's state is frozen at the cut), else 0.
        mask: of ``sequences``, whose length is ``short``: the chance in [0, 1) that an event is hidden, to be guessed
            from what is around it (cloze); 0: every event is to be guessed from those before it.
        across: of ``sequences``: whether they also hold what the user chose in the other domains that train beside
            theirs. Only a domain's own events are to be guessed, and a target that trains alone sees its own alone.
    """

    def __init__(
        self,
        long: int = 400,
        short: int = 50,
        unit: Unit = "items",
        long_within: float | None = None,
        short_within: float | None = None,
        gap: float = 0.02,
        lag: float | None = None,
        mask: float = 0.0,
        across: bool = False,
    ) -> None:
        if long < 0 or short < 0:
            raise ValueError(f"long and short should be at least 0. Found {long} and {short}.")
        if unit not in get_args(Unit):
            raise ValueError(f"unit should be one of {', '.join(get_args(Unit))}. Found {unit}.")
        bounds = [bound for bound in (long_within, short_within) if bound is not None]
        if unit == "items" and bounds:
            raise ValueError("long_within and short_within need unit=days or unit=sessions.")
        if any(bound <= 0 for bound in bounds) or gap <= 0 or (lag is not None and lag < 0):
            raise ValueError("long_within, short_within and gap should be positive, and lag at least 0.")
        if not 0 <= mask < 1:
            raise ValueError(f"mask should be in [0, 1). Found {mask}.")
        self.long, self.short, self.unit, self.mask, self.across = long, short, unit, mask, across
        self.long_within, self.short_within, self.gap, self.lag = long_within, short_within, gap, lag

    def reach(self, within: float | None) -> dict[str, float]:
        """How far back a window reaches, as `Histories.window` takes it."""
        return {} if within is None else {self.unit: within}


class Candidates:
    """The items that a training row is compared with, and the catalogue that is ranked.

    Args:
        negatives: items drawn for each row that it did not choose.
        drawn: ``uniform`` over the catalogue; ``popularity``, by the number of training rows; ``batch``, from what the
            other rows of the batch chose, which is popularity as well; ``file``, a user's own from ``hard``. What is
            drawn by popularity comes with its log q, which training subtracts from the logits (Yi et al., RecSys 2019,
            https://doi.org/10.1145/3298689.3346996, equation 5), so that what is learned is the same.
        avoid: no negative is among the row's own ``basket``, or in the user's whole training ``history``.
        hard: a file with columns ``user`` and ``item``.
        chunk: distinct items of a basket in one row.
        min_users: users who chose an item in training, for it to be in the catalogue; 0: every item that there is.
        lists: a file with columns ``user``, ``item`` and optionally ``split`` (val or test): only these are ranked for
            a user, as published tables with sampled candidates do; what a user chose in that part belongs to it.
        seen: whether what a user chose before is ranked and recommended as well; none: where the data has users who
            choose an item twice, and where lists say what is ranked. Else an answer that was seen does not count.
    """

    def __init__(
        self,
        negatives: int = 128,
        drawn: Drawn = "uniform",
        avoid: Avoid = "basket",
        hard: str = "",
        chunk: int = 8,
        min_users: int = 6,
        lists: str = "",
        seen: bool | None = None,
    ) -> None:
        if negatives < 0 or chunk < 1 or min_users < 0:
            raise ValueError(
                f"negatives and min_users should be at least 0 and chunk at least 1. Found {negatives}, {min_users} "
                f"and {chunk}."
            )
        if drawn not in get_args(Drawn) or avoid not in get_args(Avoid):
            raise ValueError(
                f"drawn should be one of {', '.join(get_args(Drawn))}, avoid one of {', '.join(get_args(Avoid))}. "
                f"Found {drawn} and {avoid}."
            )
        if (drawn == "file") != bool(hard):
            raise ValueError("drawn=file and hard, the file, go together.")
        self.negatives, self.drawn, self.avoid, self.hard = negatives, drawn, avoid, hard
        self.chunk, self.min_users, self.lists, self.seen = chunk, min_users, lists, seen
