"""A folder of Parquet files: what the ready-made datasets have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from graftrec.data.datasets.base import Dataset
from graftrec.data.sources import table_reader
from graftrec.utils.errors import DataError


class Folder(Dataset):
    """Files of known names and columns in one folder.

    Attributes:
        get: what ``graftrec data get`` calls the dataset, if it knows it.

    Args:
        root: the folder, relative to the caller's.
    """

    get: str = ""

    def __init__(self, root: str) -> None:
        self.root = root

    def path(self, file: str) -> str:
        """Where a file is.

        Raises:
            DataError: it is not there.
        """
        path = Path(self.root).expanduser() / file
        if not path.is_file():
            how = f"; get it with: graftrec data get {self.get} --root {self.root}" if self.get else ""
            raise DataError(
                "DATA-011",
                f"{path}: there is no such file; dataset.root should be a folder with the files of {self.origin}{how}",
            )
        return str(path)

    def frame(self, file: str, columns: Sequence[str] = (), lists: Sequence[str] = ()) -> pl.DataFrame:
        """Some columns of a file, or all; those that hold a list a row are named in ``lists`` only.

        Raises:
            DataError: it is not there, or damaged. UserError: it lacks a column.
        """
        return table_reader.read(self.path(file), list(columns), list(lists)).frame


def days(seconds: str) -> pl.Expr:
    """Days since 1970 from a column of seconds."""
    return (pl.col(seconds).cast(pl.Float64) / 86_400.0).alias("time")


def year_of(title: str) -> pl.Expr:
    """The year at the end of titles such as ``Toy Story (1995)``, null where there is none."""
    return pl.col(title).str.extract(r"\((\d{4})\)\s*$").cast(pl.Float32).alias("year")


def at_least(column: str, least: float, name: str) -> pl.Expr:
    """1 where a column reaches ``least``, 0 where not, null where it is missing."""
    return (pl.col(column) >= least).cast(pl.UInt8).alias(name)
