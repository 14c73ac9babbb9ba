"""What the settings of `graftrec.data.datasets.files.Files` say of columns, and what cannot be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from graftrec.data.tables.interactions import Column, LabelKind

TAKEN = {"user", "item", "time", "basket", "domain", "split", "event", "weight", "long", "recent", "candidate", "cross"}
TAKEN |= {"recent_age", "recent_behaviour", "cold_user", "cold_item"}


def columns_of(name: str, given: Mapping[str, Any] | None) -> dict[str, Column]:
    """Columns from YAML; ValueError that says which one is wrong."""
    found = {}
    for column, meaning in (given or {}).items():
        try:
            made = Column.of(meaning)
        except ValueError as error:
            raise ValueError(f"{name}.{column}: {error}") from None
        found[column] = replace(made, clip=tuple(made.clip), parts=tuple(made.parts))
    return found


def made_of(name: str, column: Column) -> list[str]:
    """Columns of a batch that come of a feature."""
    if column.kind == "date":
        return [f"{name}_{part}" for part in column.parts]
    return [name, f"{name}_age"] if column.kind == "history" else [name]


def wrong_columns(
    keys: Mapping[str, str],
    features: Mapping[str, Column],
    labels: Mapping[str, str],
    known_after: Sequence[str],
    events: Mapping[str, float],
) -> list[str]:
    """What is wrong with the meanings of the columns of rows, a line each."""
    problems = []
    made: dict[str, list[str]] = {}
    for column, meaning in features.items():
        if column in known_after:
            problems.append(
                f"features: '{column}' is known only after the row (known_after), so it would leak the answer"
            )
        if column in labels:
            problems.append(f"features: '{column}' is a label as well, so it would be the answer")
        itself = column in ("user", "item") and keys.get(column) == column and meaning.kind == "id"
        if column in TAKEN and meaning.kind != "date" and not itself:
            problems.append(f"features: '{column}' is a name that graftrec uses itself; rename the column")
        for name in made_of(column, meaning):
            made.setdefault(name, []).append(column)
    for name, columns in made.items():
        if len(columns) > 1 or (name in labels and name not in features):
            others = " and ".join(f"'{column}'" for column in [*columns, name][:2])
            problems.append(f"features: '{name}' would be made of {others}; rename one of them")
    for column, kind in labels.items():
        if kind not in get_args(LabelKind):
            problems.append(f"labels.{column}: should be one of {', '.join(get_args(LabelKind))}, found {kind}")
        if column in TAKEN:
            problems.append(f"labels: '{column}' is a name that graftrec uses itself; rename the column")
    for column in events:
        number = column in features and features[column].kind == "number"
        if labels.get(column) not in ("binary", "number") and not number:
            problems.append(f"events: '{column}' is neither a label of kind binary or number nor a number feature")
    if len(events) > 7:
        problems.append(f"events: at most 7 kinds of behaviour, found {len(events)}")
    if not (keys or features or labels):
        problems.append("no column is named: user and item, or labels, are what can be learned from")
    return problems


def wrong_attributes(
    keys: Mapping[str, str],
    files: Mapping[str, str],
    columns_of_role: Mapping[str, Mapping[str, Column] | None],
    known_after: Sequence[str],
) -> list[str]:
    """What is wrong with the files of users and items (role -> path) and the meanings of their columns, a line each."""
    problems = []
    for role in ("user", "item"):
        if files[role] and role not in keys:
            problems.append(f"{role}s: a file of no use without dataset.{role}, the column that keys it")
        columns = columns_of_role[role] or {}
        if columns and not files[role]:
            problems.append(f"{role}_features: of no use without dataset.{role}s, the file that has them")
        for name, column in columns.items():
            where = f"{role}_features.{name}"
            if name in known_after:
                problems.append(f"{where}: known only after the row (known_after), so it would leak the answer")
            if column.kind == "history":
                problems.append(f"{where}: an attribute is no history; its kind may be ids")
            if column.missing == "drop" or column.outliers or (column.buckets and column.kind == "number"):
                problems.append(f"{where}: missing=drop, outliers and buckets of numbers are of features of rows")
    return problems
