"""Does MMoE's lead over a shared bottom of the same size grow as two tasks get less alike?

    python scripts/mmoe_synthetic.py FOLDER [SEED ...]

`experiment=mmoe_synthetic` (J. Ma et al., KDD 2018, section 3.2) for 4 correlations, both trunks and 10 seeds, 80 runs
of about 5 s on one core. Both trunks hand their tasks two numbers, so sharing has a price: with the wide representation
of a single layer, 128 units, a shared bottom holds both tasks side by side, and MMoE's lead had no slope (20 seeds:
+.0017 [-.0012, +.0047] in MSE). A seed draws the data and the weights; runs of a seed share x, the noise and the labels
of y1. The lead is the shared bottom's test MSE minus MMoE's, means over both tasks; the slope is each seed's
least-squares line of the lead over the correlation, with a 95 % t interval over seeds. Every run leaves a file in
FOLDER, and is not repeated. Settings were chosen on seeds 0 to 19, so the table is made of seeds 20 to 29.
"""

from __future__ import annotations

import io
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from hydra import compose, initialize_config_dir
from rich.console import Console

from graftrec.config import instantiate
from graftrec.evaluation.statistics.intervals import t_quantile
from graftrec.training.builder import prepare
from graftrec.training.callbacks.progress import PhaseProgress
from graftrec.training.fit import run_plan
from graftrec.utils.atomic_files import whole, write_text

CORRELATIONS = (0.0, 0.5, 0.9, 1.0)
SEEDS = range(20, 30)
TASKS = ("y1", "y2")
DIMENSION, EXPERTS, EXPERT, SHARED = 100, 8, 16, 2
PLOT = Path(__file__).parents[1] / "notebooks/mmoe_synthetic.png"


def width_of_bottom() -> int:
    """The least width that gives the shared bottom no fewer parameters than MMoE with its gates; towers are alike."""
    expert = (DIMENSION + 1) * EXPERT + (EXPERT + 1) * SHARED
    mixture = EXPERTS * expert + len(TASKS) * (DIMENSION + 1) * EXPERTS
    return math.ceil((mixture - SHARED) / (DIMENSION + 1 + SHARED))


TRUNKS = {
    "shared_bottom": [f"trunk.hidden=[{width_of_bottom()},{SHARED}]", "++trunk.dropout=0.0"],
    "mmoe": [f"trunk.hidden=[{EXPERT},{SHARED}]", f"++trunk.experts={EXPERTS}"],
}


def run(trunk: str, correlation: float, seed: int) -> dict[str, Any]:
    """Train once; the test MSE (mean over tasks) and the number of parameters."""
    data = [f"++dataset.correlation={correlation}", f"++dataset.seed={seed}", f"seed={seed}"]
    with initialize_config_dir(str(instantiate.conf_dir()), version_base="1.3"):
        tree = instantiate.plain(
            compose("train", ["experiment=mmoe_synthetic", f"trunk={trunk}", *TRUNKS[trunk], *data])
        )
    instantiate.drop_orphans(tree)
    protocol, _ = prepare(tree)
    silent = Console(file=io.StringIO())
    with tempfile.TemporaryDirectory() as folder:
        plan = instantiate.build(tree["transfer"]).phases()
        arm = run_plan(tree, protocol, plan, Path(folder), [], lambda name: PhaseProgress(name, silent))
    mse = float(np.mean([float(arm.test[task]["rmse"].value or math.nan) ** 2 for task in TASKS]))
    return {"mse": mse, "parameters": arm.parameters}


def collect(folder: Path, seeds: list[int]) -> dict[str, np.ndarray]:
    """Trunk -> MSE (seeds, correlations); what is not in ``folder`` yet is run."""
    found = {trunk: np.empty((len(seeds), len(CORRELATIONS))) for trunk in TRUNKS}
    for row, seed in enumerate(seeds):
        for column, correlation in enumerate(CORRELATIONS):
            for trunk, values in found.items():
                path = folder / f"{trunk}_{correlation}_{seed}.json"
                if not path.is_file():
                    write_text(path, json.dumps(run(trunk, correlation, seed)) + "\n")
                values[row, column] = json.loads(path.read_text())["mse"]
        leads = (found["shared_bottom"] - found["mmoe"])[row]
        print(f"seed {seed}: lead {' '.join(f'{lead:+.4f}' for lead in leads)}", flush=True)
    return found


def interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean of (n,) or (n, k) over n seeds, and the ends of its 95 % t interval."""
    half = t_quantile(0.975, len(values) - 1) * values.std(0, ddof=1) / math.sqrt(len(values))
    return values.mean(0), values.mean(0) - half, values.mean(0) + half


def plot(found: dict[str, np.ndarray], title: str) -> None:
    """MSE of both trunks on the left, the lead on the right, with 95 % intervals."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    at = np.array(CORRELATIONS)
    for place, (trunk, values) in enumerate(found.items()):
        mean, low, high = interval(values)
        left.errorbar(at + 0.01 * place, mean, [mean - low, high - mean], fmt="o-", capsize=3, label=trunk)
    left.set(xlabel="cosine of the tasks' weights", ylabel="test MSE (noise: 0.01)", ylim=(0, None))
    figure.legend(loc="outside lower left", ncols=2)
    leads = found["shared_bottom"] - found["mmoe"]
    mean, low, high = interval(leads)
    right.plot(at, leads.T, color="0.85", linewidth=1)
    right.errorbar(at, mean, [mean - low, high - mean], fmt="o-", color="C2", capsize=3)
    right.axhline(0, color="0.5", linewidth=0.8)
    right.set(xlabel="cosine of the tasks' weights", ylabel="lead of MMoE (MSE)", title=title)
    with whole(PLOT) as draft:
        figure.savefig(draft, dpi=110, format="png")


def main() -> None:
    """Run what is missing, print the table, draw the plot."""
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    seeds = [int(word) for word in sys.argv[2:]] or list(SEEDS)
    instantiate.register_resolvers()
    found = collect(folder, seeds)
    if len(seeds) < 2:
        return
    print(f"\n| correlation | {' | '.join(f'{c:g}' for c in CORRELATIONS)} | parameters |\n|{'---|' * 6}")
    for trunk, values in found.items():
        count = json.loads((folder / f"{trunk}_{CORRELATIONS[0]}_{seeds[0]}.json").read_text())["parameters"]["trunk"]
        print(f"| {trunk} MSE | {' | '.join(f'{v:.4f}' for v in values.mean(0))} | {count:,} |")
    leads = found["shared_bottom"] - found["mmoe"]
    cells = [f"{m:+.4f} [{low:+.4f}, {high:+.4f}]" for m, low, high in zip(*interval(leads), strict=True)]
    print(f"| lead of mmoe | {' | '.join(cells)} | |")
    for name, values in (("MSE", leads), ("share of the MSE", leads / found["shared_bottom"])):
        mean, low, high = interval(np.polyfit(CORRELATIONS, values.T, 1)[0])
        print(f"slope of the lead ({name}): {mean:+.4f} [{low:+.4f}, {high:+.4f}], {len(seeds)} seeds")
        if name == "MSE":
            plot(found, f"slope {mean:+.4f} [{low:+.4f}, {high:+.4f}]")


if __name__ == "__main__":
    main()
