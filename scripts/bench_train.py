"""Training and evaluation against a bare torch loop: `python scripts/bench_train.py [rows] [repeats]`.

The work: 24 categorical columns (276,000 values), 4 numbers, two binary labels; MMoE with 4 experts of 256-128, two
heads of 64, width 16, batch 2048, Adam on all parameters, one pass over 80 % of the rows; then the other 20 % are
evaluated. `graftrec train` runs as a user would start it; the bare loop is a page of torch with the same layers. Both
run alternately in processes of their own and the best of five counts, since machines are shared and noisy.
"""

import json
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

FILES = {
    "dataset/work.yaml": f"""_target_: graftrec.data.datasets.files.Files
path: work.parquet
name: work
split: part
features: {{{", ".join([f"{name}: id" for name in IDS] + [f"{name}: number" for name in NUMBERS])}}}
labels: {{{", ".join(f"{name}: binary" for name in LABELS)}}}
""",
}
COMMAND = [
    "train", "--config-dir", "conf", "dataset=work", "protocol=cross_domain", "split=official",
    f"protocol.batch_size={BATCH}", "trunk=mmoe", "trunk.experts=4",
    "trunk.hidden=[256,128]", "task@source=[like]", "task@target=[click]", "task@shared=[]", "twin=false",
    "transfer.epochs=1", f"encoder.width={WIDTH}", "encoder.dropout=0.0", "encoder.id_dropout=0.0",
    "source.like.head.dropout=0.0", "target.click.head.dropout=0.0", "schedule=constant",
    f"optimizer.lr={LR}", "optimizer.weight_decay=0.0",
]  # fmt: skip


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
    for name, effect, shift in (("click", click, 1.5), ("like", like, 2.0)):
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
    from graftrec.metrics.pointwise import binary

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


def framework(folder: Path) -> dict[str, float]:
    """`graftrec train` in a process of its own; what its metrics.json says."""
    out = folder / f"run_{time.time_ns()}"
    subprocess.run(
        [sys.executable, "-m", "graftrec", *COMMAND, f"hydra.run.dir={out}"],
        cwd=folder, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    metrics = json.loads((out / "metrics.json").read_text())
    return {
        "train": metrics["fit"]["seconds"], "eval": metrics["fit"]["evaluation"]["seconds"],
        "auc": metrics["test"]["click"]["auc"], "parameters": metrics["fit"]["parameters"],
    }  # fmt: skip


def main() -> None:
    rows, repeats = ([int(word) for word in sys.argv[1:]] + [400_000, 5][len(sys.argv) - 1 :])[:2]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path, text in FILES.items():
            (folder / "conf" / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / "conf" / path).write_text(text)
        make_work(rows, folder / "work.parquet")
        ours, theirs = [], []
        for _ in range(repeats):
            call = [sys.executable, __file__, "--bare", str(folder / "work.parquet")]
            theirs.append(json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout))
            ours.append(framework(folder))
    best = {key: min(run[key] for run in ours) for key in ("train", "eval")}
    base = {key: min(run[key] for run in theirs) for key in ("train", "eval")}
    figures = {
        "rows_per_second": round(theirs[0]["rows"] / best["train"]),
        "eval_rows_per_second": round(theirs[0]["eval_rows"] / best["eval"]),
        "train_time_over_bare": round(best["train"] / base["train"], 3),
        "eval_time_over_bare": round(best["eval"] / base["eval"], 3),
        "auc": round(ours[0]["auc"], 4),
    }
    beside = {
        "rows_per_second": f"bare {theirs[0]['rows'] / base['train']:,.0f}",
        "eval_rows_per_second": f"bare {theirs[0]['eval_rows'] / base['eval']:,.0f}",
        "train_time_over_bare": "at most 1.15",
        "eval_time_over_bare": "at most 1.15",
        "auc": f"bare {theirs[0]['auc']:.4f}",
    }
    for key, value in figures.items():
        print(f"{key:24} {value:>12,}   {beside[key]}")
    print(f"{'parameters':24} {ours[0]['parameters']:>12,.0f}   bare {theirs[0]['parameters']:,.0f}")
    print(json.dumps(figures))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--bare"]:
        print(json.dumps(bare(Path(sys.argv[2]))))
    else:
        main()
