"""Training and evaluation against a bare torch loop and against peers.

    python scripts/bench_train.py [--rows 400000] [--repeats 5] [--peer NAME PYTHON PROGRAM]...

The work: 24 categorical columns (276,000 values), 4 numbers, binary labels; MMoE with 4 experts of 256-128, heads of
64, width 16, batch 2048, one pass over 80 % of the rows; then the other 20 % are evaluated. `graftrec train` runs as a
user would start it; the bare loop is a page of torch with the same layers and AdamW. A peer is a program of another
environment that reads ``work.parquet`` in its folder and prints ``= N rows/s eval M rows/s``. All run alternately in
processes of their own and the best counts, since machines are shared and noisy. The last line is one JSON object.
"""

import argparse
import dataclasses
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH, BATCH, LR = 16, 2048, 1e-3
CARDINALITY = [200_000, 50_000, *np.geomspace(4, 5000, 24).astype(int)[2:].tolist()]
IDS = [f"c{i}" for i in range(24)]
NUMBERS = [f"n{i}" for i in range(4)]
LABELS = ["click", "like"]
THIRD = "share"  # for what balancers cost with three tasks

FILES = {
    "dataset/work.yaml": f"""_target_: graftrec.data.datasets.files.Files
path: work.parquet
name: work
split: part
features: {{{", ".join([f"{name}: id" for name in IDS] + [f"{name}: number" for name in NUMBERS])}}}
labels: {{{", ".join(f"{name}: binary" for name in [*LABELS, THIRD])}}}
""",
    f"task/{THIRD}.yaml": f"""defaults:
  - /head@{THIRD}.head: mlp
  - /loss@{THIRD}.loss: bce
{THIRD}:
  _target_: graftrec.tasks.binary.Binary
  stream: rows
  column: {THIRD}
""",
}
COMMAND = [
    "train", "--config-dir", "conf", "dataset=work", "protocol=cross_domain", "split=official",
    f"protocol.batch_size={BATCH}", "trunk=mmoe", "trunk.experts=4",
    "trunk.hidden=[256,128]", "task@source=[like]", "task@target=[click]", "task@shared=[]", "twin=false",
    "baselines=false", "transfer.epochs=1", f"encoder.width={WIDTH}", "encoder.dropout=0.0", "encoder.id_dropout=0.0",
    "source.like.head.dropout=0.0", "target.click.head.dropout=0.0", "schedule=constant",
    f"optimizer.lr={LR}", "optimizer.weight_decay=0.0",
]  # fmt: skip
ROWWISE = ["optimizer=rowwise", "optimizer.table_lr=0.05"]
THREE = [f"task@source=[like,{THIRD}]", f"source.{THIRD}.head.dropout=0.0", *ROWWISE]
RUNS = {  # what graftrec is measured at
    "adamw": [],  # the rule of the bare loop
    "fp32": ROWWISE,
    "bf16": [*ROWWISE, "++trainer.precision=bf16-mixed"],
    "sum": THREE,
    "representation": [*THREE, "balancer=upgrad", "balancer.at=representation"],
    "trunk": [*THREE, "balancer=upgrad", "balancer.at=trunk"],
}
PEER = re.compile(r"= (\d+) rows/s eval (\d+) rows/s")


def make_work(rows: int, path: Path) -> None:
    """Rows with signal in every column, the same in every run."""
    random = np.random.default_rng(0)
    columns: dict[str, np.ndarray] = {}
    click, like = np.zeros(rows), np.zeros(rows)
    for name, size in zip(IDS, CARDINALITY, strict=True):
        value = (random.pareto(1.1, rows) * size / 50).astype(np.int64) % size
        columns[name] = value.astype(np.int32)
        effect = random.normal(0, 0.35, size)
        click += effect[value]
        like += (0.6 * effect + 0.8 * random.normal(0, 0.35, size))[value]
    for name in NUMBERS:
        value = random.normal(size=rows).astype(np.float32)
        columns[name] = value
        click += 0.2 * value
        like -= 0.1 * value
    for name, effect, shift in (("click", click, 1.5), ("like", like, 2.0), (THIRD, click + like, 2.5)):
        columns[name] = (random.random(rows) < 1 / (1 + np.exp(shift - effect))).astype(np.float32)
    part = pl.Series(np.arange(rows) / rows).cut([0.8, 0.801], labels=["train", "val", "test"]).cast(pl.String)
    pl.DataFrame(columns).with_columns(part.alias("part")).write_parquet(path)


class Bare(nn.Module):
    """The same layers, written out by hand for this one task: one table, all experts as one matrix product."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.table = nn.Embedding(sum(sizes), WIDTH)
        nn.init.normal_(self.table.weight, std=0.05)
        self.numbers = nn.Linear(len(NUMBERS), WIDTH)
        inputs = (len(sizes) + 1) * WIDTH
        self.first = nn.Linear(inputs, 4 * 256)
        self.second = nn.Parameter(torch.empty(4, 256, 128).uniform_(-1 / 16, 1 / 16))
        self.bias = nn.Parameter(torch.zeros(4, 1, 128))
        self.gates = nn.Linear(inputs, 2 * 4)
        self.hidden = nn.ModuleList(nn.Linear(128, 64) for _ in LABELS)
        self.out = nn.ModuleList(nn.Linear(64, 1) for _ in LABELS)

    def forward(self, ids: Tensor, numbers: Tensor) -> Tensor:
        x = torch.cat([self.table(ids).flatten(1), self.numbers(numbers)], 1)
        h = F.relu(self.first(x)).view(len(x), 4, 256).transpose(0, 1)
        h = F.relu(torch.baddbmm(self.bias, h, self.second))
        z = torch.bmm(self.gates(x).view(len(x), 2, 4).softmax(-1), h.transpose(0, 1))
        return torch.cat([self.out[t](F.relu(self.hidden[t](z[:, t]))) for t in range(2)], 1)


def bare(path: Path) -> dict[str, float]:
    """Train and evaluate the bare loop; seconds of each, AUC and number of parameters."""
    from graftrec.tasks.metrics.pointwise import binary

    frame = pl.read_parquet(path)
    rows = len(frame)
    train = rows * 8 // 10
    codes, sizes = [], []
    for name in IDS:  # as a vocabulary of the training rows, 0 unknown
        known = np.unique(frame[name][:train].to_numpy())
        place = np.searchsorted(known, frame[name].to_numpy()).clip(max=len(known) - 1)
        codes.append(np.where(known[place] == frame[name].to_numpy(), place + 1, 0))
        sizes.append(len(known) + 1)
    offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    ids = torch.from_numpy(np.stack(codes, 1) + offsets)
    numbers, labels = (frame.select(names).to_torch().float() for names in (NUMBERS, LABELS))
    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    model = Bare(sizes)
    optimizer = torch.optim.AdamW(model.parameters(), LR, weight_decay=0.0, fused=True)
    order = torch.randperm(train)
    start = time.perf_counter()
    for index in order.split(BATCH):
        loss = F.binary_cross_entropy_with_logits(model(ids[index], numbers[index]), labels[index], reduction="none")
        optimizer.zero_grad()
        loss.mean(0).sum().backward()
        optimizer.step()
    trained = time.perf_counter()
    model.eval()
    with torch.no_grad():
        logits = torch.cat([model(ids[i : i + 8192], numbers[i : i + 8192]) for i in range(train, rows, 8192)])
    found = [binary(logits[:, t].sigmoid(), labels[train:, t])["auc"].value for t in range(2)]
    evaluated = time.perf_counter()
    return {
        "train": trained - start, "eval": evaluated - trained, "auc": float(found[0] or 0),
        "parameters": sum(p.numel() for p in model.parameters()), "rows": train, "eval_rows": rows - train,
    }  # fmt: skip


def framework(folder: Path, name: str, settings: list[str]) -> dict[str, float]:
    """`graftrec train` in a process of its own; what its metrics.json says."""
    out = folder / f"{name}_{time.time_ns()}"
    done = subprocess.run(
        [sys.executable, "-m", "graftrec", *COMMAND, *settings, f"hydra.run.dir={out}"],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{' '.join(settings)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    metrics = json.loads((out / "metrics.json").read_text())
    return {
        "train": metrics["fit"]["seconds"], "eval": metrics["fit"]["evaluation"]["seconds"],
        "auc": metrics["test"]["click"]["auc"], "parameters": metrics["fit"]["parameters"],
    }  # fmt: skip


def peer(folder: Path, python: str, program: str, rows: tuple[int, int]) -> dict[str, float]:
    """A peer's program, in seconds."""
    done = subprocess.run([python, program], cwd=folder, capture_output=True, text=True)
    found = PEER.search(done.stdout)
    if done.returncode or not found:
        raise SystemExit(f"{program}: {done.stdout[-1000:]}{done.stderr[-2000:]}")
    return {"train": rows[0] / int(found[1]), "eval": rows[1] / int(found[2])}


def vocabulary(folder: Path) -> dict[str, float]:
    """Seconds of training with a vocabulary ten times as large over seconds with the one there is, the same rows."""
    import yaml
    from rich.console import Console

    from graftrec.training.builder import protocol_of, streams_of
    from graftrec.training.callbacks.progress import PhaseProgress
    from graftrec.training.fit import run_plan
    from graftrec.transfer.base import Phase

    run = next(folder.glob("fp32_*"))
    tree = yaml.safe_load((run / "config.yaml").read_text())
    tree["dataset"]["path"] = str(folder / "work.parquet")
    found: dict[int, list[float]] = {1: [], 10: []}
    for number in range(6):
        times = (1, 10)[number % 2]
        protocol = protocol_of(tree)
        protocol.prepare(streams_of(tree))
        for name, table in protocol.tables.items():
            protocol.tables[name] = dataclasses.replace(table, size=times * table.size)
        protocol.streams["rows"]._entity *= times  # every id of every row, as if nine others lay between
        out = folder / f"vocabulary_{number}"
        plan = [Phase("joint", ("source", "target"), 1)]
        arm = run_plan(tree, protocol, plan, out, [], lambda name: PhaseProgress(name, Console(quiet=True)))
        found[times].append(arm.seconds)
    return {"ratio": min(found[10]) / min(found[1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peer", nargs=3, action="append", default=[], metavar=("NAME", "PYTHON", "PROGRAM"))
    parser.add_argument("--step", nargs=2, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.step:
        print(json.dumps({"bare": bare, "vocabulary": vocabulary}[words.step[0]](Path(words.step[1]))))
        return
    with tempfile.TemporaryDirectory() as name:
        measure(Path(name), words.rows, words.repeats, words.peer)


def step(name: str, path: Path) -> dict[str, float]:
    """One measurement in a process of its own."""
    call = [sys.executable, __file__, "--step", name, str(path)]
    done = subprocess.run(call, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(folder: Path, rows: int, repeats: int, peers: list[list[str]]) -> None:
    """Everything in turn, then the table and the JSON line."""
    for path, text in FILES.items():
        (folder / "conf" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "conf" / path).write_text(text)
    make_work(rows, folder / "work.parquet")
    train = rows * 8 // 10
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(repeats):
        found.setdefault("bare", []).append(step("bare", folder / "work.parquet"))
        for name, settings in RUNS.items():
            found.setdefault(name, []).append(framework(folder, name, settings))
        for name, python, program in peers:
            found.setdefault(name, []).append(peer(folder, python, str(Path(program).resolve()), (train, rows - train)))
    best = {name: {key: min(run[key] for run in runs) for key in ("train", "eval")} for name, runs in found.items()}
    speed = {name: (train / best[name]["train"], (rows - train) / best[name]["eval"]) for name in best}
    print(f"{'':24}{'training, rows/s':>18}{'evaluation, rows/s':>20}{'AUC of click':>14}")
    for name in ["bare", "adamw", "fp32", "bf16", *(name for name, _, _ in peers)]:
        auc = found[name][0].get("auc")
        print(f"{name:24}{speed[name][0]:>18,.0f}{speed[name][1]:>20,.0f}{'' if auc is None else f'{auc:.4f}':>14}")
    figures = {
        "rows_per_second": round(speed["fp32"][0]),
        "eval_rows_per_second": round(speed["fp32"][1]),
        "rows_per_second_bf16": round(speed["bf16"][0]),
        "eval_rows_per_second_bf16": round(speed["bf16"][1]),
        "train_time_over_bare": best["adamw"]["train"] / best["bare"]["train"],
        "eval_time_over_bare": best["adamw"]["eval"] / best["bare"]["eval"],
        "auc": found["fp32"][0]["auc"],
        "auc_bf16": found["bf16"][0]["auc"],
        "step_time_vocabulary_x10": step("vocabulary", folder)["ratio"],
        "gramian_representation_over_sum": best["representation"]["train"] / best["sum"]["train"],
        "gramian_trunk_over_sum": best["trunk"]["train"] / best["sum"]["train"],
    }
    for name, _, _ in peers:
        for kind in ("fp32", "bf16"):
            figures[f"{kind}_train_over_{name}"] = speed[kind][0] / speed[name][0]
            figures[f"{kind}_eval_over_{name}"] = speed[kind][1] / speed[name][1]
    figures = {name: round(value, 4) for name, value in figures.items()}
    for name, value in figures.items():
        print(f"{name:40}{value:>14,}   {TARGETS.get(name, '')}")
    print(json.dumps(figures))


TARGETS = {
    "train_time_over_bare": "at most 1.15",
    "eval_time_over_bare": "at most 1.15",
    "step_time_vocabulary_x10": "at most 1.2",
    "gramian_representation_over_sum": "at most 1.3",
    "gramian_trunk_over_sum": "at most 2",
    "fp32_train_over_torch-rechub": "at least 2",
    "fp32_eval_over_torch-rechub": "at least 2.4",
    "bf16_train_over_torch-rechub": "at least 2.5",
    "bf16_eval_over_torch-rechub": "at least 4",
}

if __name__ == "__main__":
    main()
