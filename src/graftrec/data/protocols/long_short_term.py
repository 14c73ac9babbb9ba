"""Long and short interest of one platform's users."""

from __future__ import annotations

from collections.abc import Sequence

from graftrec.data.datasets.base import Dataset
from graftrec.data.loader import Mixing
from graftrec.data.protocols.base import Protocol
from graftrec.data.purchases import KINDS, NEEDS, Purchases, Windows
from graftrec.data.table import Interactions
from graftrec.errors import UserError


class LongShortTerm(Protocol):
    """Purchases split by time, each row with a long and a short window of the user's history.

    Streams: ``baskets`` (what is bought next) and ``pairs`` (how related two items are). Training is before
    ``train_until`` of the time span, validation before ``val_until``, the test after; state is frozen at the cut.

    Args:
        long, short: items of the long window (averaged) and of the short one (in order).
        chunk: distinct items of a basket in one row. negatives: candidates drawn for it.
        lag: days that a training row's state may be old; none: the length of the validation window.
        min_users: distinct users who bought an item before the cut, for it to be in the catalogue.
        batch_size: rows of the target's stream per step. mixing: see `TrainLoader`.
    """

    def __init__(
        self,
        dataset: Dataset,
        train_until: float = 0.8,
        val_until: float = 0.9,
        long: int = 400,
        short: int = 50,
        chunk: int = 8,
        negatives: int = 128,
        lag: float | None = None,
        min_users: int = 6,
        batch_size: int = 128,
        mixing: Mixing = "proportional",
        split_seed: int = 0,
    ) -> None:
        super().__init__(dataset, batch_size, mixing, split_seed)
        check_cuts(train_until, val_until)
        self.train_until, self.val_until, self.min_users = train_until, val_until, min_users
        self.windows = Windows(long, short, chunk, negatives, lag)

    def offers(self, data: Interactions) -> list[str]:
        need_columns(data, "long_short_term")
        return list(KINDS)

    def make(self, data: Interactions, names: Sequence[str]) -> None:
        purchases = Purchases(data, self.train_until, self.val_until, self.min_users)
        self.tables, self.users, self.items = purchases.tables, purchases.everybody, purchases.items
        self.refused = purchases.refused
        self.streams = purchases.streams("", names, self.windows, self.split_seed, purchases.rows)


def check_cuts(train_until: float, val_until: float) -> None:
    """ValueError unless 0 < train_until < val_until < 1."""
    if not 0 < train_until < val_until < 1:
        raise ValueError(f"0 < train_until < val_until < 1 is needed. Found {train_until} and {val_until}.")


def need_columns(data: Interactions, protocol: str) -> None:
    """UserError unless the dataset says who bought what and when."""
    if not data.has(*NEEDS):
        missing = [column for column in NEEDS if not data.has(column)]
        raise UserError(f"protocol={protocol} needs {', '.join(NEEDS)}, and {data.name} has no {', '.join(missing)}")
