"""The contract of every protocol."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np
import polars
import pytorch_lightning as pl

from graftrec.data.datasets.base import Dataset
from graftrec.data.features.train_statistics import AT_ONCE
from graftrec.data.protocols.data_card import card
from graftrec.data.protocols.preparation import RANKED, Prepared
from graftrec.data.schema import Schema, Table
from graftrec.data.splits.base import Parts, Split, fingerprint
from graftrec.data.splits.temporal import ByTime
from graftrec.data.streams.base import StreamData
from graftrec.data.streams.baskets import SAMPLE
from graftrec.data.streams.loader import EvaluationLoader, Mixing, TrainLoader
from graftrec.data.streams.sampling_config import Candidates, History
from graftrec.data.streams.sequences import SequenceRows
from graftrec.data.tables.builder import blocks
from graftrec.data.tables.domains import Domain, domains_of
from graftrec.data.tables.interactions import Interactions, Ints, distinct
from graftrec.data.tables.vocabulary import Vocabulary
from graftrec.utils.errors import DataError, UserError
from graftrec.utils.machine import memory

A_CANDIDATE = 64  # bytes that one takes in a batch: ids, labels, keys to be looked up and cross columns
LARGE = 3_000_000  # rows, from which on a run's card leaves out what takes seconds


class Protocol(pl.LightningDataModule, ABC):
    """Domains, histories and leak-free splits of any dataset whose columns allow it.

    Streams of every domain, named ``<domain>/<kind>`` or just ``<kind>`` where there is one domain: ``baskets`` (what a
    user chooses next; needs user and item), ``pairs`` (how related two items are; likewise), ``sequences`` (what
    follows each event of a user; needs a time as well) and ``rows`` (its features and labels, with the user's history
    where there are user, item and time; needs a label).

    Args:
        dataset, split, history, candidates: completed by the program; groups or keys of their own in YAML.
        batch_size: rows of the target's stream per step. mixing: see `TrainLoader`.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: Split | None,
        history: History | None,
        candidates: Candidates | None,
        batch_size: int,
        mixing: Mixing,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size should be at least 1. Found {batch_size}.")
        self.dataset, self.split = dataset, split or ByTime()
        self.history, self.candidates = history or History(), candidates or Candidates()
        self.batch_size, self.mixing = batch_size, mixing
        self.tables: dict[str, Table] = {}
        self.streams: dict[str, StreamData] = {}
        self._card: Callable[[bool], dict[str, Any]] | None = None
        self._named: Callable[[], str] | None = None
        self._made: Prepared | None = None
        self._domains: dict[str, Domain] = {}
        self._train: TrainLoader | None = None
        self._used: dict[str, StreamData] = {}
        self._judged: dict[str, StreamData] = {}
        self._joined: dict[tuple[str, ...], SequenceRows] = {}

    @abstractmethod
    def arrange(self, domains: list[Domain]) -> list[Domain]:
        """The domains as this protocol sees them; UserError if it cannot be made of them."""

    def divide(self, domains: Sequence[Domain]) -> list[Parts]:
        """Which rows train, validate and test."""
        return self.split.divide(domains)

    def prepare(self, names: Iterable[str], judged: Iterable[str] | None = None) -> None:
        """Read the dataset and make the streams that tasks ask for, or all of them if ``names`` is empty.

        Args:
            judged: those of them that need rows to be evaluated on (default: all).

        Raises:
            UserError: a stream that does not exist. DataError: a split without a row, a label without a value.
        """
        domains = self.arrange(domains_of(self.dataset.parts()))
        offered = {f"{domain.prefix}{kind}": domain for domain in domains for kind in offers(domain)}
        if not offered:
            raise UserError(
                f"protocol={type(self).__name__}: {domains[0].data.name} has neither user and item nor a label"
            )
        wanted = list(dict.fromkeys(names))
        unknown = [name for name in wanted if name not in offered]
        if unknown:
            raise UserError([f"stream '{name}' does not exist{_near(name, list(offered))}" for name in unknown])
        if not self.history.short and any(name.rpartition("/")[2] == "sequences" for name in wanted):
            raise UserError("history.short is the length of sequences and should be at least 1. Found 0.")
        if self.history.across and not self.split.one_clock:
            raise UserError(
                "history.across puts events of several domains in one order, so their split should know one: set "
                "split=time, or split=leave_last_out split.across=true"
            )
        chosen, judged = wanted or list(offered), None if judged is None else set(judged)
        tables = {id(offered[name].data): offered[name].data for name in chosen if name.rpartition("/")[2] == "rows"}
        DataError.raise_all([problem for data in tables.values() for problem in _unanswered(data)])
        if any(name.rpartition("/")[2] == "baskets" for name in chosen):
            sample = min(SAMPLE, max(domain.size for domain in domains))
            check_memory(self.candidates, max(self.batch_size, sample))
        parts = self.divide(domains)
        kinds = [[name.removeprefix(d.prefix) for name in chosen if offered[name] is d] for d in domains]
        self._made = Prepared(domains, parts, kinds, self.history, self.candidates, self.split.seed)
        self._domains = {name: offered[name] for name in chosen}
        self.tables, self.streams = self._made.tables, self._made.streams
        self._joined = {}
        for name in wanted:
            if name not in self.streams:
                raise DataError("DATA-053", f"{offered[name].data.name}: there is no row for stream '{name}'")
            for part, rows in self.streams[name].splits.items():
                if not rows and (part == "train" or judged is None or name in judged):
                    raise DataError(
                        "DATA-051", f"{offered[name].data.name}: the {part} split of stream '{name}' has no row"
                    )
        made = self._made
        self._named = named = cache(lambda: fingerprint(domains))
        self._card = cache(lambda full: card(type(self).__name__, self.split, domains, parts, made, full, named()))
        self._large = sum(domain.size for domain in domains) > LARGE

    @property
    def fingerprint(self) -> str:
        """The name of the data as they were read, or of what there is now where nothing is prepared."""
        if self._named is not None:
            return self._named()
        return fingerprint(self.arrange(domains_of(self.dataset.parts())))

    @property
    def card(self) -> dict[str, Any]:
        """What became of the data, for people and for JSON; shorter where there are millions of rows."""
        return {} if self._card is None else self._card(not self._large)

    @property
    def full_card(self) -> dict[str, Any]:
        """Everything that `graftrec.data.protocols.data_card` says, however long it takes."""
        return {} if self._card is None else self._card(True)

    def users_of(self, stream: str) -> Vocabulary:
        """Raw ids <-> numbers of the users of a stream."""
        return self._entities("user", stream)

    def raw_users(self, stream: str) -> tuple[Ints, polars.Series]:
        """Numbers of the users of a stream's domain and their ids as its own data has them, whatever links make of it.

        A number depends on what else is read, and its name on what is linked; these ids depend on neither.
        """
        domain = self._domains[stream]
        ids = domain.data.keys["user"]
        codes = distinct(domain.take(ids.codes))
        codes = codes[codes >= 0]
        return self.users_of(stream).encode(domain.keys("user").gather(codes)), ids.keys.gather(codes)

    def items_of(self, stream: str) -> Vocabulary:
        """Raw ids <-> numbers of its items."""
        return self._entities("item", stream)

    def _entities(self, kind: str, stream: str) -> Vocabulary:
        if self._made is None:
            raise RuntimeError("prepare() reads the data, and it was not called")
        return self._made.entities[kind][self._domains[stream].tables[kind]].vocabulary

    def schema(self, names: Iterable[str], learnt: Callable[[str], Collection[str]] | None = None) -> Schema:
        """Tables and the streams called ``names``.

        Args:
            learnt: table -> streams whose training rows its vectors learn from; any other id reads row 0, as unknown
                ones do. None: every id that any stream trains on has its row.
        """
        streams = {name: self.streams[name].schema for name in names}
        used = {feature.table for stream in streams.values() for feature in stream.features if feature.table}
        used |= {stream.candidate for stream in streams.values() if stream.candidate}
        used |= {other for name in used for other in self.tables[name].content}
        tables = {name: table for name, table in self.tables.items() if name in used}
        if learnt is not None and self._made is not None:
            tables = {name: self._made.learnt.table(name, learnt(name)) for name in tables}
        return Schema(tables, streams)

    def stream(self, name: str, beside: Iterable[str]) -> StreamData:
        """The stream called ``name`` as it is where those called ``beside`` train with it, see `History`."""
        own = self.streams[name]
        if not self.history.across or not isinstance(own, SequenceRows):
            return own
        others = {each: self.streams[each] for each in sorted(set(beside) - {name})}
        fit = {each: o for each, o in others.items() if isinstance(o, SequenceRows) and o.tables == own.tables}
        if not fit:
            return own
        key = (name, *fit)
        if key not in self._joined:
            self._joined[key] = own.joined(list(fit.values()))
        return self._joined[key]

    def use(
        self,
        names: Sequence[str],
        paced_by: Sequence[str],
        seed: int,
        limit: int | float = 1.0,
        judged: Sequence[str] = (),
    ) -> None:
        """Choose what the next fit draws from, see `TrainLoader`, and what is evaluated (``judged``; default: all)."""
        self._used = {name: self.stream(name, names) for name in names}
        self._judged = {name: self._used[name] for name in judged or names}
        self._train = TrainLoader(self._used, paced_by, self.batch_size, self.mixing, seed, limit)

    def train_dataloader(self) -> TrainLoader:
        if self._train is None:
            raise RuntimeError("use() says what to draw from, and it was not called")
        return self._train

    def val_dataloader(self) -> EvaluationLoader:
        return EvaluationLoader(self._judged, "val")

    def test_dataloader(self) -> EvaluationLoader:
        return EvaluationLoader(self._judged, "test")

    def state_dict(self) -> dict[str, Any]:
        """The loader's position."""
        return {} if self._train is None else self._train.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved position."""
        if self._train is not None and state_dict:
            self._train.load_state_dict(state_dict)


def offers(domain: Domain) -> list[str]:
    """Kinds of streams that the columns of a domain allow."""
    kinds = list(RANKED) if domain.data.has("user", "item") else []
    if not domain.data.has("time"):
        kinds = [kind for kind in kinds if kind != "sequences"]
    return kinds + (["rows"] if domain.data.labels else [])


def check_memory(candidates: Candidates, rows: int) -> None:
    """UserError where so many rows with all their candidates need more than the machine's memory."""
    needed, there = rows * (candidates.negatives + candidates.chunk) * A_CANDIDATE, memory()
    if there is not None and needed > there:
        raise UserError(
            f"candidates.negatives={candidates.negatives:,}: {rows:,} rows at once with so many candidates "
            f"needs about {needed / 1e9:,.0f} GB, and this machine has {there / 1e9:,.0f} GB; set fewer of them, or a "
            "smaller protocol.batch_size"
        )


def _unanswered(data: Interactions) -> list[DataError]:
    """Labels that no row of a table has, in whatever domain."""
    missing = [name for name in data.labels if name not in data.asked and not len(data.id_keys[data.ids.index(name)])]
    open_ = dict(enumerate(data.asked))
    for number, block in enumerate(blocks(data.answers, AT_ONCE) if open_ else ()):
        kept = slice(None) if data.kept is None else data.kept[number * AT_ONCE : (number + 1) * AT_ONCE]
        there = ~np.isnan(block[kept]).all(0)
        open_ = {at: name for at, name in open_.items() if not there[at]}
        if not open_:
            break
    return [
        DataError("TASK-004", f"{data.name}: label '{name}' is missing in every row; no task can learn it")
        for name in [*open_.values(), *missing]
    ]


def _near(name: str, names: Sequence[str]) -> str:
    hit = difflib.get_close_matches(name, names, 1, 0.6)
    return f"; did you mean '{hit[0]}'?" if hit else f"; there are: {', '.join(names)}"
