"""The end of a sweep: its jobs side by side, in what they are told apart by."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from graftrec.report import words

METRICS = 6  # of the test that a screen has room for


def sweep_table(jobs: Sequence[tuple[Sequence[str], Mapping[str, Any]]]) -> Table:
    """One row for each job (settings, metrics): the run's main metric in the validation, and metrics of the test.

    A job's name are those of its settings that not all jobs have.
    """
    first = jobs[0][1]
    main = words.table(first, "main")
    task, metric = str(main.get("task")), str(main.get("metric"))
    everywhere = set.intersection(*(set(settings) for settings, _ in jobs))
    metrics = words.brief(first, words.metric_names(first, task))[:METRICS]
    table = Table(box=SIMPLE, title=f"{task} · sweep", title_justify="left", padding=(0, 1), pad_edge=False)
    table.add_column("job", overflow="fold")
    for head in (f"val {metric}", *map(words.label, metrics)):
        table.add_column(Text(head), justify="right", min_width=7)
    for number, (settings, found) in enumerate(jobs):
        name = " ".join(setting for setting in settings if setting not in everywhere)
        values = [words.score(found, task, name_of, words.GRAFTED)[0] for name_of in metrics]
        val = words.table(found, "val", task).get(metric)
        table.add_row(Text(name or f"job {number}"), *map(words.shown, [val, *values]))
    return table


def show(jobs: Sequence[tuple[Sequence[str], Path]]) -> None:
    """Print the table of jobs (settings, folder) that have the same main task."""
    console = Console()
    files = [(settings, folder / "metrics.json") for settings, folder in jobs]
    read = [(settings, json.loads(file.read_text())) for settings, file in files if file.is_file()]
    main = words.table(read[0][1], "main") if read else {}
    same = [(settings, metrics) for settings, metrics in read if words.table(metrics, "main") == main]
    if len(same) > 1:
        (console if console.is_terminal else Console(width=120)).print(sweep_table(same))
