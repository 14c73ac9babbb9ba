"""The contract of every protocol."""

from __future__ import annotations

import difflib
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytorch_lightning as pl

from graftrec.data.datasets.base import Dataset
from graftrec.data.loader import EvaluationLoader, Mixing, TrainLoader
from graftrec.data.streams.base import StreamData
from graftrec.data.table import Interactions
from graftrec.data.vocab import Vocabulary
from graftrec.errors import DataError, UserError
from graftrec.schema import Schema, Table


class Protocol(pl.LightningDataModule, ABC):
    """Domains, histories and leak-free splits of any dataset whose columns allow it.

    Args (completed by the program): ``dataset``. ``split_seed`` belongs to the data: the run's ``seed`` never moves a
    row from one split to another.
    """

    def __init__(self, dataset: Dataset, batch_size: int, mixing: Mixing, split_seed: int) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size should be at least 1. Found {batch_size}.")
        self.dataset, self.batch_size, self.mixing, self.split_seed = dataset, batch_size, mixing, split_seed
        self.tables: dict[str, Table] = {}
        self.streams: dict[str, StreamData] = {}
        self.card: dict[str, Any] = {}
        self.refused: dict[str, int] = {}  # reason -> rows that the protocol leaves out
        self.users: Vocabulary | None = None  # raw ids of the users and items that histories are about
        self.items: Vocabulary | None = None
        self._train: TrainLoader | None = None
        self._used: dict[str, StreamData] = {}

    @abstractmethod
    def offers(self, data: Interactions) -> list[str]:
        """Names of all streams that this protocol can make of the data."""

    @abstractmethod
    def make(self, data: Interactions, names: Sequence[str]) -> None:
        """Fill ``tables`` and ``streams`` with the streams called ``names``."""

    def prepare(self, names: Iterable[str]) -> None:
        """Read the dataset and make the streams that tasks ask for, or all of them if ``names`` is empty.

        Raises:
            UserError: a stream that does not exist. DataError: a split without a row.
        """
        data = self.dataset.read()
        offered = self.offers(data)
        wanted = list(dict.fromkeys(names))
        unknown = [name for name in wanted if name not in offered]
        if unknown:
            raise UserError([f"stream '{name}' does not exist{_near(name, offered)}" for name in unknown])
        self.make(data, wanted or offered)
        for name in wanted:
            if name not in self.streams:
                raise DataError("DATA-053", f"{data.name}: there is no row for stream '{name}'")
            for split, rows in self.streams[name].splits.items():
                if not rows:
                    raise DataError("DATA-051", f"{data.name}: the {split} split of stream '{name}' has no row")
        self.card = self._card(data)

    def schema(self, names: Iterable[str]) -> Schema:
        """Tables and the streams called ``names``."""
        streams = {name: self.streams[name].schema for name in names}
        used = {feature.table for stream in streams.values() for feature in stream.features if feature.table}
        used |= {stream.candidate for stream in streams.values() if stream.candidate}
        used |= {other for name in used for other in self.tables[name].content}
        return Schema({name: table for name, table in self.tables.items() if name in used}, streams)

    def use(self, names: Sequence[str], paced_by: Sequence[str], seed: int) -> None:
        """Choose what the next fit draws from; see `TrainLoader`."""
        self._used = {name: self.streams[name] for name in names}
        self._train = TrainLoader(self._used, paced_by, self.batch_size, self.mixing, seed)

    def train_dataloader(self) -> TrainLoader:
        if self._train is None:
            raise RuntimeError("use() says what to draw from, and it was not called")
        return self._train

    def val_dataloader(self) -> EvaluationLoader:
        return EvaluationLoader(self._used, "val")

    def test_dataloader(self) -> EvaluationLoader:
        return EvaluationLoader(self._used, "test")

    def state_dict(self) -> dict[str, Any]:
        """The loader's position."""
        return {} if self._train is None else self._train.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved position."""
        if self._train is not None and state_dict:
            self._train.load_state_dict(state_dict)

    def _card(self, data: Interactions) -> dict[str, Any]:
        card: dict[str, Any] = {"dataset": data.name, "protocol": type(self).__name__, "rows": len(data.rows)}
        for key in ("user", "item"):
            if data.has(key):
                card[f"{key}s"] = data.rows[key].n_unique()
        if data.has("time") and data.start:
            start = datetime.fromisoformat(data.start)
            low, high = data.rows.select(low="time").min().item(), data.rows.select(high="time").max().item()
            card["first"], card["last"] = (str(start + timedelta(days=float(day))) for day in (low, high))
        if self.items is not None:
            card["catalogue"] = len(self.items) - 1
        card["refused"] = {**data.refused, **self.refused}
        card["splits"] = {name: dict(stream.splits) for name, stream in self.streams.items()}
        hashes = data.rows.hash_rows(seed=0).sort().to_numpy().tobytes()  # the same whatever the order of rows
        card["fingerprint"] = hashlib.sha256(hashes).hexdigest()[:16]
        return card


def _near(name: str, names: Sequence[str]) -> str:
    hit = difflib.get_close_matches(name, names, 1, 0.6)
    return f"; did you mean '{hit[0]}'?" if hit else f"; there are: {', '.join(names)}"
