"""Popularity rows beside published ones: the proof that splits, catalogues and metrics are those of the tables.

    python scripts/popularity.py FOLDER

FOLDER holds ``s3rec-sequences`` and ``citeulike-a``; see the docstrings of the two datasets for where they come from.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from graftrec.data.datasets.citeulike import CiteULike, write_cmn_lists
from graftrec.data.datasets.sequences import Sequences
from graftrec.data.protocols.base import Protocol
from graftrec.data.protocols.cross_domain import CrossDomain
from graftrec.data.protocols.long_short_term import LongShortTerm
from graftrec.data.splits.leave_last_out import LeaveLastOut
from graftrec.data.splits.predefined import Official
from graftrec.data.streams.baskets import BasketRows
from graftrec.data.streams.sampling_config import Candidates
from graftrec.evaluation.baselines.rankers import Popularity
from graftrec.evaluation.baselines.scoring import score_ranker

PUBLISHED = {  # HR@10, NDCG@10
    "LastFM": (".0440", ".0203", "S3-Rec, CIKM 2020"),
    "Toys_and_Games": (".0113", ".0061", "S3-Rec"),
    "Beauty": (".0152", ".0068", "S3-Rec"),
    "citeulike CMN": (".2783", ".1535", "Ferrari Dacrema et al. 2019"),
}


def row(name: str, protocol: Protocol) -> None:
    """One line: what was counted, on training and validation rows, and what is published."""
    protocol.prepare(["baskets"])
    stream = protocol.streams["baskets"]
    if not isinstance(stream, BasketRows):
        raise TypeError(name)
    metrics = score_ranker(Popularity(), stream, 10).metrics
    found = [metrics[f"{metric}@10"].value or 0.0 for metric in ("hr", "ndcg")]
    hit, gain, where = PUBLISHED[name]
    print(f"{name:16} {found[0]:.4f}  {found[1]:.4f}    {hit}  {gain}  {where}", flush=True)


def main() -> None:
    """Print the table."""
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    folder = Path(sys.argv[1])
    print(f"{'':16} {'HR@10':6}  {'NDCG@10':9} published")
    for name in ("LastFM", "Toys_and_Games", "Beauty"):
        dataset = Sequences(str(folder / "s3rec-sequences"), name)  # type: ignore[arg-type]
        protocol = LongShortTerm(dataset, LeaveLastOut(), candidates=Candidates(min_users=0))
        row(name, protocol)
    with tempfile.TemporaryDirectory() as temporary:
        lists = write_cmn_lists(str(folder / "citeulike-a"), f"{temporary}/lists.parquet")
        candidates = Candidates(min_users=0, lists=lists)
        row("citeulike CMN", CrossDomain(CiteULike(str(folder / "citeulike-a"), "cmn"), Official(), None, candidates))


if __name__ == "__main__":
    main()
