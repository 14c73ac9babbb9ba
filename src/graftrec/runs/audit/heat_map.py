"""The transfer matrix as a picture: sources down, targets across, one panel overall and one for each cohort."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle

from graftrec.evaluation.report import formatting
from graftrec.evaluation.report.plots import INK, save, verbatim
from graftrec.runs.audit.matrix_table import cohorts, few, main_cells, rows
from graftrec.tasks.metrics.direction import sign

MOST = 5  # panels
COLOURS = "RdBu"  # safe for colour-blind readers: red hurts, blue helps, white where nothing changes
SAID = ("helps", "hurts")
PALE = 0.35  # of what has no verdict: it should not shout


def draw(report: Mapping[str, Any], out_png: Path) -> Path:
    """One panel overall and one for each cohort; what has a verdict is framed, and the rest is pale."""
    panels: list[str | None] = [None, *[name for name in cohorts(report) if not name.startswith("history_")]]
    panels = panels[:MOST]
    names, targets = rows(report), list(report["main"])
    wide = max(1.7, 0.1 * max(map(len, targets), default=1))
    label = 0.085 * max(map(len, names), default=1) + 0.3
    size = (len(panels) * (wide * len(targets) + 0.25) + label + 1.2, 0.72 * max(2, len(names)) + 1.35)
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(wspace=0.04), facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    values = np.array(
        [[[_delta(main_cells(report, t, panel).get(name)) for t in targets] for name in names] for panel in panels]
    )
    decided = np.array([
        [[formatting.verdict(main_cells(report, t, panel).get(name)) in SAID for t in targets] for name in names]
        for panel in panels
    ])  # fmt: skip
    limit = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 1.0
    shown: Any = None
    for at, (panel, own) in enumerate(zip(panels, axes, strict=True)):
        shown = own.imshow(
            np.ma.masked_invalid(values[at]),
            cmap=COLOURS,
            vmin=-(limit or 1.0),
            vmax=limit or 1.0,
            aspect="auto",
            alpha=np.where(decided[at], 1.0, PALE),
        )
        _panel(own, report, panel, names, targets, limit or 1.0)
    axes[0].set_yticks(range(len(names)), [verbatim(name, 28) for name in names], fontsize=10)
    bar = figure.colorbar(shown, ax=list(axes), fraction=0.03, pad=0.02)
    bar.set_label("change for the better,\nagainst the twin", fontsize=9, color=INK)  # a matrix may be low
    bar.ax.tick_params(labelsize=8)
    metrics = verbatim(", ".join(dict.fromkeys(report["main"].values())), 80)
    framed = " · framed: helps or hurts" if len(report["seeds"]) > 2 else ""
    title = f"transfer matrix · test {metrics} · seeds: {len(report['seeds'])}{framed}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, color=INK)
    return save(figure, out_png)


def _panel(
    axes: Any, report: Mapping[str, Any], cohort: str | None, names: list[str], targets: list[str], limit: float
) -> None:
    axes.set_title(verbatim(formatting.label(cohort)) if cohort else "overall", fontsize=10, loc="left", color=INK)
    axes.set_xticks(range(len(targets)), [f"-> {verbatim(target, 28)}" for target in targets], fontsize=9)
    axes.tick_params(length=0, colors=INK)
    axes.set_xticks(np.arange(len(targets) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)
    for row, name in enumerate(names):
        for column, target in enumerate(targets):
            cell = main_cells(report, target, cohort).get(name)
            if cell is None or math.isnan(_delta(cell)):
                axes.text(column, row, few(cell), ha="center", va="center", fontsize=9, color=INK)
                continue
            said = formatting.verdict(cell) if formatting.verdict(cell) in SAID else ""
            colour = "white" if said and abs(cell["delta"]) > 0.5 * limit else INK
            low, high = formatting.signed(cell.get("low")), formatting.signed(cell.get("high"))
            text = f"{formatting.signed(cell['delta'])}{'  ' + said if said else ''}"
            axes.text(column, row - 0.13, text, ha="center", va="center", fontsize=10, color=colour,
                      fontweight="bold" if said else "normal")  # fmt: skip
            axes.text(column, row + 0.2, f"[{low}, {high}]", ha="center", va="center", fontsize=8, color=colour)
            if said:
                axes.add_patch(_frame(column, row))


def _frame(column: int, row: int) -> Any:
    return Rectangle((column - 0.46, row - 0.44), 0.92, 0.88, fill=False, edgecolor=INK, linewidth=1.6)


def _delta(cell: Mapping[str, Any] | None) -> float:
    """The change, above 0 where it is for the better.

    NaN where there is no cell, or too few users for an interval: that must not set the scale of the colours.
    """
    if cell is None or formatting.number(cell.get("low")) is None:
        return math.nan
    value = formatting.number(cell.get("delta"))
    return math.nan if value is None else sign(str(cell["metric"])) * value
