"""The end of a sweep: a table of its jobs, the best of them, sweep.json, two pictures and a page."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from graftrec.evaluation.report import formatting
from graftrec.evaluation.report.console import screen
from graftrec.runs.sweep import job_log, sweep_page
from graftrec.runs.sweep.importance import importance
from graftrec.runs.sweep.job_log import Entry
from graftrec.utils import record_files
from graftrec.utils.atomic_files import whole
from graftrec.utils.errors import DataError
from graftrec.utils.terminal_text import tell

METRICS = 3  # of the test that a screen has room for
STYLES = {job_log.FINISHED: "", job_log.PRUNED: "yellow", job_log.NOT_RUN: "dim"}


def sweep_table(jobs: Sequence[tuple[Entry, Mapping[str, Any]]]) -> Table:
    """One row for each job (how it ended, its metrics): state, time, score and metrics of the test.

    A job's name are those of its settings that not all jobs have. Metrics are of the first job's main task; a job
    of another task has none here.
    """
    first = next((found for _, found in jobs if found), {})
    main = formatting.table(first, "main")
    task = str(main.get("task") or "")
    metrics = formatting.brief(first, formatting.metric_names(first, task))[:METRICS]
    title = f"{task} · sweep, score: {main.get('metric')} of the validation" if task else "sweep"
    table = Table(box=SIMPLE, title=title, title_justify="left", padding=(0, 1), pad_edge=False)
    table.add_column("job", overflow="fold")
    table.add_column("state", no_wrap=True)
    for head in ("seconds", "score", *map(formatting.label, metrics)):
        table.add_column(Text(head), justify="right", min_width=7)
    for number, ((entry, found), name) in enumerate(zip(jobs, names([entry for entry, _ in jobs]), strict=True)):
        same = formatting.table(found, "main") == main
        values = [
            formatting.score(found, task, each, formatting.GRAFTED)[0] if same and found else None for each in metrics
        ]
        seconds = formatting.DASH if entry.seconds is None else f"{entry.seconds:.1f}"
        state = Text(entry.state, style=STYLES.get(entry.state, "red"))
        table.add_row(
            Text(name or f"job {number}"), state, seconds, formatting.shown(entry.score), *map(formatting.shown, values)
        )
    return table


def names(jobs: Sequence[Entry]) -> list[str]:
    """Those settings of each job that not all jobs have."""
    everywhere = set.intersection(*(set(job.settings) for job in jobs)) if jobs else set()
    return [" ".join(setting for setting in job.settings if setting not in everywhere) for job in jobs]


def best_of(jobs: Sequence[Entry]) -> Entry | None:
    """The finished job with the highest score; the first of equals."""
    scored = [job for job in jobs if job.state == job_log.FINISHED and job.score is not None]
    return max(scored, key=lambda job: job.score or 0.0, default=None)


def write(folder: Path, jobs: Sequence[Entry], command: str, single: Callable[[Entry], str], study: Any = None) -> None:
    """Print the table of ``jobs`` and the best of them; write sweep.json, report.html and its pictures.

    Args:
        command: what gives this sweep again.
        single: what gives one of its jobs.
        study: the Optuna study, where the sweep is one.
    """
    metrics = [_metrics(folder / job.folder) if job.folder and job.state == job_log.FINISHED else {} for job in jobs]
    fronts = _front(study, jobs) if study is not None else []
    best = None if fronts else best_of(jobs)
    shares, how = importance(jobs, study)
    report = {
        "command": command,
        "jobs": [asdict(job) | {"name": name} for job, name in zip(jobs, names(jobs), strict=True)],
        "best": None if best is None else {"folder": best.folder, "score": best.score, "command": single(best)},
        "front": [{"folder": job.folder, "values": values, "command": single(job)} for job, values in fronts],
        "importance": shares,
        "importance_is": how,
    }
    path, text = folder / "sweep.json", json.dumps(report, indent=2) + "\n"
    drawn = path.is_file() and (folder / "report.html").is_file() and path.read_text(encoding="utf-8") == text
    if not drawn:  # nothing is new where a sweep that has finished is issued again
        sweep_page.write(folder, report, list(zip(jobs, metrics, strict=True)))
        with whole(path) as draft:
            draft.write_text(text, encoding="utf-8")
    console = screen()
    console.print(sweep_table(list(zip(jobs, metrics, strict=True))))
    for line in sentences(report, jobs):
        console.print(line, soft_wrap=True)
    console.print(
        Text("report  ", style="dim").append(str(Path(os.path.relpath(folder)) / "report.html"), style="bold")
        .append("\nagain   ", style="dim").append(command), soft_wrap=True,
    )  # fmt: skip


def sentences(report: Mapping[str, Any], jobs: Sequence[Entry]) -> list[Text]:
    """What did not run, what failed and why, and the best job with its command."""
    lines = []
    undone = [job for job in jobs if job.state in (job_log.NOT_RUN, job_log.STOPPED, job_log.KILLED)]
    if undone:
        lines.append(Text(f"{len(undone)} of {len(jobs)} jobs did not run to their end; the same command runs them"))
    lines += [
        Text(f"failed ({job.exit_code})  {name}: {job.reason}", style="red")
        for job, name in zip(jobs, names(jobs), strict=True) if job.state == job_log.FAILED
    ]  # fmt: skip
    if report["best"]:
        score = formatting.shown(report["best"]["score"])
        lines.append(Text("best    ", style="dim").append(f"{score}  ", style="bold").append(report["best"]["command"]))
    for each in report["front"]:
        values = ", ".join(f"{value:.4g}" for value in each["values"])
        lines.append(Text("front   ", style="dim").append(f"{values}  ", style="bold").append(each["command"]))
    return lines


def _front(study: Any, jobs: Sequence[Entry]) -> list[tuple[Entry, list[float]]]:
    """With several objectives: the jobs that no other one beats in all of them."""
    if len(study.directions) < 2:
        return []
    by_folder = {job.folder: job for job in jobs}
    found = [(Path(trial.user_attrs["folder"]).name, list(trial.values)) for trial in study.best_trials]
    return [(by_folder[folder], values) for folder, values in found if folder in by_folder]


def _metrics(folder: Path) -> dict[str, Any]:
    """What a job measured, empty where there is nothing or nothing that can be read: a job's damage is its own."""
    path = folder / "metrics.json"
    if not path.exists():
        return {}
    try:
        return record_files.mapping(path, "the same command trains the job again")
    except DataError as error:
        tell(f"graftrec: {error}")
        return {}
