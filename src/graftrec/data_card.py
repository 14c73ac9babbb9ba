"""``graftrec data``: read and split a dataset as a protocol would, and say what came out."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from graftrec.assemble import protocol_of
from graftrec.data.protocols.base import Protocol
from graftrec.errors import UserError
from graftrec.files import whole
from graftrec.report import plots, terminal
from graftrec.report.aside import tried
from graftrec.report.screen import screen

Card = Mapping[str, Any]


def main(tree: Mapping[str, Any]) -> int:
    """Print the data card, and write it as JSON and as plots into the folder ``out``."""
    out = None if tree["out"] is None else Path(tree["out"])
    if out is not None and out.exists() and not out.is_dir():
        raise UserError(f"out: {out} is a file; name a folder, or out=null to write nothing")
    start = time.monotonic()
    protocol = protocol_of(tree)
    protocol.prepare([])
    seconds = time.monotonic() - start
    card, console = protocol.full_card, screen()
    console.print(terminal.data_line(card, seconds))
    for table in (_domains(card), _labels(card), _streams(protocol)):
        if table.row_count:
            console.print(table)
    _lines(console, card)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        with whole(out / "card.json") as draft:
            draft.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
        failed = tried({"card.png": lambda: plots.data_card(card, out / "card.png")})
        console.print(f"card     {out / 'card.json'}" + ("" if failed else f"  {out / 'card.png'}"), highlight=False)
    return 0


def _domains(card: Card) -> Table:
    """One row per domain: how many, how dense, how skewed."""
    table = _table("domain", "rows", "users", "items", "density", "repeats", "rows of the top 10 % items", "missing")
    for name, domain in card["domains"].items():
        density = domain.get("density")
        top = domain.get("rows_of_top_items", {}).get("10 %")
        missing = ", ".join(f"{column} {share:.0%}" for column, share in domain["missing"].items())
        cells = [name, *(f"{domain[key]:,}" if key in domain else "" for key in ("rows", "users", "items"))]
        cells += [f"{density:.2%}" if density is not None else "", f"{domain.get('repeated_pairs', 0):,}"]
        cells += [f"{top:.0%}" if top is not None else "", missing]
        table.add_row(*map(_text, cells))
    return table


def _labels(card: Card) -> Table:
    """One row per label and domain."""
    table = _table("domain", "label", "kind", "mean", "missing")
    for name, domain in card["domains"].items():
        for label, about in domain["labels"].items():
            mean = "" if about["mean"] is None else f"{about['mean']:.4g}"
            table.add_row(*map(_text, [name, label, about["kind"], mean, f"{about['missing']:,}"]))
    return table


def _streams(protocol: Protocol) -> Table:
    """What a task can name as its stream."""
    table = _table("stream", "train", "val", "test", "labels")
    for name, stream in protocol.streams.items():
        counts = [f"{stream.splits[split]:,}" for split in ("train", "val", "test")]
        table.add_row(*map(_text, [name, *counts, ", ".join(label.name for label in stream.schema.labels)]))
    return table


def _table(*names: str) -> Table:
    """Words left, numbers right."""
    table = Table(box=None, padding=(0, 1))
    for name in names:
        words = name in ("domain", "stream", "label", "labels", "kind") or (name == "missing" and "density" in names)
        table.add_column(name, justify="left" if words else "right", overflow="fold")
    return table


def _lines(console: Console, card: Card) -> None:
    """What was left out, what to know, and the hash of each split."""
    for reason, count in card["refused"].items():
        console.print(_text(f"refused  {count:,} rows: {reason}", "yellow"))
    for joined in card["joined"]:
        console.print(_text(f"joined   {joined}"))
    for stamp in card["stamps"]:
        console.print(_text(f"stamp    {stamp}", "magenta"))
    for note in card["notes"]:
        console.print(_text(f"note     {note}"))
    for name, domain in card["domains"].items():
        hashes = "  ".join(f"{split} {value}" for split, value in domain["split_hashes"].items())
        console.print(_text(f"split    {name}: {hashes}", "dim"))


def _text(words: str, style: str = "") -> Text:
    """Names and ids come from the data: no markup, and nothing that a terminal obeys."""
    return Text("".join(letter if letter.isprintable() else " " for letter in words), style=style)
