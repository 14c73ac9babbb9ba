"""What `transfer=auto` tried and chose, for the screen and the page. Names from data are never markup."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from graftrec.evaluation.report import formatting

HEADS = ("tried", "over", "gain on validation", "standard error", "")
STYLE = {"clear": "green", "not clear": "dim", "not tried": "dim"}


def name_of(strengths: Mapping[str, float]) -> str:
    """``books + movies x 0.3``, ``nothing`` without any."""
    said = [name if strength == 1 else f"{name} x {strength:g}" for name, strength in strengths.items()]
    return " + ".join(said) or "nothing"


def rows(auto: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Each comparison as it is shown: see `HEADS`."""
    found = []
    for step in auto["tried"]:
        gain, error = step["gain"], step["error"]
        numbers = [
            formatting.DASH if gain is None else f"{gain:+.4f}",
            formatting.DASH if error is None else f"{error:.4f}",
        ]
        falls = ", ".join(step["harmed"]) if gain is not None else ""
        said = f"{falls} falls by more than its error" if falls else step["verdict"]
        found.append((name_of(step["sources"]), name_of(step["over"]), *numbers, said))
    return found


def line(auto: Mapping[str, Any]) -> Text:
    """``auto: uses books, whose gain ... (6 of at most 12 trainings, 31 s)``."""
    said = f"auto: {auto['reason']} ({auto['trials']} of at most {auto['budget']} trainings, {auto['seconds']:,.0f} s)"
    text = Text(said, style="bold")
    for name, why in auto["cannot"].items():
        text.append(f"\n{name} was not tried alone: {why}", style="not bold dim")
    return text


def counts(target: str, auto: Mapping[str, Any]) -> str:
    """What an audit's search chose: ``auto -> meat: uses produce; 30 trainings with other seeds to choose``."""
    return f"auto -> {target}: uses {name_of(auto['strengths'])}; {auto['trials']} trainings with other seeds to choose"


def table(auto: Mapping[str, Any]) -> Table:
    """The comparisons in the order in which they were made."""
    found = Table(box=SIMPLE, title="auto · validation", title_justify="left", padding=(0, 1), pad_edge=False)
    for number, head in enumerate(HEADS):
        found.add_column(head, overflow="fold", justify="right" if number in (2, 3) else "left")
    for row in rows(auto):
        found.add_row(*map(Text, row), style=STYLE.get(row[-1], "yellow"))
    return found


def section(auto: Mapping[str, Any]) -> str:
    """The part of a page, empty where nothing was chosen from."""
    if not auto:
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name in HEADS)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows(auto))
    return (
        f'<h2>Chosen by validation</h2>\n<p>{escape(line(auto).plain)}</p>\n<div class="wide"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )
