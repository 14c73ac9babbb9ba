"""Pictures of a sweep: parallel coordinates of its jobs, and what each setting explains of the score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from graftrec.evaluation.report.plots import GRAFTED, INK, OTHER, clean, save, verbatim
from graftrec.runs.sweep.importance import varying
from graftrec.runs.sweep.job_log import Entry

AXES, TICKS = 8, 7  # that a picture has room for


def parallel(jobs: Sequence[Entry], out_png: Path, shares: Mapping[str, float]) -> Path | None:
    """One line for each job over the settings that vary, to its score; None where nothing varies or has a score.

    The best job is drawn last and thickest; jobs without a score are grey and end before its axis.
    """
    keys = varying(jobs)
    scores = [job.score for job in jobs if job.score is not None]
    if not keys or not scores:
        return None
    order = sorted(keys, key=lambda key: -shares.get(key, 0.0))[:AXES]
    places = [_axis(keys[key]) for key in order]
    low, high = min(scores), max(scores)
    span = (high - low) or 1.0
    colours = matplotlib.colormaps["viridis_r"]  # without its palest part
    scale = Normalize(low - span / 5, low + span)
    size = (2.0 * len(order) + 2.6, 4.2)
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.1), facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for number in sorted(range(len(jobs)), key=lambda i: (jobs[i].score is not None, jobs[i].score or 0.0)):
        job, path = jobs[number], [at[number] for at, _ in places]
        best = job.score == high
        if job.score is None:
            axes.plot(path, color=OTHER, linewidth=1.0, linestyle=(0, (3, 2)), alpha=0.6, marker="x", markersize=4)
            continue
        path.append((job.score - low) / span if high > low else 0.5)
        axes.plot(path, color=colours(scale(job.score)), linewidth=3.0 if best else 1.5, alpha=1.0 if best else 0.75,
                  solid_capstyle="round", marker="o", markersize=6 if best else 4)  # fmt: skip
    for at, (_, ticks) in enumerate(places):
        _vertical(axes, at, ticks)
    _vertical(axes, len(order), [(0.5, f"{low:.4g}")] if high == low else
              [(share / 4, f"{low + span * share / 4:#.4g}") for share in range(5)], right=True)  # fmt: skip
    axes.set_xticks(range(len(order) + 1), [*(verbatim(key, 26) for key in order), "score"], fontsize=9, color=INK)
    axes.set_yticks([])
    axes.tick_params(length=0, pad=8)
    axes.set_xlim(-0.35, len(order) + 0.45)
    axes.set_ylim(-0.06, 1.06)
    axes.spines[:].set_visible(False)
    more = f" · {len(keys) - AXES} more settings vary" if len(keys) > AXES else ""
    none = " · dashed: no score" if len(scores) < len(jobs) else ""
    axes.set_title(f"{len(jobs)} jobs{more} · thick: the best{none}", fontsize=10, loc="left", color=INK)
    return save(figure, out_png)


def shares_png(shares: Mapping[str, float], how: str, out_png: Path) -> Path | None:
    """A bar for each setting; None where there are no shares."""
    if not shares:
        return None
    figure = Figure(figsize=(7.2, 0.42 * len(shares) + 1.1), layout=ConstrainedLayoutEngine(), facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    names = list(shares)[::-1]
    axes.barh(range(len(names)), [shares[name] for name in names], 0.62, color=GRAFTED)
    for row, name in enumerate(names):
        axes.text(shares[name] + 0.012, row, f"{shares[name]:.0%}", va="center", fontsize=9, color=INK)
    clean(axes)
    axes.set_yticks(range(len(names)), [verbatim(name) for name in names], fontsize=9)
    axes.set_xlim(0, 1.09)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "25%", "50%", "75%", "100%"])
    axes.set_title(verbatim(how, 90), fontsize=10, loc="left", color=INK)
    return save(figure, out_png)


def _axis(values: Sequence[str]) -> tuple[list[float], list[tuple[float, str]]]:
    """Where each job is on a setting's axis, in [0, 1], and ticks: numbers to scale (or to log scale), words apart."""
    numbers = [_number(value) for value in values]
    known = [number for number in numbers if number is not None]
    if len(known) < len(values):
        return _apart(values, list(dict.fromkeys(values)))
    low, high = min(known), max(known)
    if len(set(known)) <= TICKS and max(map(len, values)) <= 7:
        return _apart(values, sorted(dict.fromkeys(values), key=float))
    log = low > 0 and high / low > 50
    near = (lambda number: math.log(number)) if log else (lambda number: number)
    start, span = near(low), near(high) - near(low)
    ticks = [start + span * share / 4 for share in range(5)]
    return (
        [(near(number) - start) / span for number in known],
        [(share / 4, f"{math.exp(tick) if log else tick:.3g}") for share, tick in enumerate(ticks)],
    )


def _apart(values: Sequence[str], order: Sequence[str]) -> tuple[list[float], list[tuple[float, str]]]:
    at = {value: (number + 0.5) / len(order) if len(order) == 1 else number / (len(order) - 1)
          for number, value in enumerate(order)}  # fmt: skip
    step = max(1, math.ceil(len(order) / 12))
    return [at[value] for value in values], [(at[value], value or "default") for value in order[::step]]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _vertical(axes: Axes, at: int, ticks: Sequence[tuple[float, str]], right: bool = False) -> None:
    axes.axvline(at, color="#BBBBBB", linewidth=1, zorder=0)
    for place, text in ticks:
        axes.annotate(
            verbatim(text, 18), (at, place), xytext=(7 if right else -7, 0), textcoords="offset points",
            ha="left" if right else "right", va="center", fontsize=8, color=INK,
            bbox={"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
        )  # fmt: skip
