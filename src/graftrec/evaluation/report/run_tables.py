"""The screens of a run: the data, the roles, the results, what to type next. Names from data are never markup."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from graftrec.evaluation.report import formatting, sentences

ROLE_STYLE = {"source": "cyan", "target": "bold", "shared": "magenta"}
VERDICT_STYLE = {"helps": "green", "hurts": "red"}


def data_line(card: Mapping[str, Any], seconds: float | None = None) -> Text:
    """``complete_journey · 200 users · 5,656 items · 112,479 rows · 2017-01-01 .. 2018-01-01 (0.4 s)``."""
    parts = [Text(str(card.get("dataset") or "data"), style="bold")]
    parts += [Text(f"{card[key]:,} {key}") for key in ("users", "items", "rows") if isinstance(card.get(key), int)]
    if card.get("first") and card.get("last"):
        parts.append(Text(f"{str(card['first'])[:10]} .. {str(card['last'])[:10]}"))
    refused = sum(count for count in formatting.table(card, "refused").values() if isinstance(count, int))
    if refused:
        parts.append(Text(f"{refused:,} refused", style="yellow"))
    line = Text(" · ").join(parts)
    return line if seconds is None else line.append(f"  ({seconds:.1f} s)", style="dim")


def roles_table(rows: Sequence[Mapping[str, Any]], lambda_shared: float | None = None) -> Table:
    """Which task plays which role: rows with role, task, learns, reads, loss, rows."""
    table = Table(box=None, pad_edge=True, padding=(0, 1))
    for name in ("role", "task", "learns", "reads", "loss"):
        table.add_column(name, overflow="fold")
    table.add_column("rows", justify="right", no_wrap=True)
    shared = lambda_shared is not None and any(row.get("role") == "shared" for row in rows)
    if shared:
        table.add_column("")
    for row in rows:
        role, count = str(row.get("role", "")), row.get("rows")
        cells = [Text(role, style=ROLE_STYLE.get(role, ""))]
        cells += [_plain(row.get(key, "")) for key in ("task", "learns", "reads", "loss")]
        cells.append(Text(f"{count:,}" if isinstance(count, int) else str(count or "")))
        if shared:
            cells.append(Text(f"lambda {lambda_shared:g}" if role == "shared" else ""))
        table.add_row(*cells)
    return table


def result_tables(metrics: Mapping[str, Any], width: int = 120) -> list[Table]:
    """One table per task: metric, baselines, twin, grafted, grafted - twin with interval and verdict.

    On a screen of fewer than 110 columns the differences have a table of their own.
    """
    tables = []
    for task in formatting.tasks(metrics):
        tables.append(_result(metrics, task, with_difference=width >= 110))
        if width < 110 and formatting.table(metrics, "differences", task):
            tables.append(_difference(metrics, task))
    return tables


def _difference(metrics: Mapping[str, Any], task: str) -> Table:
    table = Table(box=SIMPLE, padding=(0, 1), collapse_padding=True, pad_edge=False)
    table.add_column("metric")
    table.add_column("grafted - twin", no_wrap=True)
    differences = formatting.table(metrics, "differences", task)
    for metric in formatting.brief(metrics, list(differences)):
        difference = differences[metric]
        table.add_row(_plain(formatting.label(metric)), difference_text(difference))
    return table


def _result(metrics: Mapping[str, Any], task: str, with_difference: bool = True) -> Table:
    role = str(formatting.table(metrics, "roles").get(task, ""))
    title = _plain(f"{task} · test").append(f"  {role}", style="dim")
    table = Table(box=SIMPLE, title=title, title_justify="left", padding=(0, 1), collapse_padding=True, pad_edge=False)
    table.min_width = title.cell_len + 2
    metric_names = formatting.brief(metrics, formatting.metric_names(metrics, task))
    table.add_column("metric", overflow="fold", min_width=min(10, max(map(len, metric_names), default=6)))
    names = formatting.columns(metrics, task)
    for name in names:
        head = formatting.label(name)
        word = min(12, max(6, *map(len, head.split()), 0))
        table.add_column(_plain(head), justify="right", min_width=word, max_width=word, overflow="fold")
    differences = formatting.table(metrics, "differences", task) if with_difference else {}
    if differences:
        table.add_column("grafted - twin", min_width=16)  # wraps before the interval on a narrow screen
    main = formatting.table(metrics, "main")
    for metric in metric_names:
        cells = [
            _plain(formatting.row_label(metrics, task, metric)),
            *(_score(metrics, task, metric, name) for name in names),
        ]
        if differences:
            cells.append(difference_text(differences.get(metric)))
        first = task == main.get("task") and metric == main.get("metric")
        table.add_row(*cells, style="bold" if first else "")
    return table


def _score(metrics: Mapping[str, Any], task: str, metric: str, name: str) -> Text:
    """``0.596``, and below it its standard deviation over seeds."""
    text = Text(formatting.shown(formatting.score(metrics, task, metric, name)[0]))
    spread = formatting.spread(metrics, task, metric, name)
    main = formatting.table(metrics, "main")
    shown = spread is not None and metric.partition("/")[0] == main.get("metric")
    return text.append(f"\n±{spread:.3f}", style="dim") if shown else text


def difference_text(difference: Mapping[str, Any] | None) -> Text:
    """``+0.003 [-0.004, +0.010]  helps``."""
    text, behind = Text(formatting.interval(difference)), formatting.said(difference)
    return (
        text.append(f"  {behind}", style=VERDICT_STYLE.get(formatting.verdict(difference), "dim")) if behind else text
    )


def trainings_line(trainings: int, seeds: int, before: int, processes: int) -> Text:
    """``10 trainings (5 seeds), 2 of them finished before, 2 at a time; a line for each that ends``."""
    said = f"{trainings} trainings ({seeds} seeds)"
    said += f", {before} of them finished before" if before else ""
    if before < trainings:
        said += f", {processes} at a time" if processes > 1 else ", one after the other"
        said += "; a line for each that ends"
    return Text(said)


def fitted_lines(metrics: Mapping[str, Any]) -> list[Text]:
    """Which baselines of each task saw more rows than the networks."""
    said = ((task, sentences.fitted_sentence(metrics, task)) for task in formatting.tasks(metrics))
    return [Text(f"  {task}: {line}", style="dim") for task, line in said if line]


def undefined_lines(metrics: Mapping[str, Any]) -> list[Text]:
    """Why a value is a dash, one line for each reason; of few users the table says so itself."""
    of_reason: dict[str, list[str]] = {}
    for key, why in formatting.table(metrics, "reasons").items():
        parts = key.split("/")[2:]  # after what was measured and the task; a baseline, the metric, its cohort
        what, _, rest = key.partition("/")
        task, _, metric = rest.partition("/")
        if formatting.few(formatting.table(metrics, what, task, metric)):
            continue
        if formatting.brief(metrics, parts) == parts and not any(map(formatting.of_lists, parts)):
            of_reason.setdefault(str(why), []).append(key)
    lines = []
    for why, keys in of_reason.items():
        first, tasks = min(keys, key=lambda key: not key.startswith("test/")), {key.split("/")[1] for key in keys}
        more = f" and {len(keys) - 1:,} more values" if len(keys) > 1 else ""
        more += f" of {len(tasks):,} tasks" if len(tasks) > 1 else ""
        lines.append(Text(f"  – {first}{more}: {why}", style="dim"))  # noqa: RUF001
    return lines


def verdict_line(metrics: Mapping[str, Any]) -> Text:
    """The answer in one sentence, below it the cohorts and the best baseline."""
    verdict = formatting.verdict(formatting.main_difference(metrics)[2])
    line = Text(sentences.verdict_sentence(metrics), style=f"bold {VERDICT_STYLE.get(verdict, '')}".strip())
    more = [
        sentences.power_sentence(metrics),
        *sentences.cohort_sentences(metrics),
        *sentences.baseline_sentences(metrics),
    ]
    more += sentences.below_sentences(metrics)
    for said in filter(None, more):
        line.append(f"\n{said}", style="not bold default")
    for said in sentences.weak_sentences(metrics):
        line.append(f"\n{said}", style="bold yellow")
    return line


def cost_line(metrics: Mapping[str, Any]) -> Text:
    """``12,345 parameters (tables 12,000 · trunk 345) · 1.2 GFLOP a step, 34.5 GFLOP/s, 12% of a matrix product's``."""
    fit = formatting.table(metrics, "fit")
    parts = " · ".join(f"{name} {count:,}" for name, count in formatting.table(fit, "parameters_of").items())
    said = f"{fit.get('parameters', 0):,} parameters ({parts})"
    share = formatting.number(fit.get("utilisation"))
    if share is not None:
        step, speed = (formatting.amount(fit[key], "FLOP") for key in ("flops_per_step", "flops_per_second"))
        said += f" · {step} a step, {speed}/s, {share:.0%} of the limit ({fit['limit_from']})"
    return Text(said, style="dim")


def closing_lines(folder: Path, command: str | Sequence[str]) -> Text:
    """Where to look, and what to type to get the same run again."""
    again = command if isinstance(command, str) else shlex.join(command)
    return (
        Text("report  ", style="dim").append(str(Path(folder) / "report.html"), style="bold")
        .append("\nagain   ", style="dim").append(again)
    )  # fmt: skip


def _plain(value: Any) -> Text:
    """Text from data: shown as it is, on one line."""
    return Text("".join(c if c.isprintable() else " " for c in str(value)))
