"""The console of every table and line that is printed: text on it is text, whoever wrote it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from graftrec.utils.terminal_text import OBEYED


class Screen(Console):
    """A console without markup and emoji codes, that passes on no control character of a text."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Segments; those of the console's own are styles and controls, and not in the text."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(segment.text.translate(OBEYED), segment.style)


def screen() -> Screen:
    """The terminal, or 120 columns where the output goes to a file."""
    console = Screen()
    return console if console.is_terminal else Screen(width=120)
