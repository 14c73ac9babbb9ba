"""What is known of users and items: attributes as tables and vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from graftrec.data.schema import Table
from graftrec.data.tables.builder import WORDS, hashed
from graftrec.data.tables.domains import Domain
from graftrec.data.tables.entities import Entities
from graftrec.data.tables.id_matching import Joined, joined
from graftrec.data.tables.interactions import Attributes, Column, Floats, Interactions, Lists
from graftrec.data.tables.vocabulary import as_type

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Known:
    """Entities of one table and the attributes that domains bring along for them."""

    table: str
    kind: str
    entities: Entities
    frames: Sequence[tuple[Domain, Attributes]]


@dataclass(frozen=True, eq=False)
class Use:
    """One attribute of one table of entities."""

    owner: Known
    name: str
    column: Column
    values: pl.Series  # (E,): of each entity, null for number 0


def words_of(column: Column) -> int:
    """Rows of the table of a text's words."""
    return (column.buckets or WORDS) + 1


Single = dict[str, tuple[str, Tensor]]
"""Attribute of kind ``id`` -> its table, and the value (E,) of each entity."""


def tables(
    known: Sequence[Known], asked: Mapping[str, Sequence[tuple[pl.Series, Mask]]]
) -> tuple[dict[str, Table], dict[str, Single], dict[str, Entities]]:
    """Tables of all entities and of their attributes; the single-valued attributes of each table of entities; and the
    vocabularies of attributes.

    Vocabularies and scales come from the entities that training saw.

    Args:
        known: entities and attributes. asked: table -> keys of columns of rows, and which of them training saw.
    """
    uses: dict[str, list[Use]] = {}
    for owner in known:
        for target, use in _uses(owner):
            uses.setdefault(target, []).append(use)
    content: dict[str, dict[str, Tensor]] = {owner.table: {} for owner in known}
    vectors: dict[str, dict[str, Tensor]] = {owner.table: {} for owner in known}
    single: dict[str, Single] = {owner.table: {} for owner in known}
    owners = {owner.table: owner.entities for owner in known}
    found: dict[str, Table] = {}
    vocabularies: dict[str, Entities] = {}
    for target, shared in uses.items():
        kind = shared[0].column.kind
        if kind in ("number", "vector"):
            arrays = [_floats(use) for use in shared]
            seen = np.concatenate([a[u.owner.entities.rows > 0] for a, u in zip(arrays, shared, strict=True)])
            mean, spread = _scale(seen)
            for use, array in zip(shared, arrays, strict=True):
                scaled = np.nan_to_num((array - mean) / spread).astype(np.float32)
                vectors[use.owner.table][target] = torch.from_numpy(scaled)
        elif kind == "text":
            found[target] = Table(target, words_of(shared[0].column))
            for use in shared:  # equal words have one bucket
                column = replace(use.column, buckets=shared[0].column.buckets)
                content[use.owner.table][target] = torch.from_numpy(hashed(use.values, column)).long()
        else:
            people = owners.get(target)  # the values are users or items themselves
            vocabulary = people or _vocabulary(shared, asked.get(target, ()))
            if people is None:
                vocabularies[target] = vocabulary
                found[target] = Table(target, len(vocabulary))
            for use in shared:
                ids = _ids(use, vocabulary)
                ids = ids if people is None else people.row_of[ids]
                content[use.owner.table][target] = ids
                if ids.ndim == 1:
                    single[use.owner.table][use.name] = (target, ids)
    for owner in known:
        found[owner.table] = Table(
            owner.table, owner.entities.size, owner.entities.row_of, content[owner.table], vectors[owner.table]
        )
    return found, single, vocabularies


def met(data: Interactions) -> list[Joined]:
    """How many users and items of a table have attributes."""
    return [
        joined(f"dataset.{kind}s", f"{kind}s of {data.name} have attributes", data.keys[kind].keys, known.frame["key"])
        for kind, known in (("user", data.users), ("item", data.items))
        if known is not None and data.has(kind) and len(data.keys[kind].keys)
    ]


def _uses(owner: Known) -> list[tuple[str, Use]]:
    """(table or vector of an attribute, its use)."""
    keys = owner.entities.vocabulary.keys
    joined: dict[str, tuple[str, Column, pl.Series]] = {}
    for domain, attributes in owner.frames:
        key = as_type(attributes.frame["key"], keys.dtype)
        frame = attributes.frame.with_columns(key.alias("key")).drop_nulls("key")
        own = pl.DataFrame({"key": keys}).join(
            frame.unique("key", keep="first", maintain_order=True), on="key", how="left", maintain_order="left"
        )
        for name, column in attributes.columns.items():
            target = domain.table(name, owner.kind)
            values = own[name]
            if target in joined:  # another domain's attributes of the same entities
                earlier = joined[target][2]
                both = pl.DataFrame({"a": earlier, "b": values.cast(earlier.dtype, strict=False)})
                values = both.select(pl.coalesce("a", "b").alias(name))[name]
            joined[target] = (name, column, values)
    found = []
    for target, (name, column, values) in joined.items():
        stranger = pl.Series(name, [None], dtype=values.dtype)
        found.append((target, Use(owner, name, column, stranger.append(values))))
    return found


def _vocabulary(shared: Sequence[Use], asked: Sequence[tuple[pl.Series, Mask]]) -> Entities:
    """What training saw of a table: as an attribute, or in a column of rows."""
    own = [_trained_values(use) for use in shared]
    kept = [*(np.ones(len(values), dtype=bool) for values in own), *(seen for _, seen in asked)]
    return Entities([*own, *(keys for keys, _ in asked)], kept)


def _trained_values(use: Use) -> pl.Series:
    """Raw values of the entities that training saw."""
    own = use.values.filter(pl.Series(use.owner.entities.rows > 0))
    return _lists(own, use.column).explode(empty_as_null=False, keep_nulls=False) if use.column.kind == "ids" else own


def _ids(use: Use, vocabulary: Entities) -> Tensor:
    """Entities (E,) or (E, L) of an attribute."""
    if use.column.kind != "ids":
        return torch.from_numpy(vocabulary.vocabulary.encode(use.values))
    lists = Lists.of(_lists(use.values, use.column))
    codes = lists.padded(np.arange(len(use.values)), use.column.length)
    return torch.from_numpy(vocabulary.table(lists.keys)[codes])


def _lists(values: pl.Series, column: Column) -> pl.Series:
    if isinstance(values.dtype, pl.List):
        return values
    parts = values.cast(pl.String).str.split(column.separator)
    found: pl.Series = parts.list.eval(pl.element().str.strip_chars().filter(pl.element() != ""))
    return found


def _floats(use: Use) -> Floats:
    """Numbers (E, V), NaN where there are none."""
    if use.column.kind == "number":
        found: Floats = use.values.cast(pl.Float32, strict=False).fill_null(np.nan).to_numpy()[:, None].copy()
        if use.column.clip:
            found = np.clip(found, use.column.clip[0], use.column.clip[1])
        return np.sign(found) * np.log1p(np.abs(found)) if use.column.log else found
    width = int(use.values.drop_nulls().list.len().max() or 1)  # type: ignore[arg-type]
    found = np.full((len(use.values), width), np.nan, dtype=np.float32)
    there = use.values.is_not_null().to_numpy()
    if there.any():
        found[there] = use.values.drop_nulls().list.to_array(width).cast(pl.Array(pl.Float32, width)).to_numpy()
    return found


def _scale(values: Floats) -> tuple[Floats, Floats]:
    """Mean and spread (V,) of what is there."""
    if not len(values) or np.isnan(values).all():
        return np.zeros(values.shape[1], np.float32), np.ones(values.shape[1], np.float32)
    with np.errstate(all="ignore"):
        mean, spread = np.nanmean(values, 0), np.nanstd(values, 0)
    return np.nan_to_num(mean), np.where(np.nan_to_num(spread) > 1e-6, spread, 1.0).astype(np.float32)
