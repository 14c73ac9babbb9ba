"""Gradient-boosted trees on the rows of the tabular experiments: what multi-task networks are held against.

    python scripts/baseline_gbdt.py FOLDER

FOLDER holds ``uci-adult`` and ``census-income-kdd``; needs the extra ``gbdt``.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from graftrec.data.datasets.adult import Adult
from graftrec.data.datasets.base import Dataset
from graftrec.data.datasets.census import Census
from graftrec.data.protocols.cross_domain import CrossDomain
from graftrec.data.splits.base import Split
from graftrec.data.splits.predefined import Official
from graftrec.data.splits.random_split import AtRandom
from graftrec.data.streams.rows import TableRows
from graftrec.evaluation.baselines.gbdt import gbdt
from graftrec.tasks.metrics.pointwise import binary


def rows(name: str, dataset: Dataset, split: Split) -> None:
    """A line for each label: test AUC and log loss, rows, seconds."""
    protocol = CrossDomain(dataset, split)
    protocol.prepare(["rows"])
    stream = protocol.streams["rows"]
    if not isinstance(stream, TableRows):
        raise TypeError(name)
    for label in stream.schema.labels:
        start = time.monotonic()
        said = gbdt(stream, label, lambda batch, column=label.name: batch[column])  # type: ignore[misc]
        if isinstance(said, str):
            raise SystemExit(said)
        found = binary(said, torch.cat([batch[label.name] for batch in stream.evaluation("test")]))
        if found["auc"].value is None or found["log_loss"].value is None:
            raise SystemExit(found["auc"].reason)
        seen, judged = stream.splits["train"] + stream.splits["val"], stream.splits["test"]
        print(
            f"| {name} {label.name} | {found['auc'].value:.4f} | {found['log_loss'].value:.4f} "
            f"| {seen:,} | {judged:,} | {time.monotonic() - start:.1f} |",
            flush=True,
        )


def main() -> None:
    """Print the table."""
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    folder = Path(sys.argv[1])
    print("| label | AUC | log loss | rows seen | test rows | s |\n|---|---|---|---|---|---|")
    rows("adult", Adult(str(folder / "uci-adult")), Official())
    rows("census", Census(str(folder / "census-income-kdd")), AtRandom())


if __name__ == "__main__":
    main()
