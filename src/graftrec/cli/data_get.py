"""``graftrec data get NAME``: fetch a public dataset from where its authors publish it, check it and convert it."""

from __future__ import annotations

import difflib
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from graftrec.config.flags import COMMANDS
from graftrec.data.sources import converters
from graftrec.data.sources.download import Source, extract, fetch
from graftrec.utils.atomic_files import UNUSABLE, remove
from graftrec.utils.errors import UserError
from graftrec.utils.terminal_text import say


@dataclass(frozen=True)
class Offer:
    """A dataset that can be fetched. ``members`` of its one archive are unpacked; without any, the sources are it."""

    title: str
    sources: tuple[Source, ...]
    members: tuple[str, ...]
    convert: Callable[[Path, Path], list[Path]]  # (folder of the originals, folder to write to) -> what was written
    files: tuple[str, ...]  # what it writes
    licence: str
    page: str


_GROUPLENS = (
    "GroupLens: for research, not for commerce without permission; not to be passed on; to be cited as "
    "Harper and Konstan (2015), doi 10.1145/2827872, and no endorsement may be implied"
)
# Sums and sizes were found in github.com/tensorflow/datasets, in tensorflow_datasets/url_checksums: MovieLens in
# movielens.txt @ 1c076ac3c19c, Adult in adult.txt @ 2b472251f77f. Many other public loaders pin the same sums.
# Of Adult the single files rather than UCI's adult.zip: a zip may be packed anew, with another sum.
OFFERS = {
    "movielens": Offer(
        "MovieLens 100K: 100,000 ratings of 1,682 films by 943 users, 1997 to 1998",
        (
            Source(
                "https://files.grouplens.org/datasets/movielens/ml-100k.zip",
                "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
                4_924_029,
            ),
        ),
        ("ml-100k/u.data", "ml-100k/u.item", "ml-100k/u.user"),
        converters.movielens_100k,
        ("ratings.parquet", "items.parquet", "users.parquet"),
        _GROUPLENS,
        "https://grouplens.org/datasets/movielens/100k/",
    ),
    "movielens_1m": Offer(
        "MovieLens 1M: 1,000,209 ratings of 3,706 films by 6,040 users, 2000 to 2003",
        (
            Source(
                "https://files.grouplens.org/datasets/movielens/ml-1m.zip",
                "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
                5_917_549,
            ),
        ),
        ("ml-1m/ratings.dat", "ml-1m/movies.dat", "ml-1m/users.dat"),
        converters.movielens_1m,
        ("ratings.parquet", "movies.parquet", "users.parquet"),
        _GROUPLENS,
        "https://grouplens.org/datasets/movielens/1m/",
    ),
    "adult": Offer(
        "Adult (Census Income): 48,842 persons of the US census of 1994, income above 50,000 dollars or not",
        (
            Source(
                "https://archive.ics.uci.edu/ml/machine-learning-databases/adult/adult.data",
                "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",
                3_974_305,
            ),
            Source(
                "https://archive.ics.uci.edu/ml/machine-learning-databases/adult/adult.test",
                "a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05",
                2_003_153,
            ),
        ),
        (),
        converters.adult,
        ("train.parquet", "test.parquet"),
        "CC BY 4.0: to be cited as Becker and Kohavi (1996), UCI Machine Learning Repository, doi 10.24432/C5XW20",
        "https://archive.ics.uci.edu/dataset/2/adult",
    ),
}


def main(words: Sequence[str]) -> int:
    """Fetch, check and convert a dataset; nothing is left of a failure, and no file that was there is changed.

    Raises:
        UserError: a word that is none, a folder that cannot be written or holds some of the files. DataError: it
        cannot be fetched or is not what it should be. OSError: the disk is full.
    """
    name, root = _arguments(words)
    offer, folder = OFFERS[name], Path(root or f"data/{name}")
    say(f"{name}: {offer.title}\nlicence  {offer.licence}\npage     {offer.page}")
    try:
        _get(offer, folder)
    except OSError as error:
        if error.errno not in UNUSABLE:
            raise
        raise UserError(
            f"{folder} cannot be used: {error.strerror} ({error.filename}); choose another folder with --root"
        ) from error
    say(f"check    graftrec data check dataset={name} {shlex.quote(f'dataset.root={folder}')}")
    return 0


def _get(offer: Offer, folder: Path) -> None:
    there = [file for file in offer.files if (folder / file).exists()]
    if there and len(there) < len(offer.files):
        raise UserError(
            f"{folder / there[0]} is there, but not all of {', '.join(offer.files)}: "
            "remove it, or choose another folder with --root"
        )
    if there:
        say(f"there    {', '.join(there)} in {folder}; remove them to get them anew")
        return
    for source in offer.sources:
        path = folder / source.name
        say(f"there    {path}" if path.exists() else f"fetch    {source.url} ({source.size / 1e6:.1f} MB) to {path}")
    with _undone_if_it_fails(folder, [*(source.name for source in offer.sources), *offer.files]):
        paths = [_fetch(source, folder) for source in offer.sources]
        with tempfile.TemporaryDirectory(prefix=".get-", dir=folder) as work:
            unpacked = extract(paths[0], Path(work) / "originals", offer.members) if offer.members else folder
            offer.convert(unpacked, folder)
    say(f"written  {', '.join(offer.files)} in {folder}")


def _fetch(source: Source, folder: Path) -> Path:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from graftrec.evaluation.report.console import Screen

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Screen(stderr=True), transient=True) as bar:
        task = bar.add_task(source.name, total=source.size)
        return fetch(source, folder, lambda size: bar.advance(task, size))


@contextmanager
def _undone_if_it_fails(folder: Path, names: Sequence[str]) -> Iterator[None]:
    """Make ``folder``; if what follows fails, take it and those files of ``names`` away that were not there."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    new = [folder / name for name in names if not (folder / name).exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for path in new:
            with suppress(OSError):
                remove(path)
        for path in made:
            with suppress(OSError):  # not empty: another put something there
                remove(path)
        raise


def _arguments(words: Sequence[str]) -> tuple[str, str]:
    given, options = COMMANDS["data get"].read(words)
    names = f"there are: {', '.join(OFFERS)}"
    if len(given) > 1:
        raise UserError(f"one dataset at a time; {names}")
    if given[0] not in OFFERS:
        hit = difflib.get_close_matches(given[0].lower(), OFFERS, 1)
        near = f"did you mean '{hit[0]}'? " if hit else ""
        raise UserError(f"there is no dataset '{given[0]}' to get; {near}{names}")
    return given[0], options.get("root", "")


def run(words: Sequence[str]) -> int:
    """`main` with an exit code instead of an exception."""
    from graftrec.runs.job import attempt

    code, _, result = attempt(lambda: main(words))
    sys.stdout.flush()
    return code or result or 0
