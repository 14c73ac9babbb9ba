"""Two processes with one thread each against one process with one thread, on the same batches.

    python scripts/bench_ddp.py [--rows 400000] [--batch 4096] [--repeats 3] [--processes 2] [--optimizer rowwise]

The work is that of ``bench_train.py``: 24 categorical columns (276,000 values), 4 numbers, two labels; MMoE with 4
experts of 256-128, heads of 64, width 16, one pass over 80 % of the rows, in batches of 4096 over all processes.
`graftrec train` runs as a user would start it, once with ``trainer=default`` and once with ``trainer=ddp`` (gloo), in
turn; the best counts, since machines are shared and noisy. Every process has a core of its own: with fewer cores there
is nothing to gain. The last line is one JSON object. Not run on GPUs yet.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench_train import COMMAND, FILES, ROWWISE, make_work

TARGET = 1.4
OPTIMIZERS = {"rowwise": ROWWISE, "adamw": []}


def run(folder: Path, name: str, settings: list[str]) -> dict[str, Any]:
    """`graftrec train` with one thread a process; its metrics.json."""
    out = folder / name
    done = subprocess.run(
        [sys.executable, "-m", "graftrec", *COMMAND, *settings, "trainer.accelerator=cpu", f"hydra.run.dir={out}"],
        cwd=folder, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{name}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    metrics: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    return metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--batch", type=int, default=4096, help="rows of a step, over all processes")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="rowwise")
    words = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    if cores < words.processes:
        raise SystemExit(f"{words.processes} processes need as many cores, and there are {cores}")
    found: dict[int, list[dict[str, Any]]] = {1: [], words.processes: []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path, text in FILES.items():
            (folder / "conf" / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / "conf" / path).write_text(text)
        make_work(words.rows, folder / "work.parquet")
        for number in range(words.repeats):
            for count, runs in found.items():
                several = ["trainer=ddp", f"trainer.devices={count}"] if count > 1 else []
                settings = [f"protocol.batch_size={words.batch}", *OPTIMIZERS[words.optimizer], *several]
                runs.append(run(folder, f"{count}_{number}", settings))
    report(words, found)


def report(words: argparse.Namespace, found: dict[int, list[dict[str, Any]]]) -> None:
    """The table and the JSON line."""
    rows = words.rows * 8 // 10
    seconds = {count: min(each["fit"]["seconds"] for each in runs) for count, runs in found.items()}
    auc = {count: runs[0]["test"]["click"]["auc"] for count, runs in found.items()}
    print(f"{'processes':12}{'training, rows/s':>18}{'AUC of click':>16}")
    for count in found:
        print(f"{count:<12}{rows / seconds[count]:>18,.0f}{auc[count]:>16.6f}")
    several = words.processes
    figures = {
        "rows_per_second_1": round(rows / seconds[1]),
        f"rows_per_second_{several}": round(rows / seconds[several]),
        "speed_up": round(seconds[1] / seconds[several], 3),
        "auc_difference": round(abs(auc[1] - auc[several]), 6),
    }
    for name, value in figures.items():
        print(f"{name:24}{value:>14,}   {f'at least {TARGET}' if name == 'speed_up' and several == 2 else ''}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
