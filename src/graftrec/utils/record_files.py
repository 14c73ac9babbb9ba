"""Reading back what a run left: JSON, lines of JSON, YAML and Parquet.

A record that is damaged is a `DataError` with its path and what to do; keys that a newer version added pass. What a run
left when it ended is known by its sha256 in ``status.json`` (`sums`), so that no damage to it is silent.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graftrec.utils import yaml_loader
from graftrec.utils.errors import DataError, UserError

if TYPE_CHECKING:
    import polars as pl

RESULTS = ("config.yaml", "data_card.json", "metrics.json", "users.parquet", "audit.json")  # of a run that ended
SEAL = "seal"  # key of what says that a record is whole
AGAIN = "train it again, or leave it out"
WRONG = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, ArithmeticError, RecursionError)


@contextmanager
def reading(path: Path, advice: str = AGAIN) -> Iterator[None]:
    """Whatever goes wrong while a record is read and taken apart is a damage of it.

    Raises:
        DataError: it is missing, or damaged.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise DataError("RUN-002", f"{path} is missing; {advice}") from error
    except WRONG as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise DataError("RUN-001", f"{path} is damaged ({why}); {advice}") from error


def mapping(path: Path, advice: str = AGAIN, sealed: bool = True) -> dict[str, Any]:
    """A JSON file that holds a mapping; if it is ``sealed``, as it was left. DataError: see `reading`."""
    with reading(path, advice):
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise TypeError(f"a {type(found).__name__} in place of a mapping")
        if sealed:
            check_seal(found)
        return found


def sealed(found: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """A record with the sha256 of what stands under these ``keys`` (default: all of it); others may be added."""
    held = {key: value for key, value in found.items() if key != SEAL}
    kept = list(keys or held)
    return {**held, SEAL: {"keys": kept, "sha256": _digest(held, kept)}}


def check_seal(found: Mapping[str, Any]) -> None:
    """ValueError where a record is not as `sealed` left it; one without a seal is an older version's."""
    seal = found.get(SEAL)
    if seal is not None and seal["sha256"] != _digest(found, seal["keys"]):
        raise ValueError("its sha256 differs")


def _digest(found: Mapping[str, Any], keys: Sequence[str]) -> str:
    text = json.dumps([[key, found[key]] for key in keys], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The lines of a file of JSON mappings, and how many were damaged; nothing where there is no file."""
    with reading(path, "delete it, and the same command writes it anew"):
        texts = path.read_bytes().split(b"\n") if path.exists() else []
    found, damaged = [], 0
    for text in filter(bytes.strip, texts):
        try:
            said = json.loads(text.decode("utf-8"))
            check_seal(said if isinstance(said, dict) else {})
        except WRONG:
            said = None
        if isinstance(said, dict):
            found.append(said)
        else:
            damaged += 1
    return found, damaged


def configuration(path: Path, advice: str = AGAIN) -> dict[str, Any]:
    """A YAML file that holds a mapping. DataError: see `reading`."""
    with reading(path, advice):
        try:
            return yaml_loader.load(path)
        except UserError as error:
            raise ValueError(str(error)) from error


def table(path: Path, columns: Sequence[str], advice: str = AGAIN) -> pl.DataFrame:
    """A Parquet file with at least these columns, by Arrow: Polars' reader may panic where a file is damaged.

    Raises:
        DataError: see `reading`.
    """
    import polars as pl
    import pyarrow.parquet as parquet

    with reading(path, advice):
        found = pl.from_arrow(parquet.read_table(path, partitioning=None, page_checksum_verification=True))
        if missing := [name for name in columns if not isinstance(found, pl.DataFrame) or name not in found.columns]:
            raise KeyError(f"no column {', '.join(missing)}")
        assert isinstance(found, pl.DataFrame)  # noqa: S101  for mypy
        return found


def sums(folder: Path, names: Sequence[str] = RESULTS) -> dict[str, str]:
    """The sha256 of each file of ``names`` that is in ``folder``."""
    found = {}
    for name in names:
        if (folder / name).is_file():
            digest = hashlib.sha256()
            with (folder / name).open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
            found[name] = digest.hexdigest()
    return found


def check(folder: Path, status: Mapping[str, Any], advice: str = AGAIN) -> None:
    """Whether the results of a run that ended are as it left them; of an older version that they can be read.

    Raises:
        DataError: one is missing, damaged or changed.
    """
    expected = status.get("files")
    if not isinstance(expected, Mapping):
        for name in RESULTS:
            if name.endswith(".json") and (folder / name).exists():
                mapping(folder / name, advice)
        return
    with reading(folder, advice):
        there = sums(folder)
    for name, digest in expected.items():
        if name in RESULTS and name not in there:
            raise DataError("RUN-002", f"{folder / name} is missing; {advice}")
        if name in RESULTS and there[name] != digest:
            raise DataError("RUN-001", f"{folder / name} is not what the run left there (its sha256 differs); {advice}")
