"""From domains and their parts to tables and streams: what all protocols share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from graftrec.data.features import attributes
from graftrec.data.features.history import Histories
from graftrec.data.features.train_statistics import Fitted
from graftrec.data.protocols.trained_ids import Learnt
from graftrec.data.schema import Label, Table
from graftrec.data.sources.provenance import shown
from graftrec.data.splits.base import Parts, events
from graftrec.data.streams.base import StreamData
from graftrec.data.streams.baskets import BasketRows
from graftrec.data.streams.candidate_lists import Listed, Pairs, read_lists
from graftrec.data.streams.catalogue import Catalogue
from graftrec.data.streams.events import SUPPORT, Lines
from graftrec.data.streams.pairs import PairRows
from graftrec.data.streams.rows import Person, Place, TableRows, kind_of
from graftrec.data.streams.sampling_config import Candidates, History
from graftrec.data.streams.sequences import SequenceRows
from graftrec.data.tables.domains import KINDS, Domain
from graftrec.data.tables.entities import Entities
from graftrec.data.tables.id_matching import Joined, refuse_strangers
from graftrec.data.tables.interactions import Interactions, Ints, distinct
from graftrec.utils.errors import DataError

Mask = npt.NDArray[np.bool_]
RANKED = ("baskets", "pairs", "sequences")


class Prepared:
    """Everything that the training rows of all domains decide together, and the streams that come of it.

    Args:
        domains, parts: side by side. wanted: kinds of streams for each domain. history, candidates: see there.
        seed: the split's.

    Attributes:
        tables: embedding tables by name. entities: of users and items, by table. streams: by name.
        refused: reason -> rows that stay out of rankings. joined: second files, and how many ids they have in common
        with the data. notes: what a reader of the data card should know. learnt: what each domain's training rows have
        of the tables.
    """

    def __init__(
        self,
        domains: Sequence[Domain],
        parts: Sequence[Parts],
        wanted: Sequence[Sequence[str]],
        history: History,
        candidates: Candidates,
        seed: int,
    ) -> None:
        self.history, self.candidates, self.seed = history, candidates, seed
        self.tables: dict[str, Table] = {}
        self.streams: dict[str, StreamData] = {}
        self.refused: dict[str, int] = {}
        self.notes: list[str] = []
        self.joined: list[Joined] = []
        self._used = [(d, p, kinds) for d, p, kinds in zip(domains, parts, wanted, strict=True) if kinds and d.size]
        self._origin = min((float(p.time.min()) for p in parts if len(p.time)), default=0.0)  # a twin's as well
        self.entities = {kind: self._entities(kind) for kind in KINDS}
        self._entity_of = [
            {kind: self._of(kind, d).table(d.keys(kind)) for kind in KINDS if d.data.has(kind)}
            for d, _, _ in self._used
        ]
        self._known: dict[tuple[int, str], Ints] = {}
        for data in {id(domain.data): domain.data for domain, _, _ in self._used}.values():
            self.joined += attributes.met(data)
        refuse_strangers(self.joined)
        self._kept = self._catalogues()
        self._train()
        self._fit()
        self._content()
        self._make_ranked()
        places = self._make_rows()
        self.learnt = Learnt(self._used, self._trained_in, self.tables, self._vocabularies, places)

    def _of(self, kind: str, domain: Domain) -> Entities:
        return self.entities[kind][domain.tables[kind]]

    def _numbers(self, at: int, kind: str) -> Ints:
        """Entities (n,) of the ``at``-th domain's rows, made when they are asked for: rows alone never ask."""
        if (at, kind) not in self._known:
            domain = self._used[at][0]
            self._known[at, kind] = self._entity_of[at][kind][domain.take(domain.data.keys[kind].codes)]
        return self._known[at, kind]

    def _entities(self, kind: str) -> dict[str, Entities]:
        """Entities of one kind by table."""
        keys: dict[str, list[pl.Series]] = {}
        for domain, _, _ in self._used:
            if domain.data.has(kind):
                keys.setdefault(domain.tables[kind], []).append(domain.keys(kind))
        return {table: Entities(series) for table, series in keys.items()}

    def _catalogues(self) -> list[Mask]:
        """For each domain which rows a ranking is about: events with an item that enough users chose in training."""
        kept, outside, alone = [], 0, []
        least = self.candidates.min_users
        for at, (domain, parts, kinds) in enumerate(self._used):
            mask = events(domain) & (parts.part >= 0)
            if set(kinds) & set(RANKED):
                user, item = self._numbers(at, "user"), self._numbers(at, "item")
                train, items = mask & (parts.part == 0), len(self._of("item", domain))
                users = np.bincount(distinct(user[train] * items + item[train]) % items, minlength=items)
                if not (users >= max(least, 1)).any():
                    alone.append(domain.data.name)
                own = (users >= least)[item]
                outside += int((mask & ~own).sum())
                mask &= own
            kept.append(mask)
        if alone and len(alone) == sum(bool(set(kinds) & set(RANKED)) for _, _, kinds in self._used):
            raise DataError(
                "DATA-052", f"{alone[0]}: no item was chosen by {least} users in training; set candidates.min_users"
            )
        if outside:
            who = "nobody" if least == 1 else f"fewer than {least} users"
            self.refused[f"item that {who} chose in training"] = outside
        return kept

    def _train(self) -> None:
        """Who and what gets a vector of its own: what the rows that are trained on have."""
        self._trained_in: list[dict[str, Mask]] = []
        seen: dict[tuple[str, str], list[Ints]] = {}
        for at, ((domain, parts, kinds), kept) in enumerate(zip(self._used, self._kept, strict=True)):
            own: dict[str, Mask] = {}
            for kind, entity in self._entity_of[at].items():
                rows = parts.part == 0
                if kind == "item" and "rows" not in kinds:
                    rows = rows & kept
                codes = np.zeros(len(entity), dtype=bool)
                codes[domain.take(domain.data.keys[kind].codes)[rows]] = True
                mask = np.zeros(len(self._of(kind, domain)), dtype=bool)
                mask[entity[codes]] = True
                own[kind] = mask
                seen.setdefault((kind, domain.tables[kind]), []).append(np.flatnonzero(mask))
            self._trained_in.append(own)
        for (kind, table), parts_seen in seen.items():
            self.entities[kind][table].trained(parts_seen)

    def _fit(self) -> None:
        """What the training rows of each table say, and which ids of their columns they have."""
        self._wanted = [(at, *used) for at, used in enumerate(self._used) if "rows" in used[2]]
        whole: dict[int, Interactions] = {id(d.data): d.data for _, d, _, _ in self._wanted}
        self._fits: dict[int, Fitted] = {}
        for key, data in whole.items():
            part = np.full(data.size, -1, dtype=np.int8)
            for _, domain, parts, _ in self._wanted:
                if domain.data is data:
                    part = domain.put(parts.part, part)
            self._fits[key] = Fitted.of(data, part)
        self._asked: dict[str, list[tuple[pl.Series, Mask]]] = {}
        for _, domain, _, _ in self._wanted:
            for column, keys, seen in _id_columns(domain, self._fits[id(domain.data)]):
                self._asked.setdefault(self._table_of(domain, column), []).append((keys, seen))

    def _content(self) -> None:
        """Tables of users and items with what is known of them."""
        known = []
        for kind in KINDS:
            for table, entities in self.entities[kind].items():
                frames = [
                    (domain, frame)
                    for domain, _, _ in self._used
                    for frame in [domain.attributes(kind)]
                    if frame is not None and domain.data.has(kind) and domain.tables[kind] == table
                ]
                known.append(attributes.Known(table, kind, entities, frames))
        self.tables, self.single, self._vocabularies = attributes.tables(known, self._asked)

    def overlap(self, at: int) -> Mask | None:
        """Users (U,) of the ``at``-th domain whom another domain's training rows have; none if it has no others."""
        domain = self._used[at][0]
        others = [
            self._trained_in[other]["user"]
            for other, (d, _, _) in enumerate(self._used)
            if other != at and "user" in self._trained_in[other] and d.tables["user"] == domain.tables["user"]
        ]
        return np.logical_or.reduce(others) if others else None

    def _make_ranked(self) -> None:
        given = {"candidates.lists": self.candidates.lists, "candidates.hard": self.candidates.hard}
        files = {setting: read_lists(setting, path) for setting, path in given.items() if path}
        listed, hard = (files.get(setting) for setting in given)
        for at, (domain, parts, kinds) in enumerate(self._used):
            if not set(kinds) & set(RANKED):
                continue
            lines = self._lines(at, domain, parts, listed, "sequences" in kinds)
            if not len(lines.user):
                continue
            tables = (domain.tables["user"], domain.tables["item"])
            for kind in kinds:
                name = domain.prefix + kind
                if kind == "baskets":
                    own = None
                    pairs = [] if hard is None else list(hard.pairs(domain, self._entity_of[at]).values())
                    if pairs:
                        who, what = (torch.cat(each) for each in zip(*pairs, strict=True))
                        ranked = torch.isin(what, lines.items)
                        own = who[ranked], what[ranked]
                    self.streams[name] = BasketRows(name, lines, self.history, self.candidates, self.seed, tables, own)
                elif kind == "sequences" and self.history.short:
                    labels = [Label(label, kind_of(domain.data.labels[label])) for label in lines.answers]
                    self.streams[name] = SequenceRows(
                        name, lines, self.history, self.seed, tables, labels, domain.data.behaviours
                    )
                elif kind == "pairs":
                    baskets = _together(lines.basket[lines.part == 0])  # else a user's whole history is one
                    groups = _dense(lines.basket if baskets else lines.user)
                    self.streams[name] = PairRows(
                        name, groups, lines.item, lines.part, lines.items, self.seed, tables[1], 100 if baskets else 20
                    )
        met = [joined for file in files.values() for joined in file.joined()]
        refuse_strangers(met)
        self.joined += met
        if listed is not None:
            self._note_lists(listed)

    def _note_lists(self, listed: Listed) -> None:
        """Say whose answers cannot be ranked against anything; DataError if that is everybody."""
        users = alone = 0
        for name, stream in self.streams.items():
            if not isinstance(stream, BasketRows):
                continue
            ranked = Catalogue(stream.lines)
            for stage in ("val", "test"):
                count = len(ranked.users(stage))
                if stage in stream.lines.listed:
                    without = ranked.alone(stage)
                    users, alone = users + count, alone + without
                    given = len(stream.lines.listed[stage][0])
                    self.notes.append(
                        f"candidates.lists: {given:,} given items, not the whole catalogue, are ranked for {count:,} "
                        f"users of the {stage} split of stream '{name}'"
                    )
                    if without:
                        self.notes.append(
                            f"candidates.lists: {without:,} of {count:,} users of the {stage} split of stream '{name}' "
                            "have no other candidate there than what they chose, and count in no metric"
                        )
                elif count and {stage, "all"} & set(listed.frame["split"]):
                    self.notes.append(
                        f"candidates.lists: no pair of {listed.path} is in the {stage} split of stream '{name}', whose "
                        "whole catalogue is ranked"
                    )
        if alone and alone == users:
            raise DataError(
                "DATA-047",
                f"candidates.lists: no user of val and test has a candidate in {listed.path} but what was chosen",
            )

    def _lines(self, at: int, domain: Domain, parts: Parts, listed: Listed | None, answered: bool) -> Lines:
        data, rows = domain.data, np.flatnonzero(self._kept[at])
        index = domain.index()[rows]
        columns: dict[str, npt.NDArray[Any]] = {
            "user": self._numbers(at, "user")[rows],
            "time": parts.time[rows],
            "basket": data.keys["basket"].codes[index] if data.has("basket") else np.zeros(len(rows), np.int32),
            "part": parts.part[rows].astype(np.int64),
            "item": self._numbers(at, "item")[rows],
        }
        if data.event is not None and len(data.behaviours) > 1:
            columns["behaviour"] = data.event[index].astype(np.int64)
        asked = data.asked if answered else ()
        columns |= {f"label {name}": data.answers[index, data.asked.index(name)] for name in asked}
        frame = pl.DataFrame(columns).sort("user", "time", "basket", "part", *list(columns)[4:])
        together = parts.cuts is not None or (data.clock and not parts.forward)
        if together:  # a basket is one user's at one moment: files number baskets per user, and a line may come later
            key = pl.struct("user", "time", "basket", "part")
            basket = frame.select(key.rle_id().cast(pl.Int64).alias("number"))["number"]
        else:
            basket = pl.Series(np.arange(len(frame)))
        values = {name: torch.from_numpy(frame[name].to_numpy(writable=True)) for name in frame.columns}
        items = self._of("item", domain)
        catalogue = np.flatnonzero(np.bincount(columns["item"]))
        overlap, single = self.overlap(at), self.single[domain.tables["item"]]
        trained = self._trained_in[at]
        pairs: dict[str, Pairs] = {} if listed is None else listed.pairs(domain, self._entity_of[at])
        everything = torch.from_numpy(np.isin(np.arange(len(items)), catalogue))
        return Lines(
            user=values["user"], item=values["item"], time=values["time"],
            basket=torch.from_numpy(basket.to_numpy(writable=True)), part=values["part"],
            cuts=parts.cuts, forward=parts.forward, clock=data.time is not None and data.clock,
            items=torch.from_numpy(catalogue),
            content={name: ids for name, (_, ids) in single.items()},
            classes={name: self.tables[table].size - 1 for name, (table, _) in single.items()},
            cold_user=torch.from_numpy(~trained["user"]), cold_item=torch.from_numpy(~trained["item"]),
            overlap=None if overlap is None else torch.from_numpy(overlap),
            behaviour=values.get("behaviour"), kinds=self._kinds(domain), unique=data.unique,
            seen=not data.unique or bool(pairs) if self.candidates.seen is None else self.candidates.seen,
            listed={
                stage: (who[everything[what]], what[everything[what]])
                for stage, (who, what) in _by_stage(pairs).items()
            },
            origin=self._origin, answers={name: values[f"label {name}"] for name in asked},
        )  # fmt: skip

    def _make_rows(self) -> dict[int, dict[str, Place]]:
        """Streams of rows; where the ids of each domain's columns go."""
        places = self._places([(domain, self._fits[id(domain.data)]) for _, domain, _, _ in self._wanted])
        for (at, domain, parts, _), own in zip(self._wanted, places, strict=True):
            data = domain.data
            stages = {"train": 0, "val": 1, "test": 2, "support": SUPPORT}
            splits = {stage: np.flatnonzero(parts.part == number) for stage, number in stages.items()}
            if domain.rows is not None:
                splits = {stage: domain.rows[rows] for stage, rows in splits.items()}
            people = {
                kind: Person(
                    Place(domain.tables[kind], self._entity_of[at][kind]),
                    torch.from_numpy(data.keys[kind].codes),
                    torch.from_numpy(~self._trained_in[at][kind]),
                )
                for kind in KINDS
                if data.has(kind)
            }
            past, time = self._past(at, domain, parts)
            name = f"{domain.prefix}rows"
            stream = TableRows(name, data, splits, self._fits[id(data)], own, people, past, time, self.seed)
            self.streams[name] = stream
            for label, kind in data.labels.items():
                for stage in ("val", "test") if kind == "category" else ():
                    if new := stream.strangers(label, stage):
                        self.notes.append(
                            f"label '{label}' of stream '{name}': {len(new):,} of {stream.splits[stage]:,} {stage} "
                            f"rows have a class that training never saw, such as {shown(min(new))}; they count as wrong"
                        )
        return {at: own for (at, *_), own in zip(self._wanted, places, strict=True)}

    def _past(self, at: int, domain: Domain, parts: Parts) -> tuple[tuple[Histories, History] | None, Tensor | None]:
        """Histories of a domain's users for its rows, and the time of all rows of its table."""
        data, windows = domain.data, self.history
        ordered = data.has("time") or bool((parts.part == SUPPORT).any())  # what is known of a new user needs no time
        asked = (windows.long or windows.short) and data.has("user", "item") and ordered
        if not asked or any(column.kind == "history" for column in data.columns.values()):
            return None, None
        time = domain.put(parts.time, np.zeros(data.size))
        shown = (parts.part >= 0) & events(domain)
        if not parts.forward:
            shown &= (parts.part == 0) | (parts.part == SUPPORT)
        behaviour = None
        if data.event is not None and len(data.behaviours) > 1:
            behaviour = torch.from_numpy(domain.take(data.event)[shown].astype(np.int64))
        user, item, when = (
            torch.from_numpy(values[shown])
            for values in (self._numbers(at, "user"), self._numbers(at, "item"), parts.time)
        )
        histories = Histories(user, item, when, behaviour, windows.gap, kinds=self._kinds(domain))
        return (histories, windows), torch.from_numpy(time)

    def _kinds(self, domain: Domain) -> int:
        """How many ways there are to choose an item, in all domains of its table; 0: nobody says."""
        if domain.data.event is None or len(domain.data.behaviours) < 2:
            return 0
        same = (d.data for d, _, _ in self._used if d.tables["item"] == domain.tables["item"])
        return 1 << max(len(data.behaviours) for data in same)

    def _places(self, used: Sequence[tuple[Domain, Fitted]]) -> list[dict[str, Place]]:
        """Where the ids of each domain's columns go; a table's vocabulary is what any training row of it has."""
        vocabularies = self._vocabularies | {
            table: Entities([keys for keys, _ in parts], [seen for _, seen in parts])
            for table, parts in self._asked.items()
            if table not in self._vocabularies
            and table not in self.entities["user"]
            and table not in self.entities["item"]
        }
        labels = {self._table_of(d, name) for d, _ in used for name in d.data.labels}
        for table, entities in vocabularies.items():
            if table not in labels:
                self.tables.setdefault(table, Table(table, len(entities)))
        found = []
        for domain, fitted in used:
            own: dict[str, Place] = {}
            for column, keys, _ in _id_columns(domain, fitted):
                table = self._table_of(domain, column)
                entities = vocabularies.get(table) or self.entities["user"].get(table) or self.entities["item"][table]
                own[column] = Place(table, entities.table(keys))
            for column, meaning in domain.data.columns.items():
                table = self._table_of(domain, column)
                if meaning.kind == "text":
                    size = attributes.words_of(meaning)
                elif column in fitted.edges or (meaning.kind == "number" and meaning.buckets):
                    size = len(fitted.edges.get(column, ())) + 2
                else:
                    continue
                if table in self.tables and self.tables[table].size != size:
                    table = f"{domain.prefix}{column}_buckets"
                self.tables.setdefault(table, Table(table, size))
                own[column] = Place(table, np.zeros(0, np.int64))
            found.append(own)
        return found

    @staticmethod
    def _table_of(domain: Domain, column: str) -> str:
        """Labels have a vocabulary of their own: its numbers are classes."""
        if column in domain.data.labels:
            return f"{domain.prefix}label {column}"
        return domain.table(column)


def _id_columns(domain: Domain, fitted: Fitted) -> list[tuple[str, pl.Series, Mask]]:
    data = domain.data
    keys = dict(zip(data.ids, data.id_keys, strict=True)) | {name: lists.keys for name, lists in data.lists.items()}
    return [(name, keys[name], seen) for name, seen in fitted.columns(data)]


def _together(basket: Tensor) -> bool:
    """Whether any basket has several lines, of baskets (n,) in order."""
    return bool((basket[1:] == basket[:-1]).any())


def _dense(groups: Tensor) -> Tensor:
    """Numbers from 0 in the order of the values."""
    found: Tensor = torch.unique(groups, return_inverse=True)[1]
    return found


def _by_stage(pairs: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, tuple[Tensor, Tensor]]:
    """Lists of a stage; those that name none are both stages'."""
    if "all" in pairs:
        return {"val": pairs["all"], "test": pairs["all"]}
    return dict(pairs)
