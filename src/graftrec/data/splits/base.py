"""The contract of every split."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from graftrec.data.tables.domains import Domain
from graftrec.utils.errors import UserError
from graftrec.utils.seeds import Hashes, derived, hashes, mixed, share

AT_ONCE = 65_536  # rows of a wide matrix
Part = npt.NDArray[np.int8]
Days = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Parts:
    """How one domain's rows are split.

    Attributes:
        part: (n,) 0 train, 1 validation, 2 test, -1 unused.
        time: (n,) days, or a place in each user's own order: what "before" means here.
        cuts: end of training and of validation, where they are the same for everybody.
        forward: parts follow each other in ``time`` (of each user, if there are no ``cuts``), so whatever came before a
            row may be known to it; else only training rows may.
    """

    part: Part
    time: Days
    cuts: tuple[float, float] | None
    forward: bool


class Split(ABC):
    """Divides the rows of all domains at once, from what stands in them and never from their order.

    Args:
        seed: of whatever is drawn; it belongs to the data, and a run's own seed moves no row.
    """

    one_clock: bool = False  # True: times of all domains count from one moment
    stamp: str = ""  # what the data card says where there is no cut in time for everybody
    seed: int

    @abstractmethod
    def divide(self, domains: Sequence[Domain]) -> list[Parts]:
        """Parts of each domain.

        Raises:
            UserError: the data lacks what this split needs.
        """


def events(domain: Domain) -> npt.NDArray[np.bool_]:
    """Which rows (n,) belong to a history."""
    event = domain.data.event
    return np.ones(domain.size, dtype=bool) if event is None else domain.take(event) > 0


def row_hashes(domain: Domain, seed: int, whole: bool = False) -> Hashes:
    """A number (n,) for each row that only its own content and the seed decide.

    Args:
        whole: also its features and labels; else only if it does not say who chose what.
    """
    data, rows = domain.data, domain.index()
    found: Hashes = np.full(len(rows), seed, dtype=np.uint64)
    columns = [data.keys[role] for role in ("user", "item", "basket") if role in data.keys]
    if whole or not data.has("user", "item"):
        columns += [data.column(name) for name in data.ids]
        for matrix in (data.values, data.answers):
            for column in matrix[rows].T:
                found = mixed(found ^ np.ascontiguousarray(column).view(np.uint32).astype(np.uint64))
    for ids in columns:
        of_key = np.concatenate([hashes(ids.keys), np.zeros(1, np.uint64)])
        found = mixed(found ^ of_key[ids.codes[rows]])
    if data.time is not None:
        found = mixed(found ^ data.time[rows].view(np.uint64))
    return found


def contents(domain: Domain) -> Hashes:
    """A number (n,) for each row that all of it decides: ids, features, labels, weight and what is in its history."""
    data, rows = domain.data, domain.index()
    found = row_hashes(domain, 0, whole=True)
    for column in (data.event, data.split, data.weight):
        if column is not None:
            bits: Hashes = np.asarray(column)[rows].astype(np.float32).view(np.uint32).astype(np.uint64)
            found = mixed(found ^ bits)
    for lists in data.lists.values():
        of_key: Hashes = np.concatenate([hashes(lists.keys), np.zeros(1, np.uint64)])
        place = np.arange(len(lists.codes)) - np.repeat(lists.starts[:-1], np.diff(lists.starts))
        placed: Hashes = of_key[lists.codes] ^ place.astype(np.uint64)
        sums: Hashes = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed(placed), dtype=np.uint64)])
        of_row: Hashes = np.subtract(sums[lists.starts[rows + 1]], sums[lists.starts[rows]])
        found = mixed(found ^ of_row)
    for matrix in (*data.vectors.values(), *data.texts.values()):
        odd = mixed(np.arange(matrix.shape[1], dtype=np.uint64)) | np.uint64(1)
        for low in range(0, len(rows), AT_ONCE):
            part = np.ascontiguousarray(matrix[rows[low : low + AT_ONCE]]).view(np.uint32).astype(np.uint64)
            found[low : low + AT_ONCE] = mixed(found[low : low + AT_ONCE] ^ (part * odd).sum(1, dtype=np.uint64))
    return found


def fingerprint(domains: Sequence[Domain]) -> str:
    """20 hex digits that name the data: every row with its labels, and what is known of users and items.

    The order of rows and columns' names leave it alone; one other id or label makes it another one.
    """
    digest = hashlib.sha256()
    for domain in domains:
        with np.errstate(over="ignore"):
            total = contents(domain).sum(dtype=np.uint64)
        digest.update(f"{domain.name} {domain.size} {int(total)}".encode())
        for known in (domain.data.users, domain.data.items):
            digest.update(b"none" if known is None else _attributes(known.frame))
    return digest.hexdigest()[:20]


def _attributes(frame: pl.DataFrame) -> bytes:
    """The sha256 of a table with a column ``key``, in whatever order its rows are."""
    digest = hashlib.sha256()
    frame = frame.sort("key")
    for name in sorted(frame.columns):
        values = frame[name]
        while isinstance(values.dtype, (pl.List, pl.Array)):
            values = values.cast(pl.List(values.dtype.inner))
            digest.update(values.list.len().fill_null(0).to_numpy().tobytes())
            values = values.explode(empty_as_null=False, keep_nulls=False)
        digest.update(f"{name} {len(values)}".encode() + values.is_null().to_numpy().tobytes())
        if values.dtype.is_numeric():
            digest.update(values.fill_null(0).to_numpy().tobytes())
        else:
            digest.update("\x1f".join(values.cast(pl.String).fill_null("").to_list()).encode())
    return digest.digest()


def in_order(domains: Sequence[Domain], *keys: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Rows (n,) of all domains by ``keys`` (n,), and where these are equal by their content: never as they stand.

    Labels have a say only in rows of one user, item, basket and time.
    """
    order = np.lexsort(keys[::-1])
    same = np.ones(max(0, len(order) - 1), dtype=bool)
    for key in keys:
        ordered = key[order]
        same &= ordered[1:] == ordered[:-1]
    if not same.any():
        return order
    tied = np.sort(order[np.append(same, False) | np.insert(same, 0, False)])
    who, all_of_it = np.zeros((2, len(order)), dtype=np.uint64)
    start = 0
    for domain in domains:
        own = tied[(tied >= start) & (tied < start + domain.size)]
        rows = replace(domain, rows=domain.index()[own - start])
        who[own], all_of_it[own] = row_hashes(rows, 0), row_hashes(rows, 0, whole=True)
        start += domain.size
    return np.lexsort((all_of_it, who, *keys[::-1]))


def drawn_order(domain: Domain, part: Part, seed: int) -> Days:
    """A place (n,) for each row in an order of its user's own that is drawn: training, then validation, then test.

    Where rows have no time, a training row then knows some of its user's other training rows and never itself.
    """
    found: Days = np.maximum(part, 0) + share(mixed(row_hashes(domain, derived(seed, "order"))))
    return found


def need(domains: Sequence[Domain], split: str, *columns: str) -> None:
    """UserError unless all domains have these columns."""
    for domain in domains:
        missing = [column for column in columns if not domain.data.has(column)]
        if missing:
            where = f" of domain '{domain.name}'" if domain.name else ""
            raise UserError(
                f"split={split} needs {', '.join(columns)}, and {domain.data.name}{where} has no {', '.join(missing)}; "
                "choose split=time, leave_last_out, random or official"
            )
