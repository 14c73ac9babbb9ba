"""Gain against overlap: `python scripts/overlap.py runs/sweeps/SWEEP [--metric ndcg@10]`, made by one multirun such as

    graftrec train -m experiment=food_kitchen dataset.root=FOLDER candidates.lists=LISTS baselines=false \
      protocol.overlap_users=0,0.25,0.5,1 seeds=3 hydra.sweep.dir=runs/sweeps/overlap

Of each level of ``protocol.overlap_users`` the test metric of grafted minus twin, paired over users and seeds, with a
95 % interval (`difference_of`, as in a run's own report): a table, SWEEP/overlap.png, and as the last line JSON. Seeds
may be in one run or in several. Rows, splits and test users are the same at every level; what changes is whose ids the
domains share.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from graftrec.evaluation.report.plots import GRAFTED, INK, OTHER, TWIN, clean, save
from graftrec.evaluation.statistics import user_values
from graftrec.evaluation.statistics.intervals import Difference
from graftrec.evaluation.statistics.user_values import USER, Values, difference_of

LEVEL = "overlap_users"
ARMS = ("grafted", "twin")


def differences(runs: Sequence[Path], metric: str | None) -> tuple[str, str, dict[float, Difference]]:
    """The task and metric, and level -> grafted - twin of run folders, over users and all seeds of the level."""
    found: dict[float, tuple[list[Values], list[Values]]] = {}
    task = ""
    for run in runs:
        level = float(yaml.safe_load((run / "config.yaml").read_text())["protocol"].get(LEVEL, 1.0))
        main: Mapping[str, Any] = json.loads((run / "metrics.json").read_text())["main"]
        task, metric = main["task"], metric or main["metric"]
        users = pl.read_parquet(run / "users.parquet").filter(pl.col("arm").is_in(ARMS), task=task, metric=metric)
        for seed in users["seed"].unique().sort().to_list() or [0]:
            arms = [users.filter(arm=arm, seed=seed).sort(USER, maintain_order=True) for arm in ARMS]
            if not (len(arms[0]) and arms[0][USER].equals(arms[1][USER])):
                raise SystemExit(f"{run}: '{metric}' of '{task}' has no values of the same users for grafted and twin")
            for of_level, frame in zip(found.setdefault(level, ([], [])), arms, strict=True):
                of_level.append(user_values.read(frame)[task])
    return task, str(metric), {level: difference_of(*found[level], str(metric)) for level in sorted(found)}


def draw(task: str, metric: str, measured: Mapping[float, Difference], out: Path) -> Path:
    """Gain with its interval against the share of users who are linked."""
    figure = Figure(figsize=(5.2, 3.4), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    levels = list(measured)
    deltas = np.array([each.delta for each in measured.values()])
    reach = np.array([[each.delta - each.low, each.high - each.delta] for each in measured.values()]).T
    axes.axhline(0, color=TWIN, linewidth=1.4, linestyle="--")
    between = sum(levels[-2:]) / len(levels[-2:])  # where no interval stands
    axes.annotate("twin", (between, 0), (0, -12), textcoords="offset points", ha="center", fontsize=9, color=TWIN)
    axes.plot(levels, deltas, color=OTHER, linewidth=1)
    axes.errorbar(levels, deltas, reach, color=GRAFTED, fmt="o", capsize=3, markersize=5)
    axes.set_xticks(levels, [f"{level:.0%}" for level in levels])
    axes.set_xlabel("users who are linked across the domains", fontsize=9, color=INK)
    axes.set_ylabel(f"change of {metric}", fontsize=9, color=INK)
    seeds = next(iter(measured.values())).seeds
    title = f"{task}: gain against overlap · seeds: {seeds} · 95 %"
    axes.set_title(title, fontsize=10, loc="left", color=INK)
    clean(axes)
    return save(figure, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path)
    parser.add_argument("--metric")
    words = parser.parse_args()
    runs = sorted(path.parent for path in words.sweep.glob("*/users.parquet"))
    if not runs:
        raise SystemExit(f"{words.sweep} has no finished runs (*/users.parquet)")
    task, metric, measured = differences(runs, words.metric)
    print(f"| linked users | seeds | {task} {metric}: grafted - twin | p |\n|---|---|---|---|")
    for level, each in measured.items():
        print(f"| {level:.0%} | {each.seeds} | {each.delta:+.4f} [{each.low:+.4f}, {each.high:+.4f}] | {each.p:.3g} |")
    print(draw(task, metric, measured, words.sweep / "overlap.png"))
    print(json.dumps({str(level): [each.delta, each.low, each.high] for level, each in measured.items()}))


if __name__ == "__main__":
    main()
