"""Sequences against peers: targets/s in training, users/s in full ranking, and the memory of a large catalogue.

    python scripts/bench_sequences.py ROOT [--epochs 25] [--repeats 3] [--threads 2] [--items 1000000]
        [--peer NAME PYTHON "PROGRAM ARGUMENTS"]...

ROOT is the folder of ``LastFM.parquet`` and ``LastFM_attributes.parquet`` (``dataset=sequences``). The work: SASRec of
width 64 with 2 blocks and 2 heads, length 50, softmax over the whole catalogue, batches of 128 sequences, Adam. After
`graftrec train`, every user gets the 10 best of the catalogue without what was seen, as of the validation. A peer is a
program of another environment that prints ``N targets/s`` or ``train seq/s N``, and ``M users/s`` or ``eval users/s
M``; the last ones count, and so does the last ``NDCG@10 X``, if there is one. All run alternately in processes of their
own and medians count, since machines are shared and noisy; each repeat has a seed of its own. bf16 is left out where
the processor has none: it is emulated there. The last line is one JSON object.
"""

import argparse
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

COMMAND = [
    "protocol=cross_domain", "split=leave_last_out", "size=s", "trunk=sasrec", "task@source=[]",
    "task@target=[next_item]", "task@shared=[]", "twin=false", "baselines=false", "++candidates.min_users=0",
    "++protocol.batch_size=128", "++encoder.id_dropout=0.0", "++encoder.dropout=0.0", "schedule=constant",
    "++optimizer.lr=0.001", "++optimizer.weight_decay=0.0",
]  # fmt: skip
RUNS = {"fp32": [], "bf16": ["++trainer.precision=bf16-mixed"]}
if "bf16" not in Path("/proc/cpuinfo").read_text():
    del RUNS["bf16"]
USERS, ROUNDS = 1000, 7
PEER = {
    "train": r"([\d.,]+) targets/s|train seq/s ([\d.,]+)",
    "rank": r"([\d.,]+) users/s|eval users/s ([\d.,]+)",
    "ndcg": r"NDCG@10 (\d[\d.]*)",
}
TARGETS = {
    "val_ndcg10": "at least that of the bare loop, 0.0497",
    "rank_million_items_peak_mb": "at most 1000",
    "fp32_train_over_rectools": "at least 2, better 3",
    "fp32_rank_over_rectools": "at least 4",
}


def framework(folder: Path, settings: list[str]) -> dict[str, float]:
    """`graftrec train` and then the recommendations of its run, each in a process of its own."""
    out = folder / f"run_{time.time_ns()}"
    call = [sys.executable, "-m", "graftrec", "train", *COMMAND, *settings, f"hydra.run.dir={out}"]
    done = subprocess.run(call, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(settings)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    import polars as pl

    values = pl.read_csv(out / "metrics.csv", infer_schema_length=None)["val/next_item/ndcg@10"].drop_nulls()
    return {
        "seconds": json.loads((out / "metrics.json").read_text())["fit"]["seconds"],
        "ndcg": values[-1],  # of the last epoch, as the peers say it
        **step("rank", str(out)),
    }


def rank(run: str) -> dict[str, float]:
    """Users per second of a trained run."""
    import torch
    import yaml

    from graftrec.runs.recommender import Recommender

    recommender, found = Recommender.load(run), []
    precision = str(yaml.safe_load((Path(run) / "config.yaml").read_text())["trainer"].get("precision", ""))
    users = recommender.users("val")
    with torch.autocast("cpu", torch.bfloat16, enabled=precision.startswith("bf16")):
        for _ in range(ROUNDS):
            start = time.perf_counter()
            recommender.recommend(users, k=10, seen=False, at="val")
            found.append(len(users) / (time.perf_counter() - start))
    return {"rank": statistics.median(found)}


def million(items: str) -> dict[str, float]:
    """Memory that recommendations for 1,000 users take in addition, and their seconds, for ``items`` items."""
    import numpy as np
    import polars as pl
    from hydra import compose, initialize_config_dir

    from graftrec.config import instantiate
    from graftrec.runs.recommender import Recommender
    from graftrec.training.builder import assemble, protocol_of, streams_of

    users = max(USERS, int(items) // 20)
    with tempfile.TemporaryDirectory() as folder:
        order = np.random.default_rng(0).permutation(int(items))
        rows = pl.DataFrame(
            {"user": np.arange(len(order)) % users, "item": order, "time": np.arange(len(order)) // users}
        )
        rows.with_columns(pl.col("time").cast(pl.Float64)).write_parquet(Path(folder) / "rows.parquet")
        instantiate.register_resolvers()
        with initialize_config_dir(str(instantiate.conf_dir()), version_base="1.3"):
            files = ["dataset=files", f"dataset.path={folder}/rows.parquet"]
            files += [f"++dataset.{name}={name}" for name in ("user", "item", "time")]
            tree = instantiate.plain(compose("train", [*COMMAND, *files]))
        instantiate.drop_orphans(tree)
        protocol = protocol_of(tree)
        protocol.prepare(streams_of(tree))
    recommender = Recommender(assemble(tree, protocol, ("target",), 0), protocol, "next_item")
    asked = recommender.users("val")[:USERS]
    before, peak, done = resident(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, resident())

    thread = threading.Thread(target=watch)
    thread.start()
    start = time.perf_counter()
    recommender.recommend(asked, k=10, seen=False, at="val")
    seconds = time.perf_counter() - start
    done.set()
    thread.join()
    return {"peak_mb": (peak - before) / 1e6, "seconds": seconds}


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peer(folder: Path, python: str, program: str) -> dict[str, float]:
    """What a peer's program says of itself."""
    done = subprocess.run([python, *shlex.split(program)], cwd=folder, capture_output=True, text=True)
    said = {name: re.findall(pattern, done.stdout) for name, pattern in PEER.items()}
    if done.returncode or not (said["train"] and said["rank"]):
        raise SystemExit(f"{program}: {done.stdout[-1000:]}{done.stderr[-2000:]}")
    last = {name: "".join(values[-1]) for name, values in said.items() if values}
    return {name: float(value.replace(",", "")) for name, value in last.items()}


def step(name: str, argument: str) -> dict[str, float]:
    """One measurement in a process of its own."""
    done = subprocess.run([sys.executable, __file__, "--step", name, argument], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(words: Any, folder: Path) -> None:
    """Everything in turn, then the table and the JSON line."""
    import polars as pl

    root = Path(words.root).resolve()
    lists = pl.read_parquet(root / "LastFM.parquet")["items"]
    targets = int((lists.list.len() - 3).sum()) * words.epochs  # all but validation, test and the first of each
    found: dict[str, list[dict[str, float]]] = {}
    for repeat in range(words.repeats):
        data = ["dataset=sequences", f"dataset.root={root}", f"++transfer.epochs={words.epochs}", f"seed={repeat}"]
        for name, settings in RUNS.items():
            run = framework(folder, [*data, *settings])
            found.setdefault(name, []).append({**run, "train": targets / run["seconds"]})
        for name, python, program in words.peer:
            found.setdefault(name, []).append(peer(folder, python, program))
    middle = {
        name: {key: statistics.median(run[key] for run in runs) for key in PEER if all(key in run for run in runs)}
        for name, runs in found.items()
    }
    print(f"{'':20}{'training, targets/s':>22}{'ranking, users/s':>20}{'validation NDCG@10':>22}")
    for name, values in middle.items():
        quality = f"{values['ndcg']:.4f}" if "ndcg" in values else ""
        print(f"{name:20}{values['train']:>22,.0f}{values['rank']:>20,.0f}{quality:>22}")
    large = step("million", str(words.items))
    figures: dict[str, float] = {
        "rank_million_items_peak_mb": large["peak_mb"],
        "rank_million_items_s": large["seconds"],
    }
    for kind, suffix in (("fp32", ""), ("bf16", "_bf16")):
        if kind in RUNS:
            figures["targets_per_second" + suffix] = round(middle[kind]["train"])
            figures["users_per_second" + suffix] = round(middle[kind]["rank"])
            figures["val_ndcg10" + suffix] = statistics.mean(run["ndcg"] for run in found[kind])
    for name, *_ in words.peer:
        for kind in RUNS:
            figures |= {f"{kind}_{key}_over_{name}": middle[kind][key] / middle[name][key] for key in ("train", "rank")}
    figures = {name: round(value, 4) for name, value in figures.items()}
    for name, value in figures.items():
        print(f"{name:40}{value:>14,}   {TARGETS.get(name, '')}")
    print(json.dumps(figures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--peer", nargs=3, action="append", default=[], metavar=("NAME", "PYTHON", "PROGRAM"))
    parser.add_argument("--step", nargs=2, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.step:
        print(json.dumps({"rank": rank, "million": million}[words.step[0]](words.step[1])))
        return
    if not words.root:
        parser.error("ROOT is missing")
    os.environ["OMP_NUM_THREADS"] = str(words.threads)
    with tempfile.TemporaryDirectory() as folder:
        measure(words, Path(folder))


if __name__ == "__main__":
    main()
