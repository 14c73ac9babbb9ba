"""``graftrec data``: read and split a dataset as a protocol would, and say what came out."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from graftrec.data.protocols.base import Protocol
from graftrec.evaluation.report import plots, run_tables
from graftrec.evaluation.report.console import screen
from graftrec.training.builder import protocol_of
from graftrec.utils.atomic_files import whole, writing
from graftrec.utils.best_effort import tried

Card = Mapping[str, Any]
DOMAINS = ("domain", "rows", "users", "items", "density", "repeats", "rows of the top 10 % items", "missing")
LABELS = ("domain", "label", "kind", "mean", "missing")
STREAMS = ("stream", "train", "val", "test", "labels")
SHOWN = 20  # lines of a kind on the screen; card.json has them all


def main(tree: Mapping[str, Any]) -> int:
    """Print the data card, and write it as JSON and as plots into the folder ``out``."""
    if tree["out"] is None:
        _show(tree, None)
        return 0
    out = Path(tree["out"])
    with writing(out, "name another folder with out, or out=null to write nothing"):
        _show(tree, out)
    return 0


def _show(tree: Mapping[str, Any], out: Path | None) -> None:
    start = time.monotonic()
    protocol = protocol_of(tree)
    protocol.prepare([])
    seconds = time.monotonic() - start
    card, console = protocol.full_card, screen()
    console.print(run_tables.data_line(card, seconds))
    _table(console, DOMAINS, _domains(card))
    _table(console, LABELS, _labels(card))
    _table(console, STREAMS, _streams(protocol))
    _lines(console, card)
    if out is not None:
        with whole(out / "card.json") as draft:
            draft.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
        failed = tried({"card.png": lambda: plots.data_card(card, out / "card.png")})
        console.print(f"card     {out / 'card.json'}" + ("" if failed else f"  {out / 'card.png'}"), highlight=False)


def _domains(card: Card) -> list[list[str]]:
    """One row per domain: how many, how dense, how skewed."""
    rows = []
    for name, domain in card["domains"].items():
        density = domain.get("density")
        top = domain.get("rows_of_top_items", {}).get("10 %")
        missing = ", ".join(f"{column} {share:.0%}" for column, share in domain["missing"].items())
        cells = [name, *(f"{domain[key]:,}" if key in domain else "" for key in ("rows", "users", "items"))]
        cells += [f"{density:.2%}" if density is not None else "", f"{domain.get('repeated_pairs', 0):,}"]
        rows.append([*cells, f"{top:.0%}" if top is not None else "", missing])
    return rows


def _labels(card: Card) -> list[list[str]]:
    """One row per label and domain."""
    rows = []
    for name, domain in card["domains"].items():
        for label, about in domain["labels"].items():
            mean = "" if about["mean"] is None else f"{about['mean']:.4g}"
            rows.append([name, label, about["kind"], mean, f"{about['missing']:,}"])
    return rows


def _streams(protocol: Protocol) -> list[list[str]]:
    """What a task can name as its stream."""
    return [
        [name, *(f"{stream.splits[split]:,}" for split in ("train", "val", "test")),
         ", ".join(label.name for label in stream.schema.labels)]
        for name, stream in protocol.streams.items()
    ]  # fmt: skip


def _table(console: Console, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Words left, numbers right; nothing where there is no row."""
    if not rows:
        return
    table = Table(box=None, padding=(0, 1))
    for name in names:
        words = name in ("domain", "stream", "label", "labels", "kind") or (name == "missing" and "density" in names)
        table.add_column(name, justify="left" if words else "right", overflow="fold")
    for row in rows[:SHOWN]:
        table.add_row(*map(_text, row))
    console.print(table)
    _more(console, len(rows), f"rows of {names[0]}")


def _lines(console: Console, card: Card) -> None:
    """What was left out, what to know, and the hash of each split."""
    splits = [
        f"{name}: " + "  ".join(f"{split} {value}" for split, value in domain["split_hashes"].items())
        for name, domain in card["domains"].items()
    ]
    refused = [f"{count:,} rows: {reason}" for reason, count in card["refused"].items()]
    for kind, said, style in (
        ("refused", refused, "yellow"),
        ("joined", card["joined"], ""),
        ("stamp", card["stamps"], "magenta"),
        ("note", card["notes"], ""),
        ("split", splits, "dim"),
    ):
        for line in said[:SHOWN]:
            console.print(_text(f"{kind:8} {line}", style))
        _more(console, len(said), f"lines of {kind}")


def _more(console: Console, count: int, what: str) -> None:
    if count > SHOWN:
        console.print(_text(f"         and {count - SHOWN:,} more {what}, in card.json (out=FOLDER)", "dim"))


def _text(words: str, style: str = "") -> Text:
    """Names and ids come from the data: no markup, and nothing that a terminal obeys."""
    return Text("".join(letter if letter.isprintable() else " " for letter in words), style=style)
