"""Text files of others as a CSV that is read here: MovieLens' ``u.data`` has no header, RecBole's names types."""

from __future__ import annotations

import csv
import io
import re
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa

from graftrec.data.sources import csv_reader, table_reader, timestamps
from graftrec.utils.errors import DataError

RECBOLE = re.compile(r"(.+):(token|float|token_seq|float_seq)")
SAMPLE = 8 << 20  # bytes that are guessed from
TEXT = (*table_reader.CSV, ".data", ".dat", ".inter")
MOVIELENS = ("user_id", "item_id", "rating", "timestamp")


class Copy(NamedTuple):
    """A file as a CSV with a header: ``names`` of the columns; ``headed``: its first line is one and is replaced."""

    source: str
    delimiter: str
    names: tuple[str, ...]
    headed: bool

    def frame(self) -> pl.DataFrame:
        """The first rows, each value as text.

        Raises:
            DataError: rows with too many or too few fields, another encoding; of the file as the CSV that it becomes.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "first.csv"
            self.write(path, SAMPLE)
            try:
                return next(iter(table_reader.batches(str(path), []))).frame
            except DataError as error:
                raise DataError(error.code, error.message.replace(str(path), f"{self.source} as CSV")) from None

    def write(self, path: Path, most: int = 0) -> None:
        """Write the header and the lines, byte by byte as they are; of them at most ``most`` bytes, if given."""
        header = io.StringIO()
        csv.writer(header, delimiter=self.delimiter, lineterminator="\n").writerow(self.names)
        with _opened(self.source) as source, path.open("wb") as file:
            start = bytes(source.read(csv_reader.CHUNK)).removeprefix(csv_reader.MARK)
            file.write(header.getvalue().encode())
            if most:
                start = start[: start.rfind(b"\n") + 1] or start
            file.write(start[start.find(b"\n") + 1 :] if self.headed else start)
            while not most and (block := source.read(csv_reader.CHUNK)):
                file.write(block)


def copy_of(path: str) -> Copy | None:
    """What to make of a file that has no header, or one of RecBole's; None of what is read as it is."""
    name = path
    for ending in table_reader.PACKED:
        name = name.removesuffix(ending)
    if not name.endswith(TEXT) or not Path(path).is_file():
        return None
    with _opened(path) as source:
        lines = bytes(source.read(1 << 16)).removeprefix(csv_reader.MARK).decode("utf-8", "replace").splitlines()[:100]
    if not lines:
        return None
    delimiter = max(csv_reader.DELIMITERS, key=lines[0].count)
    first, *_ = rows = list(csv.reader(lines, delimiter=delimiter))
    typed = [RECBOLE.fullmatch(column) for column in first]
    if all(typed):
        return Copy(path, delimiter, tuple(match[1] for match in typed if match), True)
    numbers = [column for column in first if re.fullmatch(r"\s*[+-]?\d+(\.\d*)?\s*", column)]
    if 2 * len(numbers) <= len(first) or first == [str(at) for at in range(len(first))]:  # as pandas counts columns
        return None if name.endswith(table_reader.CSV) else Copy(path, delimiter, tuple(first), True)
    return Copy(path, delimiter, _names(rows), False)


def _names(rows: list[list[str]]) -> tuple[str, ...]:
    """MovieLens' names where the columns are as there, user, item, rating and time; else the columns are counted."""
    whole = rows[:-1] or rows  # the last one may be cut off
    if all(len(row) == len(MOVIELENS) for row in whole):
        rating, seconds = (pl.Series([row[at] for row in whole]).cast(pl.Float64, strict=False) for at in (2, 3))
        if not (rating.has_nulls() or seconds.has_nulls()) and rating.is_between(0, 10).all():
            ours = timestamps.plausible(float(seconds.min()), float(seconds.max()))
            return MOVIELENS if ours else _counted(rows[0])
    return _counted(rows[0])


def _counted(row: list[str]) -> tuple[str, ...]:
    return tuple(f"column_{at + 1}" for at in range(len(row)))


def _opened(path: str) -> Any:
    return pa.input_stream(path, compression="detect")
