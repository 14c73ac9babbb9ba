"""The screens of an audit: the transfer matrix, its cohorts, what stands beside it. Data is never markup."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from graftrec.evaluation.report import auto_table, formatting, sentences
from graftrec.evaluation.report.run_tables import difference_text
from graftrec.evaluation.statistics.intervals import FEWEST_SEEDS

Report = Mapping[str, Any]


def name_of(sources: Sequence[str], report: Report) -> str:
    """A row of the matrix: the source's name, or ``all``."""
    most = max((len(cell["sources"]) for cell in report["cells"]), default=0)
    return "all" if len(sources) > 1 and len(sources) == most else " + ".join(sources)


def rows(report: Report) -> list[str]:
    """The matrix's rows in the order of the audit: each source, then all."""
    names = [name_of(cell["sources"], report) for cell in report["cells"]]
    return sorted(dict.fromkeys(names), key=lambda name: name == "all")


def main_cells(report: Report, target: str, cohort: str | None = None) -> dict[str, Mapping[str, Any]]:
    """Row -> cell of a target's main metric, overall or of a cohort."""
    metric = report["main"].get(target)
    return {
        name_of(cell["sources"], report): cell
        for cell in report["cells"]
        if cell["target"] == target and cell["metric"] == metric and cell["cohort"] == cohort
    }


def cohorts(report: Report) -> list[str]:
    """Cohorts in which a target's main metric was measured; those by the length of the history come last."""
    found = dict.fromkeys(
        cell["cohort"]
        for cell in report["cells"]
        if cell["cohort"] and cell["metric"] == report["main"].get(cell["target"])
    )
    return sorted(found, key=lambda name: name.startswith("history_"))


def plan_line(arms: Sequence[Any], seeds: int, done: int) -> Text:
    """``8 arms x 5 seeds = 40 trainings, 12 of them finished before``."""
    total = len(arms) * seeds
    text = f"{len(arms)} arms x {seeds} seed{'' if seeds == 1 else 's'} = {total} trainings"
    return Text(text + (f", {done} of them finished before" if done else ""))


def tables(report: Report) -> list[Table]:
    """The matrix overall, and for each cohort."""
    found = [_matrix(report, None)]
    return found + [_matrix(report, cohort) for cohort in cohorts(report) if not cohort.startswith("history_")]


def _matrix(report: Report, cohort: str | None) -> Table:
    what = "transfer matrix · test" + (f" · {formatting.label(cohort)}" if cohort else "")
    table = Table(box=SIMPLE, title=Text(what), title_justify="left", padding=(0, 1), pad_edge=False)
    table.add_column("source", overflow="fold")
    for target, metric in report["main"].items():
        table.add_column(Text(f"-> {target}\n{metric}"), overflow="fold")
    for row in rows(report):
        cells = [main_cells(report, target, cohort).get(row) for target in report["main"]]
        table.add_row(Text(row), *map(cell_text, cells))
    if cohort is None:
        for name, key in (("twin", "twins"), ("wide twin", "wide_twins")):
            if report.get(key):
                values = [_level(report[key].get(target, {}).get(metric)) for target, metric in report["main"].items()]
                table.add_row(Text(name, style="dim"), *(Text(value, style="dim") for value in values))
    return table


def cell_text(cell: Mapping[str, Any] | None) -> Text:
    """``+0.003 [-0.004, +0.010] helps``."""
    if cell is None or formatting.number(cell.get("low")) is None:
        return Text(few(cell), style="dim")
    return difference_text(cell)


def few(cell: Mapping[str, Any] | None) -> str:
    """What stands where there is no interval: ``1 user``, or a dash."""
    count = 0 if cell is None else int(cell["n_users"])
    return f"{count} user{'' if count == 1 else 's'}" if count else formatting.DASH


def _level(three: Sequence[Any] | None) -> str:
    if not three or three[0] is None:
        return formatting.DASH
    mean, low, high = map(formatting.shown, three)
    return f"{mean} [{low}, {high}]"


def lines(report: Report) -> Iterable[Text]:
    """Below the matrix: baselines, weak twins, the best arm, what could have been seen, and what it cost."""
    for target, metric in report["main"].items():
        for said in target_sentences(report, target, metric):
            yield Text(said, style="bold yellow" if said.startswith("Weak twin") else "")
    size, seeds = report["family"]["size"], len(report["seeds"])
    judged = (
        f"verdicts by Holm's p over {size} cell{'' if size == 1 else 's'}, of main metrics and of what was declared"
        if seeds >= FEWEST_SEEDS
        else f"a verdict needs {FEWEST_SEEDS}"
    )
    spent = f"intervals are of one cell · {report['seconds']:,.0f} s of training"
    yield Text(f"seeds: {seeds} · {judged}; {spent}", style="dim")


def target_sentences(report: Report, target: str, metric: str) -> list[str]:
    """What is to be said of a target in words."""
    found = []
    scores = {
        name: values.get(metric) for name, values in report.get("baselines", {}).get(target, {}).items()
        if values.get(metric) is not None
    }  # fmt: skip
    if scores:
        beside = " · ".join(f"{formatting.label(name)} {formatting.shown(value)}" for name, value in scores.items())
        found.append(f"{target} {metric}: {beside}")
        fitted = sentences.fitted_sentence(report, target)
        found += [f"{target}: {fitted}"] if fitted else []
    stands = formatting.table(report, "beside", target)
    if stands.get("weak"):
        found.append(sentences.weak_sentence(target, stands))
    best = report.get("best", {}).get(target)
    if best:
        found.append(best_sentence(target, best, stands, report))
    auto = formatting.table(report, "auto", target)
    if auto:
        found.append(auto_table.counts(target, auto))
    for row, cell in main_cells(report, target).items():
        if cell.get("reason"):
            found.append(f"{row} -> {target}: {cell['reason']}")
    seen = [cell["minimum_detectable"] for cell in main_cells(report, target).values()]
    seen = [value for value in seen if value is not None]
    if seen:
        size = report["family"]["size"]
        corrected = f", after Holm's correction for {size} verdicts" if size > 1 else ""
        found.append(f"{target}: a change of {max(seen):.3g} would have been found with 80 % power{corrected}")
    if "all" in main_cells(report, target) and not report.get("wide_twins", {}).get(target):
        found.append(f"{target}: the twin itself has about as many parameters as all together")
    for row, cell in main_cells(report, target).items():
        over = cell.get("over_wide_twin")
        if over:
            found.append(f"{row} -> {target} against the twin with as many parameters: {formatting.interval(over)}")
    return found


def best_sentence(target: str, best: Report, beside: Report, report: Report) -> str:
    """The arm that validation prefers, its test value, and its distance to the best simple model.

    Without a word: validation chose the arm by the very trainings that the test judges.
    """
    said = f"best transfer to {target} by validation: {name_of(best['sources'], report)}, {best['metric']} "
    said += formatting.shown(best["value"])
    name = str(beside.get("best") or "")
    over = formatting.table(beside, formatting.GRAFTED, name)
    if formatting.interval(over) == formatting.DASH:
        return said
    return f"{said}; over {formatting.label(name)} {formatting.shown(beside.get('value'))}: {formatting.interval(over)}"
