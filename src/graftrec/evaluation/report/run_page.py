"""report.html: everything a run has to say in one file that opens without a network."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from graftrec.evaluation.report import auto_table, formatting, plots, sentences
from graftrec.evaluation.report.html_page import page
from graftrec.utils.atomic_files import whole


def write_report(folder: Path, command: str | None = None) -> Path:
    """Write ``report.html`` from the files of a run folder and return its path.

    ``command`` is what the user typed; without it the page says how to run the saved configuration again.
    Files that are missing leave their part out: a report of a broken run is worth more than none.
    """
    folder = Path(folder)
    metrics, card = _json(folder / "metrics.json"), _json(folder / "data_card.json")
    config = _read(folder / "config.yaml")
    title = f"{card.get('dataset') or 'run'} · {folder.resolve().name}"
    parts = [_head(title, card, metrics), _verdict(metrics), _comparison(folder, metrics)]
    parts += [auto_table.section(formatting.table(metrics, "auto"))]
    parts += [_task(metrics, task) for task in formatting.tasks(metrics)]
    parts += [_curves(folder, metrics)]
    parts += [_facts("Training", {**formatting.table(metrics, "fit"), **formatting.table(metrics, "chosen")})]
    parts += [_facts("Data", card), _config(config), _again(folder, command)]
    text = page(title, "\n".join(part for part in parts if part))
    path = folder / "report.html"
    with whole(path) as draft:
        draft.write_text(text, encoding="utf-8")
    return path


def _head(title: str, card: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    counts = [f"{card[key]:,} {key}" for key in ("users", "items", "rows") if isinstance(card.get(key), int)]
    if card.get("first") and card.get("last"):
        counts.append(f"{str(card['first'])[:10]} to {str(card['last'])[:10]}")
    roles = formatting.table(metrics, "roles")
    said = [f"{role}: {', '.join(t for t in roles if roles[t] == role)}" for role in ("source", "target", "shared")
            if role in roles.values()]  # fmt: skip
    lines = "<br>".join(escape(" · ".join(line)) for line in (counts, said) if line)
    return f'<h1>{escape(title)}</h1>\n<p class="soft">{lines}</p>'


def _verdict(metrics: Mapping[str, Any]) -> str:
    difference = formatting.main_difference(metrics)[2]
    verdict = formatting.verdict(difference)
    kind = verdict if verdict in ("helps", "hurts") else ""
    facts = [
        f"{word} = {value:.3g}" if key.startswith("p") else f"{word} = {value:,.0f}"
        for key, word in (("p", "p"), ("p_holm", "Holm's p"), ("n", "users"), ("seeds", "seeds"))
        for value in [formatting.number(difference.get(key))]
        if value is not None
    ]
    lines = [
        sentences.power_sentence(metrics), *sentences.cohort_sentences(metrics), *sentences.baseline_sentences(metrics),
        *sentences.below_sentences(metrics),
        *sentences.weak_sentences(metrics), " · ".join(facts),
    ]  # fmt: skip
    small = "".join(f"<small>{escape(line)}</small>" for line in lines if line)
    return f'<p class="verdict {kind}">{escape(sentences.verdict_sentence(metrics))}{small}</p>'


def _task(metrics: Mapping[str, Any], task: str) -> str:
    names, differences = formatting.columns(metrics, task), formatting.table(metrics, "differences", task)
    heads = ["<th>metric</th>", *(f"<th>{escape(formatting.label(name))}</th>" for name in names)]
    if differences:
        heads += ["<th>grafted - twin</th>", '<th class="word">verdict</th>']
    main = formatting.table(metrics, "main")
    rows = []
    for metric in formatting.metric_names(metrics, task):
        cells = [f"<th>{escape(formatting.row_label(metrics, task, metric))}</th>"]
        cells += [
            _cell(*formatting.score(metrics, task, metric, name), formatting.spread(metrics, task, metric, name))
            for name in names
        ]
        if differences:
            cells += _difference(metrics, task, metric)
        first = main.get("task") == task and main.get("metric") == metric
        rows.append(_row(cells, first))
    role = escape(str(formatting.table(metrics, "roles").get(task, "")))
    fitted = sentences.fitted_sentence(metrics, task)
    note = f'<p class="soft">{escape(fitted)}</p>' if fitted else ""
    return (
        f'<h2>{escape(task)} <span class="soft">{role} · test</span></h2>\n<div class="wide"><table>\n'
        f"<thead><tr>{''.join(heads)}</tr></thead>\n<tbody>\n" + "\n".join(rows) + f"\n</tbody></table></div>{note}"
    )


def _row(cells: Iterable[str], main: bool) -> str:
    return f'<tr class="main">{"".join(cells)}</tr>' if main else f"<tr>{''.join(cells)}</tr>"


def _cell(value: float | None, why: str, spread: float | None = None) -> str:
    if value is not None:
        behind = "" if spread is None else f' <span class="soft">±{spread:.3f}</span>'
        return f"<td>{formatting.shown(value)}{behind}</td>"
    return f"<td>{_dash(why)}</td>"


def _dash(why: str) -> str:
    return f'<abbr title="{escape(why)}">{formatting.DASH}</abbr>' if why else formatting.DASH


def _difference(metrics: Mapping[str, Any], task: str, metric: str) -> list[str]:
    difference = formatting.table(metrics, "differences", task, metric)
    numbers, verdict = formatting.interval(difference), formatting.verdict(difference)
    why = formatting.reason(metrics, "differences", task, metric) or formatting.reason(metrics, "test", task, metric)
    shown = _dash(why or "not compared") if numbers == formatting.DASH else escape(numbers)
    kind = f" {verdict}" if verdict in ("helps", "hurts") else " soft"
    return [f"<td>{shown}</td>", f'<td class="word{kind}">{escape(formatting.said(difference))}</td>']


def _comparison(folder: Path, metrics: Mapping[str, Any]) -> str:
    if not formatting.tasks(metrics):
        return ""
    drawn = folder / "comparison.png"
    return _image(drawn if drawn.is_file() else plots.comparison(metrics, drawn), "Baselines, twin and grafted")


def _curves(folder: Path, metrics: Mapping[str, Any]) -> str:
    csv_path, drawn = folder / "metrics.csv", folder / "learning_curves.png"
    if not csv_path.is_file():
        return ""
    roles = formatting.table(metrics, "roles")
    targets = [str(task) for task, role in roles.items() if role == "target"]
    main = str(formatting.table(metrics, "main").get("metric") or "")
    png = drawn if drawn.is_file() else plots.learning_curves(csv_path, drawn, targets, main)
    return "<h2>Learning curves</h2>\n" + _image(png, "Learning curves of grafted and twin")


def _image(png: Path, alt: str) -> str:
    data = base64.b64encode(png.read_bytes()).decode("ascii")
    return f'<img alt="{escape(alt)}" src="data:image/png;base64,{data}">'


def _facts(title: str, facts: Mapping[str, Any]) -> str:
    if not facts:
        return ""
    rows = "\n".join(
        f"<tr><th>{escape(formatting.label(str(k)))}</th><td>{_fact(v)}</td></tr>" for k, v in facts.items()
    )
    return f'<h2>{escape(title)}</h2>\n<div class="wide"><table class="facts"><tbody>\n{rows}\n</tbody></table></div>'


def _fact(value: Any) -> str:
    """A value of a card: numbers readable, mappings as ``key: value`` lists, all of it escaped."""
    if isinstance(value, Mapping):
        return " · ".join(f"{escape(str(key))}: {_fact(inner)}" for key, inner in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(_fact(inner) for inner in value) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: formatting.DASH}[value]
    if isinstance(value, int):
        return f"{value:,}"
    return escape(f"{value:,.4g}" if isinstance(value, float) and abs(value) < 1e4 else
                  f"{value:,.0f}" if isinstance(value, float) else str(value))  # fmt: skip


def _config(text: str) -> str:
    if not text:
        return ""
    return f"<h2>Configuration</h2>\n<details><summary>config.yaml</summary><pre>{escape(text)}</pre></details>"


def _again(folder: Path, command: str | None) -> str:
    typed = command or f"graftrec train --config-dir {shlex.quote(str(folder))} --config-name config"
    return f"<h2>Run it again</h2>\n<pre>{escape(typed)}</pre>"


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
