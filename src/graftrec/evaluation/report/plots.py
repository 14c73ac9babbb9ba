"""Plots as PNG files: learning curves, the comparison with twin and baselines, and the data card."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from graftrec.evaluation.report import formatting
from graftrec.utils.atomic_files import whole

GRAFTED, TWIN, OTHER, INK = "#0072B2", "#D55E00", "#8A8F98", "#333333"  # Okabe and Ito: safe for colour-blind readers
EXTRA = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_PARTS = ("total", "target", "source", "shared")
_Points = list[tuple[float, float]]
_Curves = dict[str, dict[str, list[_Points]]]


def learning_curves(csv_path: Path, out_png: Path, targets: Sequence[str] = (), main: str = "") -> Path:
    """A panel per training loss and per validation metric of a target; grafted and twin in the same panel.

    Without ``targets`` every task's metrics count; slices (``metric/cohort``) are left to the tables.
    ``main`` is the metric shown first. Every phase starts at step 0, so that curves lie over each other. A phase that
    was trained several times, with several seeds or as the twin of several targets, has a thin line for each.
    """
    curves = _read(csv_path)
    names = _panels(curves, targets, main)
    width = min(3, max(1, len(names)))
    height = max(1, math.ceil(len(names) / width))
    figure = Figure(
        figsize=(3.9 * width, 2.6 * height + 0.5),
        layout=ConstrainedLayoutEngine(wspace=0.06, hspace=0.06),
        facecolor="white",
    )
    FigureCanvasAgg(figure)
    panels = figure.subplots(height, width, squeeze=False).flatten()
    phases = list(dict.fromkeys(phase for name in names for phase in curves[name]))
    colours = _colours(phases)
    for axes in panels[max(1, len(names)) :]:
        axes.set_axis_off()
    if not names:
        _nothing(panels[0], "nothing was logged")
    for axes, name in zip(panels, names, strict=False):
        for phase, lines in curves[name].items():
            for points in lines:
                _line(axes, points, colours[phase], dashed=_is_twin(phase), thin=len(lines) > 1)
        axes.set_title(verbatim(_panel_title(name)), fontsize=10, loc="left", color=INK)
        clean(axes)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    for axes in panels[max(0, len(names) - width) : len(names)]:
        axes.set_xlabel("step of the phase", fontsize=9, color=INK)
    if phases:
        handles = [_line(panels[0], [], colours[phase], dashed=_is_twin(phase)) for phase in phases]
        labels = [verbatim(_phase_label(phase)) for phase in phases]
        figure.legend(handles, labels, loc="outside upper left", ncols=len(phases), frameon=False, fontsize=10)
    return save(figure, out_png)


def comparison(metrics: Mapping[str, Any], out_png: Path, most: int = 4) -> Path:
    """Dots for baselines, twin and grafted on the target's first metrics.

    The whisker at grafted is the interval of grafted - twin, laid at the twin's score: it clears the twin's line
    exactly where the interval clears zero.
    """
    task = str(formatting.table(metrics, "main").get("task") or "") or next(iter(formatting.tasks(metrics)), "")
    names = formatting.columns(metrics, task)
    shown = [
        m for m in formatting.metric_names(metrics, task)
        if "/history_" not in m and any(_score(metrics, task, m, n) is not None for n in names)
    ]  # fmt: skip
    shown = shown[:most]
    width = min(2, max(1, len(shown)))
    height = max(1, math.ceil(len(shown) / width))
    size = (4.4 * width + 1.2, (0.36 * len(names) + 0.8) * height + 0.4)
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(wspace=0.06, hspace=0.06), facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(height, width, squeeze=False, sharey=True).flatten()
    for axes in panels[max(1, len(shown)) :]:
        axes.set_axis_off()
    if not shown:
        _nothing(panels[0], "no score of the target is defined")
    for axes, metric in zip(panels, shown, strict=False):
        _dots(axes, metrics, task, metric, names)
    if shown:
        panels[0].set_yticks(range(len(names)), [verbatim(formatting.label(name)) for name in names])
        whisker = any(formatting.table(metrics, "differences", task, metric) for metric in shown)
        note = " · whisker: interval of grafted - twin" if whisker else ""
        title = f"{verbatim(task)} · test{note}"
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, color=INK)
    return save(figure, out_png)


def scaling(curves: Mapping[str, Sequence[tuple[float, float, float]]], metric: str, out_png: Path) -> Path:
    """Training loss and a validation metric against compute: name -> (FLOPs, loss, score) of each epoch."""
    figure = Figure(figsize=(9.2, 3.9), layout=ConstrainedLayoutEngine(wspace=0.06, hspace=0.06), facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2, squeeze=False).flatten()
    colours = dict(zip(curves, (GRAFTED, TWIN, *EXTRA), strict=False))
    for place, (axes, title) in enumerate(zip(panels, ("training loss", f"validation {metric}"), strict=True)):
        for name, points in curves.items():
            shown = [(point[0], point[1 + place]) for point in points if point[0] > 0 and point[1 + place] is not None]
            axes.plot(*zip(*shown, strict=True), marker="o", markersize=3.5, linewidth=1.6,
                      color=colours.get(name, OTHER), label=verbatim(name)) if shown else None  # fmt: skip
        axes.set_xscale("log")
        axes.set_title(verbatim(title), fontsize=10, loc="left", color=INK)
        clean(axes)
        axes.set_xlabel("FLOPs of training", fontsize=9, color=INK)
    handles, labels = panels[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside upper left", ncols=len(labels), frameon=False, fontsize=10)
    return save(figure, out_png)


def _dots(axes: Axes, metrics: Mapping[str, Any], task: str, metric: str, names: Sequence[str]) -> None:
    twin = _score(metrics, task, metric, formatting.TWIN)
    difference = formatting.table(metrics, "differences", task, metric)
    low, high = (formatting.number(difference.get(key)) for key in ("low", "high"))
    if twin is not None:
        axes.axvline(twin, color=TWIN, linewidth=1, linestyle=(0, (4, 3)), alpha=0.7, zorder=1)
    for row, name in enumerate(names):
        value = _score(metrics, task, metric, name)
        if value is None:
            axes.text(0.5, row, "undefined", transform=axes.get_yaxis_transform(), ha="center", va="center",
                      fontsize=8, color=OTHER)  # fmt: skip
            continue
        colour = {formatting.GRAFTED: GRAFTED, formatting.TWIN: TWIN}.get(name, OTHER)
        if name == formatting.GRAFTED and twin is not None and low is not None and high is not None:
            axes.plot([twin + low, twin + high], [row, row], color=GRAFTED, linewidth=2.2, alpha=0.55, zorder=2)
        mark = {formatting.GRAFTED: "o", formatting.TWIN: "D"}.get(name, "s")
        axes.plot([value], [row], mark, color=colour, markersize=7, zorder=3)
        axes.annotate(
            formatting.shown(value),
            (value, row),
            textcoords="offset points",
            xytext=(0, 7),
            ha="center",
            fontsize=8,
            color=INK,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.6},
            zorder=4,
        )
    clean(axes)
    axes.set_title(verbatim(formatting.label(metric)), fontsize=10, loc="left", color=INK)
    axes.margins(x=0.18)
    axes.set_ylim(-0.5, len(names) - 0.25)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.tick_params(axis="y", length=0, labelsize=10)


def _score(metrics: Mapping[str, Any], task: str, metric: str, name: str) -> float | None:
    return formatting.score(metrics, task, metric, name)[0]


def _read(csv_path: Path) -> _Curves:
    """Column -> phase -> of each training of it (step of the phase, value), empty cells and undefined values left out.

    A training begins where the phase or the seed is another one, or the epoch goes back.
    """
    curves: dict[str, dict[str, dict[int, _Points]]] = {}
    if not Path(csv_path).is_file():
        return {}
    here, number, epoch, start = ("", ""), 0, math.inf, 0.0
    with Path(csv_path).open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            step, phase, seed = _float(row.pop("step", "")), row.pop("phase", "") or "", row.pop("seed", "") or ""
            if step is None:
                continue
            now = _float(row.get("epoch"))
            now = epoch if now is None else now
            if (phase, seed) != here or now < epoch:
                here, number, start = (phase, seed), number + 1, step
            epoch = now
            for name, cell in row.items():
                value = _float(cell)
                if value is not None and name:
                    own = curves.setdefault(name, {}).setdefault(phase, {})
                    own.setdefault(number, []).append((step - start, value))
    return {name: {phase: list(lines.values()) for phase, lines in of.items()} for name, of in curves.items()}


def _panels(curves: Mapping[str, Any], targets: Sequence[str], main: str) -> list[str]:
    losses = [name for name in curves if name.startswith("train/loss/")]
    roles = [curves[name] for name in losses if name[11:] in _PARTS]
    losses = [name for name in losses if name[11:] in _PARTS or curves[name] not in roles]  # one task is its role
    losses.sort(key=lambda n: _PARTS.index(n[11:]) if n[11:] in _PARTS else len(_PARTS))
    parts = (name.split("/") for name in curves if name.startswith("val/"))
    scores = ["/".join(p) for p in parts if len(p) == 3 and (not targets or p[1] in targets)]
    metrics = {name.rsplit("/", 1)[-1] for name in scores}
    drawn = {
        name for name in formatting.brief({"main": {"metric": main}}, sorted(metrics)) if not formatting.of_lists(name)
    }
    scores = [name for name in scores if name.rsplit("/", 1)[-1] in drawn]
    return [*losses, *sorted(scores, key=lambda name: name.rsplit("/", 1)[-1] != main)]


def _panel_title(name: str) -> str:
    part, rest = name.split("/", 1)
    if part == "train":
        return f"loss · {formatting.label(rest.split('/', 1)[1])}"
    return f"validation · {formatting.label(rest)}"


def _is_twin(phase: str) -> bool:
    return formatting.TWIN in phase.lower()


def _phase_label(phase: str) -> str:
    return "grafted" if phase in ("", "joint") else formatting.label(phase)


def _colours(phases: Sequence[str]) -> dict[str, str]:
    """Twin orange, the first other phase blue, further ones from the rest of the palette."""
    grafted = iter([GRAFTED, *EXTRA * len(phases)])
    twins = iter([TWIN, *reversed(EXTRA * len(phases))])
    return {phase: next(twins) if _is_twin(phase) else next(grafted) for phase in phases}


def _line(axes: Axes, points: _Points, colour: str, dashed: bool, thin: bool = False) -> Any:
    style: Any = (0, (5, 2)) if dashed else "-"
    mark = "o" if 0 < len(points) <= 15 else ""
    x, y = [p[0] for p in points], [p[1] for p in points]
    width, size, alpha = (0.9, 2.0, 0.75) if thin else (1.8, 3.5, 1.0)
    line = axes.plot(x, y, color=colour, linestyle=style, linewidth=width, marker=mark, markersize=size, alpha=alpha)
    return line[0]


def clean(axes: Axes) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#BBBBBB")
    axes.grid(True, color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, colors=INK, color="#BBBBBB")


def _nothing(axes: Axes, why: str) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, verbatim(why, 200), ha="center", va="center", fontsize=11, color=INK, transform=axes.transAxes)


def verbatim(text: str, most: int = 42) -> str:
    """Text from data: printable, short, and no formula to matplotlib."""
    clean = "".join(c if c.isprintable() else " " for c in text)
    return (clean if len(clean) <= most else clean[: most - 1] + "…").replace("$", r"\$")


def _float(cell: Any) -> float | None:
    try:
        value = float(cell)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def save(figure: Figure, out_png: Path) -> Path:
    out_png.parent.mkdir(parents=True, exist_ok=True)
    with whole(out_png) as draft:
        figure.savefig(draft, dpi=150, format="png")
    return out_png


def data_card(card: Mapping[str, Any], out_png: Path) -> Path:
    """Rows over time, label rates and the share of rows that the most popular items have; one colour per domain."""
    domains = {name: domain for name, domain in card["domains"].items() if domain["rows"]}
    biggest = sorted(domains, key=lambda name: -domains[name]["rows"])[:6]
    colours = dict(zip(biggest, (GRAFTED, TWIN, *EXTRA), strict=False))
    figure = Figure(figsize=(11.7, 3.2), layout=ConstrainedLayoutEngine(wspace=0.06), facecolor="white")
    FigureCanvasAgg(figure)
    over_time, labels, top = figure.subplots(1, 3)
    _rows_over_time(over_time, card.get("timeline") or {}, colours)
    _label_rates(labels, {name: domains[name] for name in biggest}, colours)
    _popularity(top, {name: domains[name] for name in biggest}, colours)
    if len(domains) > 1:
        handles = [Line2D([], [], color=colour) for colour in colours.values()]
        more = f" and {len(domains) - len(biggest)} more" if len(domains) > len(biggest) else ""
        figure.legend(
            handles, [verbatim(name, min(42, 100 // len(biggest))) for name in biggest], loc="outside upper left",
            ncols=6, frameon=False, fontsize=9, title=f"domains{more}" if more else None, alignment="left",
        )  # fmt: skip
    return save(figure, out_png)


def _rows_over_time(axes: Axes, timeline: Mapping[str, Any], colours: Mapping[str, str]) -> None:
    axes.set_title("rows over time", fontsize=10, loc="left", color=INK)
    clean(axes)
    if not timeline:
        _nothing(axes, "no dates")
        return
    edges = [date2num(datetime.fromisoformat(edge)) for edge in timeline["edges"]]
    for name, colour in colours.items():
        if name in timeline["counts"]:
            axes.stairs(timeline["counts"][name], edges, color=colour, fill=len(colours) == 1, alpha=0.85)
    axes.set_xlim(edges[0], max(edges[-1], edges[0] + 1e-6))  # a margin would leave the years 1 to 9999
    dates = AutoDateLocator(minticks=3, maxticks=7)  # any span has a step between: 72 hours are 6 half days
    axes.xaxis.set_major_locator(dates)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(dates))
    axes.set_ylim(bottom=0)


def _label_rates(axes: Axes, domains: Mapping[str, Any], colours: Mapping[str, str]) -> None:
    axes.set_title("share of positives", fontsize=10, loc="left", color=INK)
    clean(axes)
    names = list(dict.fromkeys(
        label for domain in domains.values() for label, about in domain["labels"].items() if about["kind"] == "binary"
    ))[:8]  # fmt: skip
    if not names:
        _nothing(axes, "no binary label")
        return
    high = 0.8 / max(1, len(domains))
    for at, (domain, about) in enumerate(domains.items()):
        means = [(about["labels"].get(name) or {}).get("mean") or 0.0 for name in names]
        axes.barh([place + at * high for place in range(len(names))], means, high, color=colours[domain])
    axes.set_yticks([place + high * (len(domains) - 1) / 2 for place in range(len(names))])
    axes.set_yticklabels([verbatim(name) for name in names], fontsize=9)
    axes.set_xlim(0, 1)
    axes.invert_yaxis()


def _popularity(axes: Axes, domains: Mapping[str, Any], colours: Mapping[str, str]) -> None:
    axes.set_title("share of rows of the top items", fontsize=10, loc="left", color=INK)
    clean(axes)
    shown = {name: domain["rows_of_top_items"] for name, domain in domains.items() if domain.get("rows_of_top_items")}
    if not shown:
        _nothing(axes, "no items")
        return
    for name, tops in shown.items():
        axes.plot(range(len(tops)), list(tops.values()), "o-", color=colours[name])
        axes.set_xticks(range(len(tops)))
        axes.set_xticklabels([f"top {top}" for top in tops], fontsize=9)
    axes.set_ylim(0, 1.02)
