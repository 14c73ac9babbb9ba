"""CiteULike: papers that researchers keep, with tags."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import polars as pl

from graftrec.data.datasets.folder import Folder
from graftrec.data.tables.builder import interactions
from graftrec.data.tables.interactions import Column, Interactions
from graftrec.utils.atomic_files import whole

SplitOf = Literal["cmn", "cvae_p1", "cvae_p10"]


class CiteULike(Folder):
    """204,986 papers in the libraries of 5,551 users, 16,980 papers with tags (citeulike-a: research use).

    No label and no time: a row says that a user keeps a paper. The split is a published one, without validation, which
    ``split=official`` draws from the training rows: of CMN, one test paper a user with 100 that compete (see
    `write_cmn_lists`); of CVAE, 1 or 10 training papers a user, the others test. Citations and texts are left out.

    Args:
        root: folder of ``items.parquet``, ``tags.parquet`` and the files of the split. split_of: whose split.
    """

    origin = "https://github.com/js05212/citeulike-a, splits of CollaborativeMemoryNetwork and CVAE (research use)"

    def __init__(self, root: str, split_of: SplitOf = "cmn") -> None:
        super().__init__(root)
        if split_of not in get_args(SplitOf):
            raise ValueError(f"split_of should be one of {', '.join(get_args(SplitOf))}. Found {split_of}.")
        self.split_of = split_of

    def read(self) -> Interactions:
        if self.split_of == "cmn":
            parts = [self.frame("cmn_split_train.parquet", ["user", "item"])]
            parts += [self.frame("cmn_split_test.parquet", ["user", "pos"]).rename({"pos": "item"})]
        else:
            name = f"cvae_split_{self.split_of.removeprefix('cvae_').upper()}"
            lists = [self.frame(f"{name}_{part}.parquet", ["user"], ["items"]) for part in ("train", "test")]
            parts = [part.explode("items").drop_nulls("items").rename({"items": "item"}) for part in lists]
        rows = [part.with_columns(pl.lit(number).alias("split")) for part, number in zip(parts, (0, 2), strict=True)]
        words = self.frame("tags.parquet", ["tag", "text"])
        tags = self.frame("items.parquet", ["item"], ["tags"]).explode("tags")
        tags = tags.join(
            words, left_on=pl.col("tags").cast(pl.Int64), right_on="tag", how="left", maintain_order="left"
        )
        return interactions(
            f"citeulike_{self.split_of}",
            pl.concat(rows),
            items=tags.group_by("item", maintain_order=True).agg(pl.col("text").drop_nulls().alias("tags")),
            item_columns={"tags": Column("ids")},
            unique=True,
        )


def write_cmn_lists(root: str, out: str) -> str:
    """Write what CMN ranks, for ``candidates.lists``: each user's test paper and 100 others; returns ``out``.

    Set ``candidates.min_users=0`` as well: some of the others are in no training row. 1,115 of the 555,100 others are
    papers that their user keeps already; the published tables rank them all the same.
    """
    found = CiteULike(root).frame("cmn_split_test.parquet", ["user", "pos"], ["negatives"])
    lists = found.select("user", pl.concat_list("pos", "negatives").alias("item"), pl.lit("test").alias("split"))
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    with whole(Path(out)) as draft:
        lists.explode("item").write_parquet(draft)
    return out
