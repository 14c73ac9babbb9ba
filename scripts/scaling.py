"""Loss against compute: `python scripts/scaling.py OUT s,m,l trunk=sasrec dataset=... [more settings]`.

Trains each size (one whose run is in OUT already is not trained again), writes OUT/scaling.csv with a line per epoch,
and draws OUT/scaling.png. The loss is the mean over the epoch's steps, the score the target's main validation metric.
"""

import json
import subprocess
import sys
from pathlib import Path

import polars as pl

from graftrec.evaluation.report import plots
from graftrec.utils.atomic_files import whole

LOSS, FLOPS = "train/loss/total", "train/flops"


def train(folder: Path, size: str, settings: list[str]) -> None:
    if not (folder / "metrics.json").is_file():
        more = [f"size={size}", "twin=false", "baselines=false", "trainer.log_every_n_steps=1"]
        words = ["train", *settings, *more, f"hydra.run.dir={folder}"]
        subprocess.run([str(Path(sys.executable).with_name("graftrec")), *words], check=True)


def epochs_of(folder: Path, size: str) -> pl.DataFrame:
    """One line per epoch: FLOPs since the start, mean training loss, validation score."""
    metrics = json.loads((folder / "metrics.json").read_text())
    metric = metrics["main"]["metric"]
    score = f"val/{metrics['main']['task']}/{metric}"
    rows = pl.read_csv(folder / "metrics.csv", infer_schema_length=None).sort("step")
    rows = rows.with_columns(pl.col(FLOPS).is_not_null().cum_sum().alias("epochs"))
    # the row with an epoch's FLOPs is its last one: its steps' losses stand before it or in it
    ends = rows.filter(pl.col(FLOPS).is_not_null()).select(
        (pl.col("epochs") - 1).alias("epochs"), pl.col(FLOPS).alias("flops"), pl.col(score).alias(metric)
    )
    steps = rows.filter(pl.col(LOSS).is_not_null())
    steps = steps.with_columns(pl.col("epochs") - pl.col(FLOPS).is_not_null().cast(pl.UInt32))
    losses = steps.group_by("epochs").agg(pl.col(LOSS).mean().alias("loss"))
    found = ends.join(losses, "epochs", how="left").sort("flops")
    parameters = metrics["fit"]["parameters_of"]
    return found.select(
        pl.lit(size).alias("size"), pl.lit(parameters.get("trunk", 0)).alias("trunk"),
        (pl.col("epochs") + 1).alias("epoch"), "flops", "loss", metric,
    )  # fmt: skip


def main() -> None:
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    out, sizes, settings = Path(sys.argv[1]).resolve(), sys.argv[2].split(","), sys.argv[3:]
    for size in sizes:
        train(out / size, size, settings)
    table = pl.concat([epochs_of(out / size, size) for size in sizes])
    with whole(out / "scaling.csv") as draft:
        table.write_csv(draft)
    metric = table.columns[-1]
    curves = {
        f"{size} ({count:,} weights)": part.select("flops", "loss", metric).rows()
        for (size, count), part in table.group_by("size", "trunk", maintain_order=True)
    }
    plots.scaling(curves, metric, out / "scaling.png")
    best = table.group_by("size", "trunk", maintain_order=True).agg(
        pl.col("flops").max(), pl.col("loss").min(), pl.col(metric).max()
    )
    print(f"| size | weights of the trunk | FLOPs | lowest loss | best {metric} |\n|---|---|---|---|---|")
    for size, count, flops, loss, score in best.rows():
        print(f"| {size} | {count:,} | {flops:.2e} | {loss:.3f} | {score:.4f} |")


if __name__ == "__main__":
    main()
