"""Tables that were read once, as memory maps: a second start reads no row."""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from graftrec.data.tables.builder import mapped
from graftrec.data.tables.interactions import Attributes, Column, Ids, Interactions, Lists
from graftrec.utils import atomic_files as files
from graftrec.utils.atomic_files import remove
from graftrec.utils.errors import UserError
from graftrec.utils.redaction import shown

VERSION = 3  # of the layout; another one is another folder
ARRAYS = ("time", "split", "event", "weight", "codes", "values", "answers", "kept")


ABANDONED = 86_400.0  # seconds, after which a draft is what a killed process left


def folder_of(given: str) -> Path | None:
    """Where caches are: ``given``, or $GRAFTREC_CACHE, or the user's cache folder; none where that is not to be had.

    Raises:
        UserError: the folder was asked for, and nothing can be written into it.
    """
    asked = given or os.environ.get("GRAFTREC_CACHE", "")
    try:
        folder = Path(asked).expanduser() if asked else Path.home() / ".cache" / "graftrec"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # the latter: nobody's home
        if not asked:
            return None
        raise UserError(f"dataset.cache: no folder {asked} can be made ({error}); name another, or cache=off") from None
    if os.access(folder, os.W_OK):
        return folder
    if asked:
        raise UserError(f"dataset.cache: nothing can be written into {asked}; name another folder, or cache=off")
    return None


def fingerprint(files: Sequence[str], meaning: Mapping[str, Any]) -> str:
    """A name for what these files are now (path, size, moment of the last change) and what their columns mean."""
    stats = [(os.path.abspath(file), os.stat(file).st_size, os.stat(file).st_mtime_ns) for file in files]
    text = json.dumps([VERSION, pl.__version__, stats, meaning], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


@contextmanager
def draft(folder: Path) -> Iterator[Path]:
    """A folder to write into, which becomes ``folder`` at the end and vanishes if anything goes wrong.

    A ``folder`` that is whole by then stays, as another process was faster; one that is damaged is replaced.
    """
    for left in folder.parent.glob(f".{folder.name}.*"):
        with suppress(OSError, UserError):
            if time.time() - left.stat().st_mtime > ABANDONED:
                remove(left, everything=True)
    own = folder.with_name(f".{folder.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    damaged = own.with_name(f"{own.name}.damaged")
    files.own(own)
    try:
        yield own
        try:
            os.replace(own, folder)
        except OSError:  # something is there: never away with it before it is known to be damaged
            if load(folder) is None:
                with suppress(OSError):  # another process was faster after all
                    os.replace(folder, damaged)
                    os.replace(own, folder)
    finally:
        for left in (own, damaged):
            with suppress(OSError, UserError):  # not there, or not made by this program
                remove(left, everything=True)


def store(data: Interactions, folder: Path) -> None:
    """Write what `Builder` did not write into ``folder`` already; ``meta.json`` comes last."""
    arrays: dict[str, Any] = {}

    def put(name: str, values: Any) -> None:
        path = folder / f"{name}.bin"
        if not isinstance(values, np.memmap):
            path.write_bytes(np.ascontiguousarray(values).tobytes())
        elif Path(str(values.filename)) != path.resolve():
            os.replace(str(values.filename), path)
        arrays[name] = [values.dtype.str, list(values.shape)]

    for name in ARRAYS:
        if getattr(data, name) is not None:
            put(name, getattr(data, name))
    for role, ids in data.keys.items():
        put(f"key_{role}", ids.codes)
        pl.DataFrame({"key": ids.keys}).write_parquet(folder / f"keys_{role}.parquet")
    for at, keys in enumerate(data.id_keys):
        pl.DataFrame({"key": keys}).write_parquet(folder / f"keys_id_{at}.parquet")
    for at, (_, lists) in enumerate(data.lists.items()):
        put(f"starts_{at}", lists.starts)
        put(f"list_{at}", lists.codes)
        pl.DataFrame({"key": lists.keys}).write_parquet(folder / f"keys_list_{at}.parquet")
    for kind in ("vectors", "texts"):
        for at, values in enumerate(getattr(data, kind).values()):
            put(f"{kind}_{at}", values)
    for kind in ("users", "items"):
        known: Attributes | None = getattr(data, kind)
        if known is not None:
            known.frame.write_parquet(folder / f"{kind}.parquet")
    meta = {
        "name": shown(data.name), "size": data.size, "clock": data.clock, "behaviours": data.behaviours,
        "ids": data.ids, "numbers": data.numbers, "labels": data.labels, "unique": data.unique,
        "refused": data.refused, "notes": list(map(shown, data.notes)), "stamps": data.stamps,
        "arrays": arrays, "keys": list(data.keys),
        "lists": list(data.lists), "vectors": list(data.vectors), "texts": list(data.texts),
        "columns": {name: asdict(column) for name, column in data.columns.items()},
        "attributes": {
            kind: {name: asdict(column) for name, column in known.columns.items()}
            for kind in ("users", "items")
            for known in [getattr(data, kind)]
            if known is not None
        },
    }  # fmt: skip
    for left in folder.glob("sizes_*.bin"):  # of lists, which their starts say as well
        with suppress(OSError):
            remove(left)
    there = sorted(path for path in folder.iterdir() if path.name != files.MARKER)
    meta["checksums"] = {path.name: checksum(path) for path in there}
    meta["own"] = zlib.crc32(json.dumps(meta).encode())
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")


def checksum(path: Path) -> int:
    """The crc32 of a file: what the disk or a copy damaged is noticed, at 2 GB/s."""
    found = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found = zlib.crc32(block, found)
    return found


def load(folder: Path) -> Interactions | None:
    """What `store` wrote, as memory maps; none if it is not there, or not whole."""
    try:
        return _load(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pl.exceptions.PolarsError):
        return None


def _load(folder: Path) -> Interactions:
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    own = meta.pop("own")
    if zlib.crc32(json.dumps(meta).encode()) != own:
        raise ValueError(f"{folder}/meta.json is damaged")
    for name, right in meta["checksums"].items():
        if checksum(folder / name) != right:
            raise ValueError(f"{folder / name} is damaged")
    whole = {}
    for name, (dtype, shape) in meta["arrays"].items():
        if np.dtype(dtype).kind not in "biufM" or Path(name).name != name:
            raise ValueError(f"{folder} is no cache of tables: '{name}' of {dtype}")
        path, size = folder / f"{name}.bin", int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if path.stat().st_size != size:
            raise ValueError(f"{path} should have {size} bytes")
        whole[name] = mapped(path, np.dtype(dtype), tuple(shape))

    def keys(name: str) -> pl.Series:
        return pl.read_parquet(folder / f"keys_{name}.parquet")["key"]

    def known(kind: str) -> Attributes | None:
        columns = meta["attributes"].get(kind)
        if columns is None:
            return None
        return Attributes(pl.read_parquet(folder / f"{kind}.parquet"), _columns(columns))

    plain = Interactions(meta["name"], meta["size"], clock=meta["clock"], labels=meta["labels"])
    more: dict[str, Any] = {name: whole[name] for name in ARRAYS if name in whole}
    more |= {name: tuple(meta[name]) for name in ("behaviours", "ids", "numbers", "notes", "stamps")}
    return replace(
        plain,
        **more,
        folder=folder,
        unique=meta["unique"],
        refused=meta["refused"],
        keys={role: Ids(whole[f"key_{role}"], keys(role)) for role in meta["keys"]},
        id_keys=tuple(keys(f"id_{at}") for at in range(len(meta["ids"]))),
        lists={
            name: Lists(whole[f"starts_{at}"], whole[f"list_{at}"], keys(f"list_{at}"))
            for at, name in enumerate(meta["lists"])
        },
        vectors={name: whole[f"vectors_{at}"] for at, name in enumerate(meta["vectors"])},
        texts={name: whole[f"texts_{at}"] for at, name in enumerate(meta["texts"])},
        columns=_columns(meta["columns"]),
        users=known("users"),
        items=known("items"),
    )


def _columns(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Column]:
    return {
        name: Column.of({key: tuple(value) if isinstance(value, list) else value for key, value in options.items()})
        for name, options in found.items()
    }
