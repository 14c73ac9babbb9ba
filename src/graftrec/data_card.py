"""``graftrec data``: read and split a dataset as a protocol would, and say what came out."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from rich.table import Table

from graftrec.assemble import protocol_of
from graftrec.report import terminal
from graftrec.train import screen


def main(tree: Mapping[str, Any]) -> int:
    """Print the data card, and write it where ``out`` says."""
    start = time.monotonic()
    protocol = protocol_of(tree)
    protocol.prepare([])
    console = screen()
    console.print(terminal.data_line(protocol.card, time.monotonic() - start))
    table = Table(box=None, padding=(0, 1))
    for name in ("stream", "train", "val", "test", "labels"):
        table.add_column(name, justify="left" if name in ("stream", "labels") else "right", overflow="fold")
    for name, stream in protocol.streams.items():
        counts = [f"{stream.splits[split]:,}" for split in ("train", "val", "test")]
        table.add_row(name, *counts, ", ".join(label.name for label in stream.schema.labels))
    console.print(table)
    for reason, count in protocol.card["refused"].items():
        console.print(f"refused: {count:,} rows, {reason}", highlight=False)
    if tree["out"]:
        with open(tree["out"], "w", encoding="utf-8") as file:
            json.dump(protocol.card, file, indent=2)
        console.print(f"card    {tree['out']}", highlight=False)
    return 0
