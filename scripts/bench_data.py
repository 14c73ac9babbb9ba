"""How fast and in how much memory files become batches: figures beside their targets, on one or two cores.

    python scripts/bench_data.py [--rows 10000000] [--keep FOLDER]

Each figure is taken in a fresh process, so that a peak of memory is that step's own. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TARGETS = {
    "prepare_complete_journey_s": ("at most", 5.0),
    "prepare_ml1m_sized_s": ("at most", 3.0),
    "prepare_1e7_s": ("at most", 60.0),
    "peak_memory_mb": ("at most", 1536.0),
    "memory_growth": ("below", 10.0),
    "warm_start_s": ("at most", 1.0),
    "batch_rows_per_second": ("at least", 3e6),
}
WORDS = {
    "prepare_complete_journey_s": "Complete Journey, all households, prepared from parquet (s)",
    "prepare_ml1m_sized_s": "1,000,000 ratings of 6,000 users and 3,700 items prepared (s)",
    "prepare_1e7_s": "{rows:,} rows x 30 columns prepared from parquet (s)",
    "peak_memory_mb": "  its peak memory (MB)",
    "memory_growth": "  memory above the start: {rows:,} rows over a tenth of them (x)",
    "warm_start_s": "  a second start from the cache (s)",
    "batch_rows_per_second": "shuffled batches of 28 columns on one core (rows/s)",
}
IDS, NUMBERS = 19, 7  # with user, item, time and the label: 30 columns; 28 of them are a batch's


def main() -> None:
    """Run every step and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--keep", type=Path, help="folder of the generated files and of the cache (default: temporary)")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.step:
        print(json.dumps(STEPS[words.step](words.keep, words.rows)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = words.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        measure(folder, words.rows)


def measure(folder: Path, rows: int) -> None:
    """Each step in a process of its own."""
    few = max(1, rows // 10)
    for count in (rows, few):
        step(folder, "write", count)
    figures = step(folder, "complete_journey", rows) | step(folder, "ml1m_sized", rows)
    idle, small = step(folder, "idle", rows)["peak"], step(folder, "prepare", few)["peak"]
    whole = step(folder, "prepare", rows)
    figures |= {"prepare_1e7_s": whole["seconds"], "peak_memory_mb": whole["peak"]}
    figures["memory_growth"] = (whole["peak"] - idle) / max(1.0, small - idle)
    figures["warm_start_s"] = min(step(folder, "prepare", rows)["seconds"] for _ in range(2))
    figures |= step(folder, "batches", rows)
    print(f"{'':66}{'measured':>12}   target")
    for name, (words, target) in TARGETS.items():
        print(f"{WORDS[name].format(rows=rows):66}{figures[name]:>12,.2f}   {words} {target:,.0f}")
    tensors = figures["tensor_dataset_rows_per_second"]
    print(f"{'  a DataLoader over a TensorDataset, the same columns (rows/s)':66}{tensors:>12,.2f}")
    print(json.dumps(figures))


def step(folder: Path, name: str, rows: int) -> dict[str, float]:
    """What a step prints as its last line."""
    command = [sys.executable, __file__, "--step", name, "--keep", str(folder), "--rows", str(rows)]
    found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode:
        raise SystemExit(f"{name}: {found.stderr[-2000:]}")
    return dict(json.loads(found.stdout.splitlines()[-1]))


def write(folder: Path, rows: int) -> dict[str, float]:
    """A folder of parquet: users, items, times, ids of 10 to 1,000,000 values, numbers, a label."""
    import numpy as np
    import polars as pl

    target = folder / f"rows_{rows}"
    if target.exists():
        return {}
    draft = folder / f".rows_{rows}"
    draft.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    for part, low in enumerate(range(0, rows, 1_000_000)):
        count = min(1_000_000, rows - low)
        columns: dict[str, Any] = {
            "user": random.integers(0, 1_000_000, count),
            "item": random.integers(0, 100_000, count),
            "time": np.sort(random.integers(1_600_000_000 + low, 1_600_000_000 + low + 1_000_000, count)),
        }
        for number in range(IDS):
            size = int(10 ** (1 + 4 * number / (IDS - 1)))
            values = (size * random.random(count) ** 2).astype(np.int64)
            columns[f"id_{number}"] = pl.Series(values).cast(pl.String) if number % 4 == 0 else values
        for number in range(NUMBERS):
            columns[f"number_{number}"] = random.normal(size=count).astype(np.float32)
        columns["click"] = (random.random(count) < 0.1).astype(np.int8)
        pl.DataFrame(columns).write_parquet(draft / f"part_{part}.parquet")
    draft.rename(target)
    return {}


def protocol_of(folder: Path, rows: int) -> Any:
    """Cross-domain rows without histories, under a time split."""
    from graftrec.data.datasets.files import Files
    from graftrec.data.protocols.cross_domain import CrossDomain
    from graftrec.data.splits.temporal import ByTime
    from graftrec.data.streams.sampling_config import Candidates, History

    features: dict[str, str] = {f"id_{n}": "id" for n in range(IDS)} | {f"number_{n}": "number" for n in range(NUMBERS)}
    files = Files(
        str(folder / f"rows_{rows}"), user="user", item="item", time="time", features=features,
        labels={"click": "binary"}, cache=str(folder / "cache"),
    )  # fmt: skip
    return CrossDomain(files, ByTime(), History(0, 0), Candidates(), batch_size=8192)


def prepare(folder: Path, rows: int) -> dict[str, float]:
    """From the files, or from the cache, to the first batch; batches then read through maps, which come and go."""
    protocol = protocol_of(folder, rows)
    start = time.perf_counter()
    protocol.prepare(["rows"])
    most = peak()
    protocol.use(["rows"], ["rows"], 0)
    next(iter(protocol.train_dataloader()))
    return {"seconds": time.perf_counter() - start, "peak": most}


def idle(folder: Path, rows: int) -> dict[str, float]:
    """What the imports alone take."""
    protocol_of(folder, rows)
    return {"peak": peak()}


def peak() -> float:
    """MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def complete_journey(folder: Path, rows: int) -> dict[str, float]:
    """All streams of the whole dataset."""
    from graftrec.data.datasets.complete_journey import CompleteJourney
    from graftrec.data.protocols.long_short_term import LongShortTerm
    from graftrec.data.splits.temporal import ByTime
    from graftrec.data.streams.sampling_config import Candidates, History

    protocol = LongShortTerm(CompleteJourney(full=True), ByTime(), History(), Candidates())
    start = time.perf_counter()
    protocol.prepare([])
    return {"prepare_complete_journey_s": time.perf_counter() - start}


def ml1m_sized(folder: Path, rows: int) -> dict[str, float]:
    """Ratings with a label and histories, read from a CSV, under long_short_term."""
    import numpy as np
    import polars as pl

    from graftrec.data.datasets.files import Files
    from graftrec.data.protocols.long_short_term import LongShortTerm
    from graftrec.data.splits.temporal import ByTime
    from graftrec.data.streams.sampling_config import Candidates, History

    random, count = np.random.default_rng(0), 1_000_000
    path = folder / "ratings.csv"
    pl.DataFrame(
        {
            "user": (6_040 * random.random(count) ** 1.5).astype(np.int64),
            "item": (3_706 * random.random(count) ** 2).astype(np.int64),
            "rating": random.integers(1, 6, count),
            "time": random.integers(956_703_932, 1_046_454_590, count),
        }
    ).write_csv(path)
    dataset = Files(
        str(path), user="user", item="item", time="time", labels={"rating": "number"}, events={"rating": 4}, cache="off"
    )
    protocol = LongShortTerm(dataset, ByTime(), History(), Candidates())
    start = time.perf_counter()
    protocol.prepare(["baskets", "rows"])
    return {"prepare_ml1m_sized_s": time.perf_counter() - start}


def batches(folder: Path, rows: int) -> dict[str, float]:
    """Shuffled training batches on one thread, and a plain DataLoader over the same columns."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    torch.set_num_threads(1)
    few = max(1, rows // 10)
    protocol = protocol_of(folder, few)
    protocol.prepare(["rows"])
    best = 0.0
    for epoch in range(3):
        protocol.use(["rows"], ["rows"], epoch)
        start, seen, columns = time.perf_counter(), 0, 0
        for batch in protocol.train_dataloader():
            seen, columns = seen + len(batch["rows"]["user"]), len(batch["rows"]) - 1
        best = max(best, seen / (time.perf_counter() - start))
    if columns != IDS + NUMBERS + 2:
        raise SystemExit(f"a batch has {columns} columns and a label")
    whole = protocol.streams["rows"].batch(torch.arange(min(protocol.streams["rows"].rows, 200_000)), torch.Generator())
    loader = DataLoader(TensorDataset(*whole.values()), batch_size=8192, shuffle=True)
    start = time.perf_counter()
    count = sum(len(part[0]) for part in loader)
    return {
        "batch_rows_per_second": best,
        "tensor_dataset_rows_per_second": count / (time.perf_counter() - start),
    }


STEPS = {
    "write": write,
    "prepare": prepare,
    "idle": idle,
    "complete_journey": complete_journey,
    "ml1m_sized": ml1m_sized,
    "batches": batches,
}

if __name__ == "__main__":
    main()
