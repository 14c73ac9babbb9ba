"""Runs that differ in their seed, as one table: `python scripts/seeds.py runs/SWEEP/*`.

Means over the runs, and grafted minus twin and each baseline with a 95 % interval paired over users and seeds.
"""

import sys
from pathlib import Path

import numpy as np
import polars as pl

from graftrec.analysis.statistics import paired_difference

METRICS = ("ndcg@10", "ndcg@10/first_time")


def main() -> None:
    runs = [Path(word) for word in sys.argv[1:] if (Path(word) / "users.parquet").is_file()]
    if len(runs) < 2:
        raise SystemExit("seeds.py needs at least two run folders with users.parquet")
    frames = [pl.read_parquet(run / "users.parquet") for run in runs]
    for task in frames[0].filter(pl.col("arm") == "twin")["task"].unique().sort():
        print(f"| {task}, {len(runs)} runs | mean | grafted minus this |\n|---|---|---|")
        for metric in METRICS:
            arms = frames[0].filter(task=task, metric=metric)["arm"].unique(maintain_order=True).to_list()
            values = {
                arm: np.stack(
                    [frame.filter(arm=arm, task=task, metric=metric).sort("user")["value"] for frame in frames]
                )
                for arm in arms
            }
            for arm in arms:
                mean = np.nanmean(values[arm], axis=1).mean()
                difference = ""
                if arm != "grafted":
                    d = paired_difference(values["grafted"], values[arm])
                    difference = f"{d.delta:+.3f} [{d.low:+.3f}, {d.high:+.3f}] {d.verdict}"
                print(f"| {metric} · {arm.replace('_', ' ')} | {mean:.3f} | {difference} |")


if __name__ == "__main__":
    main()
