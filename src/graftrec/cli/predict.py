"""``graftrec predict``: write the recommendations of a trained run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graftrec.config.instantiate import problems_of_tree
from graftrec.data.sources.table_reader import CSV, PACKED, PARQUET, read, words
from graftrec.runs.recommender import Recommender
from graftrec.utils.atomic_files import whole, writing
from graftrec.utils.csv_safety import guarded
from graftrec.utils.errors import DataError, UserError
from graftrec.utils.terminal_text import say

SHOWN = 5  # strangers that are named


def main(tree: Mapping[str, Any]) -> int:
    """Write user, item, score, rank and known for all users of a run or for those that are given."""
    if problems := problems_of_tree(tree):
        raise UserError(problems)
    out = Path(tree["out"] or Path(tree["run"]) / "predictions.parquet")
    if out.is_dir():
        raise UserError(f"out: {out} is a folder; name a file")
    given = _users(tree["users"])
    with writing(out.parent, "name another file with out"):
        recommender = Recommender.load(tree["run"], tree["target_task"])
        users = recommender.users(tree["at"]) if given is None else given
        frame = recommender.recommend(users, tree["k"], tree["seen"], tree["at"])
        with whole(out) as draft:
            if out.suffix == ".parquet":
                frame.write_parquet(draft)
            else:
                (frame if tree["formulas"] else guarded(frame)).write_csv(draft)
    say(f"{len(frame):,} rows for {len(users):,} users in {out}")
    if strangers := recommender.strangers(users):
        more = ", ..." if len(strangers) > SHOWN else ""
        named = ", ".join(map(str, strangers[:SHOWN])) + more
        say(f"{len(strangers):,} of them are unknown to the run ({named}): they get what everybody gets")
    return 0


def _users(given: Any) -> list[Any] | None:
    """Ids that are typed, or those in a file: one a line of a plain .txt, else in its column ``user``.

    Raises:
        UserError: a file without such a column. DataError: no file, one that is damaged, or without an id.
    """
    if given is None or isinstance(given, list):
        return given
    name = str(given)
    endings = tuple(kind + packed for kind in CSV for packed in ("", *PACKED)) + PARQUET
    if not name.endswith(endings):
        return [given]
    ids = _lines(Path(name)) if name.endswith(".txt") else words(read(name, ["user"]), "user").drop_nulls().to_list()
    if not ids:
        raise DataError("DATA-010", f"users: there is no id in {name}")
    return ids


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError("DATA-011", f"users: there is no file {path}") from error
    except (OSError, ValueError) as error:
        raise DataError("DATA-012", f"users: {path} cannot be read as text in UTF-8: {error}") from error
    return [line.strip() for line in text.splitlines() if line.strip() not in ("", "user")]
