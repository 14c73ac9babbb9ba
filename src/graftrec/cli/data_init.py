"""``graftrec data init FILE...``: guess what the columns of files mean, and write a folder of YAML to start from."""

from __future__ import annotations

import glob
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from graftrec.cli.data_copy import Copy, copy_of
from graftrec.config.flags import COMMANDS
from graftrec.config.instantiate import conf_dir, near
from graftrec.data.datasets.files_columns import PARTS
from graftrec.data.datasets.files_settings import TAKEN
from graftrec.data.sources import parquet_reader, table_reader, timestamps
from graftrec.data.tables.domains import slug
from graftrec.utils.atomic_files import whole, writing
from graftrec.utils.errors import DataError, UserError
from graftrec.utils.terminal_text import plain, say

NAMES = {
    "user": r"(user|customer|client|household|member|visitor|account|reviewer|person|session)",
    "item": r"(item|product|movie|book|song|track|artist|article|sku|asin|game|anime|video|news|place|restaurant)",
    "time": r"(time|timestamp|date|datetime|ts|day|when|created|unix|.*_at)",
    "basket": r"(basket|order|invoice|transaction|cart)",
    "domain": r"(domain|platform|site|market|scenario)",
    "split": r"(split|fold|part|partition|subset|set)",
    "label": r"(label|click|like|buy|bought|purchase|view|watch|conversion|convert|rating|stars|score)(d|ed)?",
}
AFTER = r".*(play|watch|dwell|stay|view|read|comment|listen)_?(ing)?_?(time|duration|seconds|ms|ratio)(_.*)?"
DOMAINS = 8  # more values than this are a feature
NO_NAMES = {"nan", "inf", "null", "none", "true", "false", "yes", "no", "on", "off"}  # to YAML


@dataclass
class Guess:
    """What was made of a file: role -> column, column -> kind, and why, line by line."""

    keys: dict[str, str] = field(default_factory=dict)
    features: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    after: list[str] = field(default_factory=list)
    domains: list[str] = field(default_factory=list)  # names, the smallest first
    unit: str = ""
    why: list[tuple[str, str, str]] = field(default_factory=list)

    def say(self, column: str, kind: str, reason: str) -> None:
        """Note a guess."""
        self.why.append((column, kind, reason))


def main(words: Sequence[str]) -> int:
    """Write the folder and say what was guessed; UserError if the words are no files."""
    files, options = COMMANDS["data init"].read(words)
    path = files[0] if len(files) == 1 else _pattern(files)
    name = _name(Path(files[0]).name.partition(".")[0])
    folder = Path(options.pop("out", f"{name}_conf"))
    copy = copy_of(path)
    frame, left_out = (copy.frame(), dict[str, str]()) if copy else _first(path)
    guess = look(frame, options)
    for column, reason in left_out.items():
        guess.say(column, "-", f"left out: {reason}")
    written = write(folder, name, str(Path(path).resolve()), guess, copy)
    width = max(len(column) for column, _, _ in guess.why)
    for column, kind, reason in guess.why:
        say(f"  {plain(column):{width}}  {kind:8} {plain(reason)}")
    say(f"\nwritten  {', '.join(str(file.relative_to(folder)) for file in written)} in {folder}; change what is wrong")
    if copy:
        what = "its header is of another kind" if copy.headed else "it has no header"
        say(f"copied   {path} to {folder / f'{name}.csv'}, since {what}: there are {', '.join(map(plain, copy.names))}")
    ranked = "candidates.min_users=2" if {"user", "item"} <= set(guess.keys) else ""
    protocol = f"cross_domain split={_split(guess)} {ranked}".rstrip()
    say(f"check    graftrec data check --config-dir {folder} dataset={name} protocol={protocol}")
    say(f"train    graftrec train --config-dir {folder} experiment={name}")
    return 0


def _first(path: str) -> tuple[pl.DataFrame, dict[str, str]]:
    """The first rows, which are enough to guess, and why columns are left out: no name, or no single values."""
    name = table_reader.find(path)[0]
    schema = parquet_reader.schema(name) if name.endswith(table_reader.PARQUET) else ()
    left_out = {}
    for each in schema:
        try:
            parquet_reader.types(name, schema, [each.name], [])
        except DataError:
            left_out[each.name] = f"{str(each.type)[:60]} is not one value a row"
    named = [column for column in table_reader.columns(path) if column not in left_out]
    if not named:
        raise UserError(f"{path}: no column has one value a row, and others are not read: {', '.join(left_out)}")
    frame = next(iter(table_reader.batches(path, named if left_out else []))).frame
    left_out |= dict.fromkeys(
        [column for column in frame.columns if column not in named], "the header gives it no name"
    )
    return frame.select(column for column in frame.columns if column in named), left_out


def look(frame: pl.DataFrame, told: Mapping[str, str] | None = None) -> Guess:
    """Guess the role and kind of every column from its name and its values; of ``told`` roles the column is known.

    Raises:
        UserError: columns that are told and are not there, or are no times; there is nothing to guess of.
    """
    guess = Guess(keys=dict(told or {}))
    rows = len(frame)
    if problems := _wrong_roles(guess.keys, frame):
        raise UserError(problems)
    for role, column in guess.keys.items():
        guess.say(column, role, f"--{role} says so")
    for role in ("user", "item", "time", "basket", "domain", "split"):
        if role in guess.keys:
            continue
        found = [
            column for column in frame.columns if re.fullmatch(rf"{NAMES[role]}([_ ]?(id|key|no))?", column.lower())
        ]
        found = [column for column in found if column not in guess.keys.values()]
        found = [column for column in found if role != "time" or _unit(frame[column])]
        found = [column for column in found if role != "split" or _parts(frame[column])]
        if found:
            guess.keys[role] = found[0]
            guess.say(found[0], role, "by its name")
    if "domain" in guess.keys:
        counts = frame[guess.keys["domain"]].drop_nulls().cast(pl.String).value_counts(sort=True)
        guess.domains = [slug(value) for value in counts.reverse()[guess.keys["domain"]]]
        if not 2 <= len(guess.domains) <= DOMAINS:
            guess.why = [said for said in guess.why if said[0] != guess.keys["domain"]]
            del guess.keys["domain"]
            guess.domains = []
    if "time" in guess.keys:
        guess.unit = _unit(frame[guess.keys["time"]])
        if guess.unit != "date":
            number = "%" not in guess.unit
            said = (guess.keys["time"], "time", f"{'a number of' if number else 'dates written as'} {guess.unit}")
            guess.why = [said if column == said[0] else (column, kind, why) for column, kind, why in guess.why]
    for column in frame.columns:
        if column in guess.keys.values():
            continue
        values = frame[column].fill_nan(None) if frame[column].dtype.is_float() else frame[column]
        values = (values.replace({"": None}) if values.dtype == pl.String else values).drop_nulls()
        distinct = values.n_unique()
        numeric = values.cast(pl.Float64, strict=False)
        words = {str(value).lower() for value in values.head(1000).unique()}
        is_label = re.fullmatch(rf"(is_)?{NAMES['label']}", column.lower()) is not None
        if _is_index(column, values, rows):
            guess.say(column, "-", "left out: the number of the row")
        elif distinct < 2:
            guess.say(column, "-", "left out: one value only")
        elif column in TAKEN:
            guess.say(column, "-", "left out: a name that graftrec uses itself; rename the column to have it")
        elif re.fullmatch(AFTER, column.lower()):
            guess.after.append(column)
            guess.say(column, "-", "left out: by its name known only after the row, so it would leak the answer")
        elif distinct == 2 and words <= {"0", "1", "0.0", "1.0", "true", "false", "yes", "no"}:
            if is_label or "label" in column.lower():
                guess.labels[column] = "binary"
                guess.say(column, "label", "binary: two values, and named like a label")
            else:
                guess.features[column] = "id"
                guess.say(column, "id", "two values")
        elif numeric.null_count() == 0 and is_label:
            guess.labels[column] = "number"
            guess.say(column, "label", f"number: by its name, {distinct:,} values")
        elif numeric.null_count() == 0 and (distinct > 50 or bool((numeric % 1 != 0).any())):
            guess.features[column] = "number"
            guess.say(column, "number", f"{distinct:,} values, all numbers")
        elif distinct <= max(50, rows // 2):
            guess.features[column] = "id"
            guess.say(column, "id", f"{distinct:,} values in {rows:,} rows")
        else:
            guess.say(column, "-", f"left out: nearly every row has a value of its own ({distinct:,})")
    if not guess.why:
        raise UserError("there is no column to guess anything of")
    return guess


def _wrong_roles(told: Mapping[str, str], frame: pl.DataFrame) -> list[str]:
    """What is wrong with the columns that are said to be user, item and time, a line each."""
    problems = []
    for role, column in told.items():
        if column not in frame.columns:
            problems.append(f"--{role}: there is no column '{column}'{near(column, frame.columns)}")
        elif role == "time" and not _unit(frame[column]):
            problems.append(f"--time: '{column}' is no time that can be read, such as {frame[column][0]!r}")
        elif list(told.values()).index(column) < list(told).index(role):
            problems.append(f"--{role}: '{column}' is another role already")
    return problems


def write(folder: Path, name: str, path: str, guess: Guess, copy: Copy | None = None) -> list[Path]:
    """The dataset, a task for each label, and an experiment; also the ``copy``, if any, which the dataset then reads.

    Raises:
        UserError: nothing can be learned, or files are there.
    """
    labels = sorted(guess.labels, key=lambda label: guess.labels[label] != "binary")  # binary ones first
    ranked = {"user", "item"} <= set(guess.keys)
    if not labels and not ranked:
        raise UserError(
            "nothing to learn was found: neither a label (0 and 1, or a number named like one) nor user and item; "
            f"say which columns these are with --user and --item: {', '.join(column for column, _, _ in guess.why)}"
        )
    path = str((folder / f"{name}.csv").resolve()) if copy else path
    keys = [f"{role}: {_value(column)}" for role, column in guess.keys.items()]
    if guess.unit not in ("", "date"):
        keys.append(f"time_format: {_value(guess.unit)}" if "%" in guess.unit else f"time_unit: {guess.unit}")
    lists = []
    for kinds, columns in (("features", guess.features), ("labels", guess.labels)):
        lists += [f"{kinds}:", *(f"  {_quoted(column)}: {kind}" for column, kind in columns.items())] if columns else []
    lists += [f"known_after: [{', '.join(map(_value, guess.after))}]"] if guess.after else []
    texts = {
        f"dataset/{name}.yaml": "\n".join(
            ["_target_: graftrec.data.datasets.files.Files", f"path: {_value(path)}", f"name: {name}", *keys, *lists]
        )
    }
    tasks = []
    for domain in guess.domains or [""]:
        for label in labels or [""]:
            task = "_".join(filter(None, [name, domain, slug(label) if label else "recommend"]))
            tasks.append(task)
            texts[f"task/{task}.yaml"] = _task(task, f"{domain}/" if domain else "", label, guess.labels.get(label, ""))
    if labels:
        roles, more, choose = [tasks[1:], tasks[:1], []], ["protocol:", "  batch_size: 1024"], ("cross_domain", "mmoe")
    else:
        timed = "time" in guess.keys
        choose = ("long_short_term", "transformer") if timed and not guess.domains else ("cross_domain", "mmoe")
        roles, more = [tasks[1:], tasks[:1], []], ["candidates:", "  min_users: 2"]
    header = f"# @package _global_\n# graftrec train --config-dir {folder} experiment={name}\ndefaults:\n"
    chosen = [
        f"  - override /dataset: {name}",
        f"  - override /protocol: {choose[0]}",
        f"  - override /split: {_split(guess)}",
        f"  - override /trunk: {choose[1]}",
    ]
    chosen += [
        f"  - override /task@{role}: [{', '.join(names)}]"
        for role, names in zip(("source", "target", "shared"), roles, strict=True)
    ]
    texts[f"experiment/{name}.yaml"] = header + "\n".join([*chosen, *more])
    table = [f"{name}.csv"] if copy else []
    taken = [str(folder / file) for file in (*texts, *table) if os.path.lexists(folder / file)]
    if taken:
        raise UserError([f"{file} is there already; choose another --out" for file in taken])
    with writing(folder, "choose another --out"), ExitStack() as drafts:  # all of them or none
        for file, text in texts.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            drafts.enter_context(whole(folder / file)).write_text(text + "\n", encoding="utf-8")
        if copy:
            copy.write(drafts.enter_context(whole(folder / table[0])))
    return [folder / file for file in texts]


def _task(task: str, prefix: str, label: str, kind: str) -> str:
    """One task: a label of single rows, or without one what is chosen next."""
    ranks = not label
    named = {"binary": "binary.Binary", "number": "regression.Regression"}.get(kind, "recommendation.Recommendation")
    loss = "bce" if kind == "binary" else "squared"
    return "\n".join(
        [
            "defaults:", f"  - /head@{task}.head: mlp", f"  - /loss@{task}.loss: {loss}", f"{task}:",
            f"  _target_: graftrec.tasks.{named}", f"  stream: {prefix}{'baskets' if ranks else 'rows'}",
            f"  column: {'bought' if ranks else _value(label)}",
        ]
    )  # fmt: skip


def _split(guess: Guess) -> str:
    if "split" in guess.keys:
        return "official"
    return "time" if "time" in guess.keys else "random"


def _name(file: str) -> str:
    """What the dataset is called: a word to YAML, and no name that graftrec's own options have."""
    name = re.sub(r"\W+", "_", file, flags=re.ASCII).strip("_").lower() or "mine"  # as Hydra takes it
    own = [conf_dir() / f"{group}/{name}.yaml" for group in ("dataset", "experiment")]
    odd = not name[0].isalpha() or name in NO_NAMES or any(path.exists() for path in own)
    return f"my_{name}" if odd or any(conf_dir().glob(f"task/{name}_*.yaml")) else name


def _is_index(column: str, values: pl.Series, rows: int) -> bool:
    """Whether a column is what pandas writes beside a table: whole numbers from 0 or 1, one after the other."""
    if not re.fullmatch(r"(|index|unnamed: ?\d+|column_\d+|__index_level_\d+__)", column.lower()) or len(values) < rows:
        return False
    number = values.cast(pl.Int64, strict=False)
    return bool(number.null_count() == 0 and (number.diff().drop_nulls() == 1).all())


def _parts(values: pl.Series) -> bool:
    """Whether these are words for train and test."""
    words = {str(value).strip().lower() for value in values.drop_nulls().unique()}
    return "train" in words and words <= set(PARTS)


def _unit(values: pl.Series) -> str:
    """``date``, a format of dates, or a unit that the first and the last are of our time in; empty where none is."""
    if values.dtype.is_temporal():
        return "date"
    text = values.drop_nulls().cast(pl.String).replace({"": None}).drop_nulls().head(1000)
    number = text.cast(pl.Float64, strict=False)
    if len(text) and not number.null_count():
        format = timestamps.written(text.cast(pl.Int64, strict=False)) if not (number % 1 != 0).any() else ""
        low, high = float(number.min() or 0.0), float(number.max() or 0.0)
        fits = [
            unit
            for unit, scale in timestamps.UNITS.items()
            if unit != "order" and timestamps.plausible(low * scale, high * scale)
        ]
        return format or (fits[0] if fits else "days")
    dates = text.str.to_datetime(strict=False, time_unit="ms", time_zone="UTC") if len(text) else None
    return "date" if dates is not None and not dates.null_count() else ""


def _pattern(files: list[str]) -> str:
    """One pattern for files of one folder and ending, as a shell made them of one."""
    folders, endings = {str(Path(file).parent) for file in files}, {"".join(Path(file).suffixes) for file in files}
    if len(folders) > 1 or len(endings) > 1:
        raise UserError("files of one folder and kind are one dataset; run init once for each")
    pattern = f"{folders.pop()}/*{endings.pop()}"
    more = {str(Path(name)) for name in glob.glob(pattern)} - {str(Path(file)) for file in files}
    if more:
        raise UserError(
            f"{sorted(more)[0]} lies beside these files and was not named; give the files a folder of their own"
        )
    return pattern


def _quoted(text: str) -> str:
    """Always in quotes: a column called ``no`` is no boolean."""
    return "'" + text.replace("'", "''") + "'" if text.isprintable() else json.dumps(text)


def _value(text: str) -> str:
    """A text that refers to nothing: a column may be called ``${oc.env:HOME}``."""
    return _quoted(text.replace("${", "\\${"))


def run(words: Sequence[str]) -> int:
    """`main` with an exit code instead of an exception."""
    from graftrec.runs.job import attempt

    code, _, result = attempt(lambda: main(words))
    sys.stdout.flush()
    return code or result or 0
