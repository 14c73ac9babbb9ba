"""Long and short interest of one platform's users."""

from __future__ import annotations

from graftrec.data.datasets.base import Dataset
from graftrec.data.protocols.base import Protocol
from graftrec.data.splits.base import Split
from graftrec.data.streams.loader import Mixing
from graftrec.data.streams.sampling_config import Candidates, History
from graftrec.data.tables.domains import Domain
from graftrec.utils.errors import UserError


class LongShortTerm(Protocol):
    """Rows that know a long and a short window of their user's history.

    The windows are set under ``history``: in items, days or sessions. Needs user, item and time (or an order).
    """

    def __init__(
        self,
        dataset: Dataset,
        split: Split | None = None,
        history: History | None = None,
        candidates: Candidates | None = None,
        batch_size: int = 128,
        mixing: Mixing = "proportional",
    ) -> None:
        super().__init__(dataset, split, history, candidates, batch_size, mixing)
        if not self.history.long and not self.history.short:
            raise ValueError("protocol=long_short_term needs a window: history.long or history.short above 0.")

    def arrange(self, domains: list[Domain]) -> list[Domain]:
        for domain in domains:
            need_columns(domain, "long_short_term", "user", "item", "time")
        return domains


def need_columns(domain: Domain, protocol: str, *columns: str) -> None:
    """UserError unless the domain's rows have these columns."""
    missing = [column for column in columns if not domain.data.has(column)]
    if missing:
        name = domain.data.name
        raise UserError(f"protocol={protocol} needs {', '.join(columns)}, and {name} has no {', '.join(missing)}")
