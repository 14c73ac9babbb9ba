"""report.html of a sweep: the best job, all jobs, and the two pictures, in one file without a network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from graftrec.evaluation.report import formatting
from graftrec.evaluation.report.html_page import page
from graftrec.runs.sweep.job_log import Entry
from graftrec.runs.sweep.sweep_plots import parallel, shares_png
from graftrec.utils.atomic_files import whole

METRICS = 8


def write(folder: Path, report: Mapping[str, Any], jobs: Sequence[tuple[Entry, Mapping[str, Any]]]) -> Path:
    """Draw the pictures, write the page and return its path; ``report`` is what sweep.json holds."""
    title = f"sweep · {folder.resolve().name}"
    lines = parallel([job for job, _ in jobs], folder / "parallel.png", report["importance"])
    bars = shares_png(report["importance"], report["importance_is"], folder / "importance.png")
    parts = [f"<h1>{escape(title)}</h1>", _best(report)]
    parts += [f"<h2>{escape(head)}</h2>\n{_image(png, head)}" for head, png in
              (("Settings and score", lines), ("What the score depends on", bars)) if png]  # fmt: skip
    parts += [_jobs(report, jobs), f"<h2>Run it again</h2>\n<pre>{escape(report['command'])}</pre>"]
    path = folder / "report.html"
    with whole(path) as draft:
        draft.write_text(page(title, "\n".join(part for part in parts if part)), encoding="utf-8")
    return path


def _best(report: Mapping[str, Any]) -> str:
    counts: dict[str, int] = {}
    for job in report["jobs"]:
        counts[job["state"]] = counts.get(job["state"], 0) + 1
    said = ", ".join(f"{count} {state}" for state, count in counts.items())
    best = [report["best"]] if report["best"] else report["front"]
    heads = (
        [f"best score {formatting.shown(best[0]['score'])}"] if report["best"] else [f"{len(best)} jobs on the front"]
    )
    heads = heads if best else ["no job has a score"]
    commands = "".join(f"<pre>{escape(each['command'])}</pre>" for each in best)
    note = "chosen by the validation; metrics of the test are beside it and chose nothing"
    return f'<p class="verdict">{escape(heads[0])}<small>{escape(said)} · {escape(note)}</small></p>{commands}'


def _jobs(report: Mapping[str, Any], jobs: Sequence[tuple[Entry, Mapping[str, Any]]]) -> str:
    first = next((found for _, found in jobs if found), {})
    main = formatting.table(first, "main")
    task = str(main.get("task") or "")
    metrics = formatting.brief(first, formatting.metric_names(first, task))[:METRICS]
    heads = "".join(f"<th>{escape(formatting.label(name))}</th>" for name in ("seconds", "score", *metrics))
    best = (report["best"] or {}).get("folder")
    rows = []
    for (job, found), said in zip(jobs, report["jobs"], strict=True):
        same = bool(found) and formatting.table(found, "main") == main
        values = [formatting.score(found, task, name, formatting.GRAFTED)[0] if same else None for name in metrics]
        seconds = formatting.DASH if job.seconds is None else f"{job.seconds:.1f}"
        name = escape(said["name"] or job.folder or "job")
        shown = "".join(
            f"<td>{cell}</td>" for cell in (seconds, formatting.shown(job.score), *map(formatting.shown, values))
        )
        link = f'<a href="./{quote(job.folder)}/report.html">{name}</a>' if found else name
        why = f' title="{escape(job.reason)}"' if job.reason else ""
        mark = ' class="main"' if job.folder and job.folder == best else ""
        rows.append(f'<tr{mark}><th>{link}</th><td class="word"{why}>{escape(job.state)}</td>{shown}</tr>')
    head = f'<thead><tr><th>job</th><th class="word">state</th>{heads}</tr></thead>'
    of = f' <span class="soft">test of {escape(task)}</span>' if task else ""
    body = "\n".join(rows)
    return f'<h2>Jobs{of}</h2>\n<div class="wide"><table>{head}<tbody>\n{body}\n</tbody></table></div>'


def _image(png: Path, alt: str) -> str:
    data = base64.b64encode(png.read_bytes()).decode("ascii")
    return f'<img alt="{escape(alt)}" src="data:image/png;base64,{data}">'
