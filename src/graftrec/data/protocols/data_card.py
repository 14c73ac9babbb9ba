"""The data card: what a protocol made of a dataset, and what a reader should know before believing a number."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import polars as pl

from graftrec.data.protocols.preparation import Prepared
from graftrec.data.splits.base import Parts, Split, row_hashes
from graftrec.data.splits.predefined import Official, known_of
from graftrec.data.tables.domains import KINDS, Domain
from graftrec.data.tables.interactions import Interactions, distinct
from graftrec.utils.seeds import Hashes, mixed
from graftrec.utils.seeds import hashes as hashes_of

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
OLDEST = datetime(1990, 1, 1, tzinfo=timezone.utc)
PAIRED = 10  # domains, of whose pairs each gets a line of its own
STAGES = ("train", "val", "test")

NAMED = 12  # streams in one line


def card(
    protocol: str,
    split: Split,
    domains: Sequence[Domain],
    parts: Sequence[Parts],
    made: Prepared,
    full: bool,
    name: str,
) -> dict[str, Any]:
    """Counts, dates, splits with a hash each, refused rows, stamps and warnings; plain values, for JSON.

    It looks at every row, and several times if ``full``, so it is made when it is asked for and not before. ``name`` is
    the data's fingerprint.
    """
    tables = list({id(domain.data): domain.data for domain in domains}.values())
    found: dict[str, Any] = {
        "dataset": " + ".join(dict.fromkeys(data.name for data in tables)),
        "protocol": protocol,
        "split": type(split).__name__,
        "rows": sum(_rows(data) for data in tables),
    }
    for kind in KINDS:
        counts = [_distinct(data, kind) for data in tables if data.has(kind)]
        if counts:
            found[f"{kind}s"] = sum(counts)
    found |= _dates(tables)
    hashes = [row_hashes(domain, 0) for domain in domains]
    labels = [_label_hashes(domain, of_rows) for domain, of_rows in zip(domains, hashes, strict=True)]
    found["fingerprint"] = name
    found["splits"] = {name: dict(stream.splits) for name, stream in made.streams.items()}
    found["domains"] = {
        domain.name or "all": _domain(domain, own, of_rows, of_labels, full)
        for domain, own, of_rows, of_labels in zip(domains, parts, hashes, labels, strict=True)
    }
    catalogue = [len(stream.lines.items) for stream in made.streams.values() if hasattr(stream, "lines")]
    if catalogue:
        found["catalogue"] = max(catalogue)
    found["refused"] = _summed([data.refused for data in tables]) | made.refused
    stamps = [stamp for data in tables for stamp in data.stamps]
    found["stamps"] = list(dict.fromkeys([*([split.stamp] if split.stamp else []), *stamps]))
    joins = [*(joined for domain in domains for joined in domain.joined), *made.joined]
    found["joined"] = [str(joined) for joined in joins]
    notes = [*(note for data in tables for note in data.notes), *_warnings(domains, full), *_empty(made)]
    notes += [note for joined in joins for note in joined.notes] + made.notes
    if full:
        notes += [note for domain, own in zip(domains, parts, strict=True) for note in _ties(domain, own)]
    if isinstance(split, Official):
        met = [joined for domain, own in zip(domains, parts, strict=True) for joined in known_of(domain, own.part)]
        notes += [note for joined in met for note in joined.notes]
    found["notes"] = list(dict.fromkeys(notes))
    if full:
        found["timeline"] = _timeline(domains)
    return found


def _rows(data: Interactions) -> int:
    """Rows that no filter took out."""
    return data.size if data.kept is None else int(data.kept.sum())


def _distinct(data: Interactions, kind: str) -> int:
    """Users or items of these rows."""
    ids = data.keys[kind]
    return len(ids.keys) if data.kept is None else int((np.bincount(ids.codes[data.kept]) > 0).sum())


def _empty(made: Prepared) -> list[str]:
    """What cannot be trained on or evaluated, a line for each split."""
    of_part: dict[str, list[str]] = {}
    for name, stream in made.streams.items():
        for part, rows in stream.splits.items():
            if not rows:
                of_part.setdefault(part, []).append(f"'{name}'")
    return [
        f"the {part} split of stream{'s' * (len(names) > 1)} {', '.join(names[:NAMED])}"
        + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
        + f" {'has' if len(names) == 1 else 'have'} no row"
        for part, names in of_part.items()
    ]


def _dates(tables: Sequence[Interactions]) -> dict[str, str]:
    times = [
        np.asarray(data.time) if data.kept is None else data.time[data.kept]
        for data in tables
        if data.time is not None and data.clock and _rows(data)
    ]
    if not times:
        return {}
    return {
        "first": day(min(float(time.min()) for time in times)),
        "last": day(max(float(time.max()) for time in times)),
    }


def _timeline(domains: Sequence[Domain]) -> dict[str, Any]:
    """Rows of each domain in 60 equal spans of time, with the dates between them."""
    timed = [domain for domain in domains if domain.data.time is not None and domain.data.clock and domain.size]
    if not timed:
        return {}
    times = {domain.name or "all": domain.take(np.asarray(domain.data.time)) for domain in timed}
    low, high = min(float(t.min()) for t in times.values()), max(float(t.max()) for t in times.values())
    edges = np.linspace(low, max(high, low + 1 / 24), 61)
    counts = {name: np.histogram(time, edges)[0].tolist() for name, time in times.items()}
    return {"edges": [day(float(edge)) for edge in edges], "counts": counts}


def day(since: float) -> str:
    """A date and time from days since 1970."""
    return (EPOCH + timedelta(days=since)).replace(tzinfo=None).isoformat(" ", "seconds")


def _label_hashes(domain: Domain, hashes: Hashes) -> dict[str, Hashes]:
    """Label -> a number (n,) for each row that its content and its value of the label decide."""
    data, rows = domain.data, domain.index()
    found = {}
    for name, kind in data.labels.items():
        if kind == "category":
            ids = data.column(name)
            value = np.concatenate([hashes_of(ids.keys), np.zeros(1, np.uint64)])[ids.codes[rows]]
        else:
            column = np.ascontiguousarray(data.answers[rows, data.asked.index(name)])
            value = column.view(np.uint32).astype(np.uint64)
        found[name] = mixed(hashes ^ mixed(value))
    return found


def _domain(domain: Domain, parts: Parts, hashes: Hashes, labels: Mapping[str, Hashes], full: bool) -> dict[str, Any]:
    """Counts of one domain; hashes of its splits and of the labels in them, which the order of rows leaves alone."""
    data, rows = domain.data, domain.index()
    found: dict[str, Any] = {"rows": domain.size}
    codes = {kind: data.keys[kind].codes[rows] for kind in KINDS if data.has(kind)}
    for kind, values in codes.items():
        found[f"{kind}s"] = int((np.bincount(values) > 0).sum())
    found["split_hashes"] = {name: _hash([hashes[parts.part == at]]) for at, name in enumerate(STAGES)}
    found["label_hashes"] = {
        label: {name: _hash([of_label[parts.part == at]]) for at, name in enumerate(STAGES)}
        for label, of_label in labels.items()
    }
    if not full:
        return found
    for kind, values in codes.items():
        counts = np.sort(np.bincount(values))[::-1]
        share = np.cumsum(counts[counts > 0]) / max(1, domain.size)
        tops = {f"{top} %": share[max(0, round(len(share) * top / 100) - 1) :][:1].sum() for top in (1, 10, 50)}
        found[f"rows_of_top_{kind}s"] = {name: float(value) for name, value in tops.items()}
    if len(codes) == len(KINDS) and domain.size:
        pairs = len(distinct(codes["user"].astype(np.int64) * len(data.keys["item"].keys) + codes["item"]))
        found["density"] = pairs / (found["users"] * found["items"])
        found["repeated_pairs"] = domain.size - pairs
    found["labels"] = {name: _label(data, name, rows) for name in data.labels}
    lacks = {name: data.codes[rows, at] < 0 for at, name in enumerate(data.ids) if name not in data.labels}
    lacks |= {name: np.isnan(data.values[rows, at]) for at, name in enumerate(data.numbers)}
    lacks |= {name: np.diff(lists.starts)[rows] == 0 for name, lists in data.lists.items()}
    lacks |= {name: words[rows, 0] == 0 for name, words in data.texts.items()}
    found["missing"] = {name: float(lack.mean()) for name, lack in lacks.items() if lack.any()}
    found["numbers"] = {name: _number(data.values[rows, at]) for at, name in enumerate(data.numbers)}
    return found


def _label(data: Interactions, name: str, rows: np.ndarray) -> dict[str, Any]:
    if data.labels[name] == "category":
        codes = data.codes[rows, data.ids.index(name)]
        return {"kind": "category", "mean": None, "missing": int((codes < 0).sum())}
    values = data.answers[rows, data.asked.index(name)]
    there = values[~np.isnan(values)]
    return {
        "kind": data.labels[name],
        "mean": float(there.mean(dtype=np.float64)) if len(there) else None,
        "missing": len(values) - len(there),
    }


def _number(values: np.ndarray) -> dict[str, Any]:
    """Range of a number, and how many rows lie more than 10 times the middle half away from it."""
    there = values[~np.isnan(values)]
    if not len(there):
        return {"low": None, "high": None, "outliers": 0}
    low, middle, high = np.quantile(there, [0.25, 0.5, 0.75])
    far = 10 * max(float(high - low), 1e-9)
    outliers = int((np.abs(there - middle) > far).sum()) if high > low else 0
    return {"low": float(there.min()), "median": float(middle), "high": float(there.max()), "outliers": outliers}


def _warnings(domains: Sequence[Domain], full: bool) -> list[str]:
    found = []
    for domain in domains:
        data, rows, where = domain.data, domain.index(), f"{domain.name}: " if domain.name else ""
        if not domain.size:
            continue
        for at, name in enumerate(data.asked):
            values = data.answers[rows, at]
            there = values[~np.isnan(values)]
            if not len(there):
                found.append(f"{where}label '{name}' is missing in every row")
            elif len(there) > 1 and there.min() == there.max():
                found.append(f"{where}label '{name}' is {there[0]:g} in every row: its metrics are undefined")
        if data.time is not None and data.clock:
            now = (datetime.now(timezone.utc) - EPOCH) / timedelta(days=1)
            time = data.time[rows]
            for what, odd in (("in the future", time > now + 1), ("before 1990", time < (OLDEST - EPOCH).days)):
                if odd.any():
                    found.append(f"{where}{float(odd.mean()):.1%} of the times are {what}: is time_unit right?")
        if full and data.has("user", "item") and not data.unique:
            found += _doubles(domain, where)
    if len(domains) > 1:
        found += _overlaps(domains)
    return found


def _ties(domain: Domain, parts: Parts) -> list[str]:
    """How many evaluated rows have the time of another row of their user, whose order nobody knows then."""
    data = domain.data
    if not (data.has("user", "time") and data.clock and domain.size):
        return []
    user, time = domain.take(data.keys["user"].codes), domain.take(np.asarray(data.time))
    order = np.lexsort((time, user))
    same = (np.diff(user[order]) == 0) & (np.diff(time[order]) == 0)
    tied = np.zeros(domain.size, dtype=bool)
    tied[order] = np.append(same, False) | np.insert(same, 0, False)
    share = float(tied[parts.part > 0].mean()) if (parts.part > 0).any() else 0.0
    if share < 0.01:
        return []
    days = ", and all times are whole days" if bool((time == np.floor(time)).all()) else ""
    where = f"{domain.name}: " if domain.name else ""
    return [
        f"{where}{share:.0%} of the val and test rows have the time of another row of their user{days}: no row knows "
        "others of its own moment, so their order is lost"
    ]


def _doubles(domain: Domain, where: str) -> list[str]:
    """Rows that stand there twice, and those among them whose labels contradict each other."""
    data, rows = domain.data, domain.index()
    key = row_hashes(domain, 0)
    order = np.argsort(key, kind="stable")
    same = key[order][1:] == key[order][:-1]
    if data.time is None or not same.any():
        return []
    differ = np.zeros(len(same), dtype=bool)
    for column in data.answers[rows].T:
        values = np.nan_to_num(column[order], nan=-1.0)
        differ |= same & (values[1:] != values[:-1])
    told = f", {int(differ.sum()):,} of them with another label" if differ.any() else ""
    return [f"{where}{int(same.sum()):,} rows repeat a user, item and time{told}; see dataset.duplicates"]


def _overlaps(domains: Sequence[Domain]) -> list[str]:
    """What each two domains have in common; where there are many, what each has in common with any other."""
    own = [{kind: _ids(domain, kind) for kind in KINDS if domain.data.has(kind)} for domain in domains]
    if len(domains) > PAIRED:
        return [
            f"{domain.name} and the other {len(domains) - 1} domains have in common: {_said(common)}"
            for domain, common in zip(domains, _with_any(domains, own), strict=True)
        ]
    found = []
    for (one, mine), (other, theirs) in itertools.combinations(zip(domains, own, strict=True), 2):
        kinds = [kind for kind in KINDS if kind in mine and kind in theirs and one.tables[kind] == other.tables[kind]]
        common = {kind: _common(mine[kind], theirs[kind]) for kind in kinds}
        found.append(f"{one.name} and {other.name} have in common: {_said(common)}")
    return found


def _said(common: Mapping[str, int]) -> str:
    said = ", ".join(f"{count:,} {kind}s" for kind, count in common.items() if count)
    return said or "nothing: only parameters are shared"


def _ids(domain: Domain, kind: str) -> pl.Series:
    """Raw ids that the rows of a domain have."""
    return domain.keys(kind).gather(np.flatnonzero(np.bincount(domain.take(domain.data.keys[kind].codes))))


def _common(one: pl.Series, other: pl.Series) -> int:
    if one.dtype != other.dtype:  # as `Entities` compares them
        one, other = one.cast(pl.String), other.cast(pl.String)
    return int(one.is_in(other.implode()).sum())


def _with_any(domains: Sequence[Domain], own: Sequence[Mapping[str, pl.Series]]) -> list[dict[str, int]]:
    """For each domain kind -> how many of its ids another domain has in the same table; by one look at all ids."""
    found: list[dict[str, int]] = [{} for _ in domains]
    for kind in KINDS:
        ids = [
            pl.DataFrame({"id": each[kind].cast(pl.String)}).with_columns(
                at=pl.lit(at), table=pl.lit(domain.tables[kind])
            )
            for at, (domain, each) in enumerate(zip(domains, own, strict=True))
            if kind in each
        ]
        if ids:
            several = pl.len().over("table", "id") > 1
            for at, count in pl.concat(ids).filter(several).group_by("at").len().iter_rows():
                found[at][kind] = count
    return found


def _summed(parts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in parts:
        for reason, count in part.items():
            found[reason] = found.get(reason, 0) + count
    return found


def _hash(parts: Sequence[Hashes]) -> str:
    """16 hex digits that the order of rows does not change."""
    total = np.uint64(0)
    with np.errstate(over="ignore"):
        for part in parts:
            total = total + part.sum(dtype=np.uint64)
    return f"{int(total):016x}"
