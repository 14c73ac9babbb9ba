"""``graftrec predict``: write the recommendations of a trained run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from graftrec.csv_safe import guarded
from graftrec.errors import DataError, UserError
from graftrec.files import whole
from graftrec.recommender import Recommender
from graftrec.report.screen import screen

FORMATS = (".parquet", ".csv")


def main(tree: Mapping[str, Any]) -> int:
    """Write user, item, score, rank for all users of a run or for those that are given."""
    out = Path(tree["out"] or Path(tree["run"]) / "predictions.parquet")
    problems = [f"k: should be at least 1, found {tree['k']}"] if int(tree["k"]) < 1 else []
    if out.suffix not in FORMATS:
        problems.append(f"out: {out} should end with {' or '.join(FORMATS)}")
    if tree["at"] not in ("test", "val", "latest"):
        problems.append(f"at: should be test, val or latest, found {tree['at']}")
    if not Path(tree["run"]).is_dir():
        problems.append(f"run: there is no folder {tree['run']}")
    if problems:
        raise UserError(problems)
    recommender = Recommender.load(tree["run"], tree["target_task"])
    users = _users(tree["users"], recommender, tree["at"])
    frame = recommender.recommend(users, int(tree["k"]), tree["seen"], tree["at"])
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole(out) as draft:
        if out.suffix == ".parquet":
            frame.write_parquet(draft)
        else:
            (frame if tree["formulas"] else guarded(frame)).write_csv(draft)
    screen().print(f"{len(frame):,} rows for {len(users):,} users in {out}")
    return 0


def _users(given: Any, recommender: Recommender, at: Any) -> list[Any]:
    """All users of the evaluation, a list of ids, or the ids in a text file, one a line."""
    if given is None:
        return recommender.users(at)
    if isinstance(given, list):
        return given
    if Path(str(given)).suffix in (".txt", ".csv"):
        if not Path(str(given)).is_file():
            raise DataError("DATA-011", f"users: there is no file {given}")
        return pl.read_csv(given, has_header=False, new_columns=["user"], infer_schema=False)["user"].to_list()
    return [given]
