"""A table is read once: what a second start finds, what makes it read anew, and what is left when reading fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from graftrec.data.datasets import files
from graftrec.data.datasets.files import Files
from graftrec.data.features.train_statistics import Fitted
from graftrec.data.protocols.base import Protocol
from graftrec.data.protocols.cross_domain import CrossDomain
from graftrec.data.sources import table_reader
from graftrec.data.splits.random_split import AtRandom
from graftrec.data.splits.temporal import ByTime
from graftrec.data.streams.sampling_config import Candidates, History
from graftrec.data.tables import cache
from graftrec.data.tables.interactions import Interactions
from graftrec.utils.atomic_files import MARKER, own
from graftrec.utils.errors import DataError, UserError

ROWS = 400
FEATURES: dict[str, Any] = {
    "shop": "id", "tags": {"kind": "ids", "length": 2}, "seen": {"kind": "history", "length": 3},
    "price": {"kind": "number", "clip": [-2, 2], "outliers": 0.1}, "size": {"kind": "number", "buckets": 4},
    "title": {"kind": "text", "length": 3, "buckets": 40}, "e": "vector", "since": {"kind": "date", "parts": ["month"]},
}  # fmt: skip


def frame() -> pl.DataFrame:
    """Rows with everything that a table may have, and with what is missing."""
    random = np.random.default_rng(0)
    some = [f"s{number}" for number in range(5)]
    return pl.DataFrame(
        {
            "who": [None if number % 50 == 7 else f"u{random.integers(20):02d}" for number in range(ROWS)],
            "what": random.integers(100, 130, ROWS),
            "when": 1_600_000_000 + 3600 * random.permutation(ROWS),
            "order": random.integers(0, 90, ROWS),
            "part": random.choice(["train", "val", "test"], ROWS, p=[0.6, 0.2, 0.2]),
            "w": random.random(ROWS) + 0.5,
            "shop": [None if number % 9 == 0 else some[random.integers(5)] for number in range(ROWS)],
            "tags": [random.choice(some, random.integers(0, 5)).tolist() for _ in range(ROWS)],
            "seen": [random.integers(100, 130, random.integers(0, 5)).tolist() for _ in range(ROWS)],
            "price": [None if number % 7 == 0 else float(random.normal()) for number in range(ROWS)],
            "size": random.normal(size=ROWS),
            "title": [f"word{random.integers(9)} word{random.integers(9)}" for _ in range(ROWS)],
            "e": random.normal(size=(ROWS, 3)).tolist(),
            "since": 1_500_000_000 + 86_400 * random.integers(0, 900, ROWS),
            "liked": [None if number % 11 == 0 else int(random.integers(2)) for number in range(ROWS)],
            "stars": random.integers(1, 6, ROWS).astype(float),
            "mood": random.choice(["good", "bad"], ROWS),
        }
    )


def settings(folder: Path) -> dict[str, Any]:
    """Of a dataset that uses every option."""
    return {
        "user": "who", "item": "what", "time": "when", "basket": "order", "split": "part", "weight": "w",
        "features": FEATURES, "labels": {"liked": "binary", "stars": "number", "mood": "category"},
        "events": {"liked": 1, "stars": 4}, "items": str(folder / "items.parquet"), "users": str(folder / "users.csv"),
        "item_features": {"brand": "id", "height": {"kind": "number", "clip": [0, 3]}}, "duplicates": "drop",
        "k_core": 2, "name": "mine", "cache": str(folder / "cache"),
    }  # fmt: skip


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The file of rows, with items and users beside it."""
    items = pl.DataFrame({"what": range(100, 130), "brand": ["p", "q", None] * 10, "height": np.arange(30) / 7})
    items.write_parquet(tmp_path / "items.parquet")
    pl.DataFrame({"who": [f"u{number:02d}" for number in range(20)], "age": range(20)}).write_csv(
        tmp_path / "users.csv"
    )
    frame().write_parquet(tmp_path / "rows.parquet")
    return tmp_path / "rows.parquet"


def dataset(source: Path, **more: Any) -> Files:
    return Files(**{"path": str(source), **settings(source.parent), **more})


def folders(source: Path) -> list[Path]:
    """What is in the cache, drafts as well."""
    root = source.parent / "cache"
    return sorted(root.iterdir()) if root.exists() else []


def same(one: Any, other: Any, where: str = "data") -> None:
    """Assert that two values, `Interactions` as well, are equal in all that they hold."""
    if isinstance(one, np.ndarray):
        assert isinstance(other, np.ndarray), where
        assert one.dtype == other.dtype, where
        assert np.array_equal(one, other, equal_nan=one.dtype.kind == "f"), where
    elif isinstance(one, pl.Series):
        assert one.dtype == other.dtype, where
        assert one.equals(other), where
    elif isinstance(one, pl.DataFrame):
        assert one.equals(other), where
    elif isinstance(one, dict):
        assert list(one) == list(other), where
        for name, value in one.items():
            same(value, other[name], f"{where}.{name}")
    elif isinstance(one, tuple) and any(isinstance(value, pl.Series) for value in one):
        assert len(one) == len(other), where
        for at, pair in enumerate(zip(one, other, strict=True)):
            same(*pair, f"{where}.{at}")
    elif is_dataclass(one) and not isinstance(one, type) and type(one).__eq__ is object.__eq__:
        assert type(one) is type(other), where
        for field in fields(one):
            if field.name != "folder":
                same(getattr(one, field.name), getattr(other, field.name), f"{where}.{field.name}")
    else:
        assert one == other, where


def arrays(data: Interactions) -> dict[str, np.ndarray]:
    """All arrays of rows."""
    found = {name: getattr(data, name) for name in cache.ARRAYS if getattr(data, name) is not None}
    found |= {f"key {role}": ids.codes for role, ids in data.keys.items()}
    found |= {f"starts {name}": lists.starts for name, lists in data.lists.items()}
    found |= {f"list {name}": lists.codes for name, lists in data.lists.items()}
    return {**found, **data.vectors, **data.texts}


def spoil(path: Path) -> None:
    """Make a file unreadable that looks as before."""
    stat = path.stat()
    path.write_bytes(b"\0" * stat.st_size)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def batches(protocol: Protocol) -> dict[str, torch.Tensor]:
    """All that training and evaluation see."""
    found: dict[str, torch.Tensor] = {}
    for name, stream in protocol.streams.items():
        train = stream.batch(torch.arange(stream.rows), torch.Generator().manual_seed(0))
        found |= {f"{name}/train/{column}": values for column, values in train.items()}
        found |= {f"{name}/sample/{column}": values for column, values in stream.sample.items()}
        for stage in ("val", "test"):
            for at, batch in enumerate(stream.evaluation(stage)):
                found |= {f"{name}/{stage}{at}/{column}": values for column, values in batch.items()}
        for label in stream.schema.labels:
            found[f"{name}/label/{label.name}"] = stream.labels(label.name)
    return found


# --- read once


def test_a_second_start_reads_no_source_and_finds_the_same(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = dataset(source)
    first = data.read()
    memory = dataset(source, cache="off").read()
    assert memory.folder is None
    same(first, memory)
    made = folders(source)
    for path in (source, source.parent / "items.parquet", source.parent / "users.csv"):
        spoil(path)

    def closed(*given: Any, **more: Any) -> None:
        raise AssertionError(f"read {given}")

    for name in ("batches", "read", "columns", "whole"):
        monkeypatch.setattr(table_reader, name, closed)
    for again in (data.read(), dataset(source).read()):
        same(again, memory)
        assert again.folder == made[0]
        assert isinstance(again.answers, np.memmap)
    assert folders(source) == made
    assert len(made) == 1
    assert made[0].name.startswith("mine-")


def test_all_rows_are_memory_maps(source: Path) -> None:
    data = dataset(source).read()
    assert data.folder is not None
    found = arrays(data)
    assert {"time", "split", "event", "weight", "codes", "values", "answers", "kept"} <= set(found)
    assert {"key user", "key basket", "starts tags", "list seen", "e", "title"} <= set(found)
    for name, values in found.items():
        assert isinstance(values, np.memmap), name
        assert Path(str(values.filename)).parent == data.folder, name
    assert not list(data.folder.glob("sizes_*"))
    values = data.values
    values[0, 0] = 7.0  # copy on write: torch may hold it, and nothing of it reaches the file
    assert dataset(source).read().values[0, 0] != 7.0


def test_batches_of_any_size_are_written_the_same(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = dataset(source, cache="off").read()
    monkeypatch.setattr(files, "ROWS", 37)
    data = dataset(source).read()
    assert data.size == whole.size
    for role in data.keys:  # whose codes are in the order of first sight
        mine, theirs = data.keys[role], whole.keys[role]
        assert mine.keys.gather(mine.codes.tolist()).equals(theirs.keys.gather(theirs.codes.tolist()))
    same(np.asarray(data.values), whole.values)
    same(np.asarray(data.kept), whole.kept)
    same(dict(data.vectors), whole.vectors)
    same(dict(data.texts), whole.texts)


def test_a_small_file_is_not_cached(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFTREC_CACHE", str(source.parent / "cache"))
    assert dataset(source, cache="").read().folder is None
    monkeypatch.setattr(files, "CACHED", 1000)
    found = dataset(source, cache="").read()
    assert found.folder is not None
    assert found.folder.parent == source.parent / "cache"
    monkeypatch.setattr(files, "CACHED", source.stat().st_size + 1)
    assert dataset(source, cache="").read().folder is None


def test_the_folder_may_be_the_home_or_none(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "CACHED", 0)
    monkeypatch.delenv("GRAFTREC_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(source.parent / "home"))
    found = dataset(source, cache="").read()
    assert found.folder is not None
    assert found.folder.parent == source.parent / "home" / ".cache" / "graftrec"
    (source.parent / "blocked").write_text("a file")
    monkeypatch.setenv("HOME", str(source.parent / "blocked"))
    same(dataset(source, cache="").read(), found)  # without one
    for asked in ("given", "environment"):
        if asked == "environment":
            monkeypatch.setenv("GRAFTREC_CACHE", str(source.parent / "blocked" / "cache"))
        where = "" if asked == "environment" else str(source.parent / "blocked" / "cache")
        with pytest.raises(UserError, match=r"dataset\.cache: no folder .*blocked.cache can be made"):
            dataset(source, cache=where).read()


# --- read anew


@pytest.mark.parametrize(
    "more",
    [
        {"labels": {"liked": "binary", "stars": "number"}},
        {"features": {**FEATURES, "price": {"kind": "number", "clip": [-2, 1]}}},
        {"features": {**FEATURES, "title": "id"}},
        {"item_features": {"brand": "id"}},
        {"item_features": {"brand": "id", "height": "number"}},
        {"events": {"liked": 1}},
        {"time_unit": "order", "features": {"shop": "id"}},
        {"basket": ""},
        {"k_core": 3},
        {"duplicates": "keep"},
        {"unique": True},
        {"users": ""},
        {"split": ""},
        {"known_after": ["zz"]},
    ],
    ids=lambda more: next(iter(more)),
)
def test_another_meaning_is_another_folder(more: dict[str, Any], source: Path) -> None:
    first = dataset(source).read()
    other = dataset(source, **more).read()
    assert other.folder != first.folder
    assert len(folders(source)) == 2
    same(dataset(source).read(), first)


@pytest.mark.parametrize("name", ["rows.parquet", "items.parquet", "users.csv"])
@pytest.mark.parametrize("change", ["content", "time", "size"])
def test_a_changed_file_is_another_folder(name: str, change: str, source: Path) -> None:
    first = dataset(source).read()
    path, stat = source.parent / name, (source.parent / name).stat()
    if change == "content":
        found = pl.read_csv(path) if name.endswith("csv") else pl.read_parquet(path)
        found = found.sample(fraction=1.0, shuffle=True, seed=1)
        found.write_csv(path) if name.endswith("csv") else found.write_parquet(path)
    elif change == "time":
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    else:
        found = pl.read_csv(path) if name.endswith("csv") else pl.read_parquet(path)
        found[:-1].write_csv(path) if name.endswith("csv") else found[:-1].write_parquet(path)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other = dataset(source).read()
    assert other.folder != first.folder
    assert len(folders(source)) == 2
    if change == "time":
        same(other, first)


def test_a_file_more_is_another_folder(source: Path) -> None:
    folder = source.parent
    frame()[:200].write_parquet(folder / "part1.parquet")
    data = dataset(source, path=str(folder / "part*.parquet"))
    first = data.read()
    frame()[200:].write_parquet(folder / "part2.parquet")
    second = data.read()
    assert second.folder != first.folder
    assert second.size > first.size


@pytest.mark.parametrize("what", ["VERSION", "polars"])
def test_another_version_is_another_folder(what: str, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = dataset(source).read()
    if what == "VERSION":
        monkeypatch.setattr(cache, "VERSION", cache.VERSION + 1)
    else:
        monkeypatch.setattr(pl, "__version__", "99")
    assert dataset(source).read().folder != first.folder


def damage(what: str, path: Path) -> None:
    if what == "gone":
        path.unlink()
    elif what == "cut":
        os.truncate(path, path.stat().st_size - 1)
    elif what in ("flip", "zero", "append"):
        content, at = bytearray(path.read_bytes()), path.stat().st_size // 2
        if what == "flip":
            content[at] ^= 1
        elif what == "zero":
            content[at : at + 4] = bytes(len(content[at : at + 4]))
        else:
            content += b"0"
        path.write_bytes(content)
    else:
        path.write_bytes(b"?" * path.stat().st_size)


def test_any_damage_is_seen(source: Path) -> None:
    folder = dataset(source).read().folder
    assert folder is not None
    seen = 0
    for path in sorted(path for path in folder.iterdir() if path.name != MARKER):  # which holds no data
        content = path.read_bytes()
        for what in ("cut", "gone", "garbage", "flip", "zero", "append"):
            damage(what, path)
            if path.exists() and path.read_bytes() == content:  # zeros already
                damage("flip", path)
            assert cache.load(folder) is None, (what, path.name)
            path.write_bytes(content)
            seen += 1
    assert seen > 150
    assert cache.load(folder) is not None


@pytest.mark.parametrize(
    ("what", "name"),
    [("cut", "answers.bin"), ("gone", "meta.json"), ("gone", "key_user.bin"), ("garbage", "keys_item.parquet"),
     ("garbage", "items.parquet")],
)  # fmt: skip
def test_a_damaged_folder_is_read_anew(what: str, name: str, source: Path) -> None:
    first = dataset(source).read()
    assert first.folder is not None
    damage(what, first.folder / name)
    again = dataset(source).read()
    assert again.folder == first.folder
    same(again, dataset(source, cache="off").read())
    assert cache.load(first.folder) is not None
    assert folders(source) == [first.folder]


def test_json_that_is_no_cache_is_read_anew(source: Path) -> None:
    first = dataset(source).read()
    assert first.folder is not None
    for text in ("{}", "[]", "7", '{"arrays": {}}', '{"arrays": {"time": ["<f8", "x"]}}'):
        (first.folder / "meta.json").write_text(text)
        same(dataset(source).read(), first)


# --- nothing half-written


def in_many_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "ROWS", 50)


def test_nothing_is_left_when_the_last_row_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_many_batches(monkeypatch)
    monkeypatch.setattr("graftrec.data.sources.csv_reader.CHUNK", 500)
    plain = frame().select("who", "what", "when", "price", pl.col("liked").cast(pl.String))
    plain = pl.concat([plain, plain[:1].with_columns(liked=pl.lit("perhaps"))])
    plain.write_csv(tmp_path / "t.csv")
    before = sorted(tmp_path.rglob("*"))
    data = Files(
        str(tmp_path / "t.csv"), user="who", item="what", time="when", features={"price": "number"},
        labels={"liked": "binary"}, cache=str(tmp_path / "cache"),
    )  # fmt: skip
    for _ in range(2):
        with pytest.raises(DataError, match=rf"TASK-003 .*t.csv:{ROWS + 2}  liked: 'perhaps'"):
            data.read()
        assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "cache"])
    plain[:-1].write_csv(tmp_path / "t.csv")
    assert data.read().folder is not None


@pytest.mark.parametrize(
    ("error", "where"),
    [(KeyboardInterrupt, "batch"), (KeyboardInterrupt, "store"), (KeyboardInterrupt, "meta"), (SystemExit, "batch"),
     (MemoryError, "store"), (OSError, "meta")],
)  # fmt: skip
def test_nothing_is_left_after_an_interrupt(
    error: type[BaseException], where: str, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_many_batches(monkeypatch)
    count = 0

    def stop(*given: Any, **more: Any) -> Any:
        nonlocal count
        count += 1
        if count == {"batch": 4, "store": 1, "meta": 2}[where]:  # the draft's marker is the first text
            drafts.extend(folders(source))
            raise error("stop")
        return add(*given, **more)

    drafts: list[Path] = []
    data = dataset(source)
    add = Path.write_text if where == "meta" else files.Builder.add
    with monkeypatch.context() as patched:
        if where == "batch":
            patched.setattr(files.Builder, "add", stop)
        elif where == "store":
            patched.setattr(pl.DataFrame, "write_parquet", stop)
        else:
            patched.setattr(Path, "write_text", stop)
        with pytest.raises(error):
            data.read()
    assert len(drafts) == 1
    assert drafts[0].name.startswith(".mine-")
    assert folders(source) == []
    same(data.read(), dataset(source, cache="off").read())


def test_a_full_disk_is_told_and_leaves_nothing(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("graftrec.data.tables.builder.Growing.add", full)
        with pytest.raises(OSError, match="No space left"):
            dataset(source).read()
    assert folders(source) == []


def test_what_a_killed_process_left_is_swept(source: Path) -> None:
    made = dataset(source).read().folder
    assert made is not None
    for path in made.iterdir():
        path.unlink()
    made.rmdir()
    old, young, other = (made.with_name(name) for name in (f".{made.name}.1.a", f".{made.name}.2.b", ".mine-0.1.a"))
    for draft in (old, young, other):
        own(draft)
        (draft / "time.bin").write_bytes(b"half")
    for draft in (old, other):
        os.utime(draft, (time.time() - 2 * cache.ABANDONED,) * 2)
    assert dataset(source).read().folder == made
    assert folders(source) == sorted([young, other, made])


# --- two at once


def test_two_threads_at_once_both_get_the_data(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2, timeout=20)
    inside = Files._read
    drafts: list[Path] = []

    def slow(self: Files, folder: Path | None) -> Interactions:
        found = inside(self, folder)
        drafts.extend([folder] if folder is not None else [])
        both.wait()  # both have read, and none has finished
        return found

    monkeypatch.setattr(Files, "_read", slow)
    found: dict[int, Interactions] = {}
    data = [dataset(source) for _ in range(2)]
    threads = [
        threading.Thread(target=lambda at=at: found.__setitem__(at, data[at].read())) for at in range(2)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    monkeypatch.undo()
    memory = dataset(source, cache="off").read()
    assert len(set(drafts)) == 2
    assert sorted(found) == [0, 1]
    for each in found.values():
        same(each, memory)
    assert found[0].folder == found[1].folder
    assert folders(source) == [found[0].folder]


PROCESS = """
import json, sys
import numpy as np
from graftrec.data.datasets.files import Files
given = json.loads(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
data = Files(**given).read()
sums = [float(np.nansum(values, dtype=np.float64)) for values in (data.time, data.codes, data.values)]
print(data.folder, data.size, sums)
"""


def test_two_processes_at_once_both_get_the_data(source: Path) -> None:
    given = json.dumps({"path": str(source), **settings(source.parent)})
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for _ in range(2)
    ]
    said: list[str] = []
    try:
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        said = [process.communicate(timeout=60)[0].strip() for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    assert [process.returncode for process in running] == [0, 0]
    data = dataset(source, cache="off").read()
    sums = [float(np.nansum(values, dtype=np.float64)) for values in (data.time, data.codes, data.values)]
    assert said == [f"{folder} {data.size} {sums}" for folder in folders(source) * 2]


def test_a_damaged_folder_that_another_has_mended_stays(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = dataset(source).read()
    assert first.folder is not None
    (first.folder / "meta.json").unlink()
    store, mended = cache.store, []

    def late(data: Interactions, folder: Path) -> None:
        store(data, folder)
        if not mended:
            mended.append(folder)
            mended.append(dataset(source).read().folder)  # another process, from its start to its end
            mended.append((mended[1] / "meta.json").stat().st_ino)

    monkeypatch.setattr(cache, "store", late)
    same(dataset(source).read(), first)
    assert mended[1] == first.folder
    assert (first.folder / "meta.json").stat().st_ino == mended[2]
    assert folders(source) == [first.folder]


# --- what is made of it


def prepared(data: Files, split: Any = None, streams: tuple[str, ...] = ()) -> CrossDomain:
    made = CrossDomain(data, split or ByTime(), History(long=9, short=4), Candidates(min_users=1, negatives=5))
    made.prepare(streams)
    return made


def test_batches_of_memory_maps_are_those_of_memory(source: Path) -> None:
    mapped, plain = prepared(dataset(source)), prepared(dataset(source, cache="off"))
    one, other = batches(mapped), batches(plain)
    assert list(one) == list(other)
    assert len(one) > 60
    for name, values in one.items():
        assert values.dtype == other[name].dtype, name
        assert torch.equal(values.nan_to_num(-7.0), other[name].nan_to_num(-7.0)), name
    assert mapped.full_card == plain.full_card
    assert {name: table.size for name, table in mapped.tables.items()} == {
        name: table.size for name, table in plain.tables.items()
    }
    again = batches(prepared(dataset(source)))  # with what was fitted before
    assert list(again) == list(one)
    assert all(torch.equal(values.nan_to_num(-7.0), one[name].nan_to_num(-7.0)) for name, values in again.items())


def fitted(source: Path) -> list[str]:
    (folder,) = folders(source)
    return sorted(path.name for path in folder.glob("*fitted*"))


def test_what_was_fitted_is_kept_for_the_same_training_rows(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    fit = Fitted.__init__

    def counted(self: Fitted, data: Interactions, part: Any) -> None:
        made.append(int((part == 0).sum()))
        fit(self, data, part)

    monkeypatch.setattr(Fitted, "__init__", counted)
    found = []
    for split, fits in ((ByTime(), 1), (ByTime(), 1), (AtRandom(), 2), (AtRandom(seed=1), 3), (ByTime(), 3)):
        stream: Any = prepared(dataset(source), split, ("rows",)).streams["rows"]
        found.append([values.tolist() for values in stream._scale])
        assert len(made) == fits
        assert len(fitted(source)) == fits
        assert all(name.startswith("fitted_") and name.endswith(".npz") for name in fitted(source))
    assert found[0] == found[1] == found[4]
    assert found[0] != found[2] != found[3]
    prepared(dataset(source, cache="off"), ByTime(), ("rows",))
    assert len(made) == 4  # in memory there is nothing to keep it beside


def test_what_was_fitted_is_all_there(source: Path) -> None:
    data = dataset(source).read()
    part = np.where(np.arange(data.size) % 3 == 0, 0, 2).astype(np.int8)
    first, second = Fitted.of(data, part), Fitted.of(data, part)
    assert len(fitted(source)) == 1
    names = {"seen", "lists", "mean", "spread", "low", "high", "edges", "vectors"}
    assert set(vars(second)) == set(vars(first)) == names
    for name in ("mean", "spread", "low", "high", "edges"):
        same(getattr(second, name), getattr(first, name))
    for one, other in ((second.seen, first.seen), (list(second.lists.values()), list(first.lists.values()))):
        assert [values.tolist() for values in one] == [values.tolist() for values in other]
    for one_scale, other_scale in zip(second.vectors.values(), first.vectors.values(), strict=True):
        assert [values.tolist() for values in one_scale] == [values.tolist() for values in other_scale]
    other = part.copy()
    other[0] = 2
    Fitted.of(data, other)
    assert len(fitted(source)) == 2


def test_a_draft_becomes_the_folder_at_the_end(tmp_path: Path) -> None:
    with cache.draft(tmp_path / "made") as folder:
        (folder / "x").write_text("half")
        assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    assert (tmp_path / "made" / "x").read_text() == "half"


def test_a_secret_in_the_name_of_a_dataset_is_not_in_its_cache(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the folder's name nor in what lies in it; the cache serves all the same."""
    monkeypatch.setenv("SHOP_TOKEN", "canary-4711")
    read = dataset(source, name="mine-canary-4711").read()
    assert read.folder is not None
    assert read.folder.name.startswith("mine-___-")
    assert dataset(source, name="mine-canary-4711").read().folder == read.folder
    paths = list(read.folder.parent.rglob("*"))
    assert not [path for path in paths if "canary-4711" in path.name]
    assert not [path for path in paths if path.is_file() and b"canary-4711" in path.read_bytes()]
