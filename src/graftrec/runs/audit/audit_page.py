"""report.html of an audit: the matrix, its cohorts, baselines and what was seen in training, without a network."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from graftrec.evaluation.report import formatting
from graftrec.evaluation.report.html_page import page
from graftrec.runs.audit.matrix_table import cohorts, few, main_cells, name_of, rows, target_sentences
from graftrec.utils.atomic_files import whole

Report = Mapping[str, Any]


def write(folder: Path, report: Report) -> Path:
    """Write ``report.html`` into an audit's folder and return its path."""
    title = f"transfer audit · {folder.resolve().name}"
    path = folder / "report.html"
    with whole(path) as draft:
        draft.write_text(page(title, f"<h1>{escape(title)}</h1>\n{section(folder, report)}"), encoding="utf-8")
    return path


def section(folder: Path, report: Report) -> str:
    """The part of a page that an audit fills; everything in it is escaped."""
    parts = [_verdicts(report), _picture(folder / "transfer_matrix.png"), _matrix(report, None)]
    parts += [_matrix(report, cohort) for cohort in cohorts(report)]
    parts += [_said(report), _training(report)]
    parts.append(f"<h2>Run it again</h2>\n<pre>{escape(str(report['command']))}</pre>")
    return "\n".join(part for part in parts if part)


def _verdicts(report: Report) -> str:
    lines, kinds = [], set()
    for target in report["main"]:
        for row, cell in main_cells(report, target).items():
            said = formatting.verdict(cell)
            if said in ("helps", "hurts"):
                kinds.add(said)
                lines.append(f"{row} {said} {target}: {formatting.interval(cell)}")
    few = len(report["seeds"]) < 3
    silent = f"{len(report['seeds'])} of at least 3 seeds: differences, and no verdicts (audit.seeds=5)"
    head = lines or [silent if few else "No evidence that anything helped or hurt."]
    kind = kinds.pop() if len(kinds) == 1 else ""
    size = report["family"]["size"]
    small = (
        f"intervals are of one cell; verdicts use p corrected by Holm over {size} cell{'' if size == 1 else 's'}, of "
        "main metrics and of what was declared"
    )
    return f'<p class="verdict {kind}">{"<br>".join(map(escape, head))}<small>{escape(small)}</small></p>'


def _picture(png: Path) -> str:
    if not png.is_file():
        return ""
    data = base64.b64encode(png.read_bytes()).decode("ascii")
    return f'<img alt="Transfer matrix" src="data:image/png;base64,{data}">'


def _matrix(report: Report, cohort: str | None) -> str:
    heads = "<th>source</th>" + "".join(
        f'<th>-&gt; {escape(target)} · {escape(metric)}</th><th class="word">verdict</th><th>Holm p</th><th>users</th>'
        "<th>found with 80 %</th>"
        for target, metric in report["main"].items()
    )
    body = []
    for row in rows(report):
        cells = [f"<th>{escape(row)}</th>"]
        for target in report["main"]:
            cells += _cells(main_cells(report, target, cohort).get(row))
        body.append(f"<tr>{''.join(cells)}</tr>")
    title = f"Cohort {formatting.label(cohort)}" if cohort else "Change against the twin"
    return _table(title, heads, body)


def _cells(cell: Mapping[str, Any] | None) -> list[str]:
    if cell is None or formatting.number(cell.get("low")) is None:
        return [f'<td class="soft">{escape(few(cell))}</td>', *["<td></td>"] * 4]
    verdict, p = formatting.verdict(cell), formatting.number(cell.get("p_holm"))
    kind = verdict if verdict in ("helps", "hurts") else "soft"
    numbers = [escape(formatting.interval(cell)), formatting.DASH if p is None else f"{p:.3g}", f"{cell['n_users']:,}"]
    least = formatting.shown(cell.get("minimum_detectable"))
    return [
        f"<td>{numbers[0]}</td>", f'<td class="word {kind}">{escape(verdict)}</td>',
        *(f"<td>{text}</td>" for text in (*numbers[1:], least)),
    ]  # fmt: skip


def _said(report: Report) -> str:
    said = [line for target, metric in report["main"].items() for line in target_sentences(report, target, metric)]
    lines = [escape(line) for line in said]
    return "<h2>Beside it</h2>\n<p>" + "<br>".join(lines) + "</p>" if lines else ""


def _training(report: Report) -> str:
    """Seconds, parameters and gradients of each arm."""
    body = []
    for target in report["main"]:
        for cell in main_cells(report, target).values():
            seen = "".join(
                f'<td class="word">{escape(_pairs(formatting.table(cell, kind)))}</td>'
                for kind in ("gradient_cosine", "affinity")
            )
            names = f"{name_of(cell['sources'], report)} -> {target}"
            body.append(
                f"<tr><th>{escape(names)}</th><td>{cell['seconds']:,.1f}</td><td>{cell['parameters']:,}</td>{seen}</tr>"
            )
    heads = "<th>arm</th><th>seconds, all seeds</th><th>parameters</th>"
    heads += '<th class="word">mean cosine of gradients</th><th class="word">mean affinity</th>'
    return _table("Training", heads, body)


def _pairs(seen: Mapping[str, Any]) -> str:
    return ", ".join(f"{pair} {value:+.3g}" for pair, value in seen.items()) or formatting.DASH


def _table(title: str, heads: str, body: list[str]) -> str:
    return (
        f'<h2>{escape(title)}</h2>\n<div class="wide"><table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n'
        + "\n".join(body)
        + "\n</tbody></table></div>"
    )
