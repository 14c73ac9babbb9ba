"""Weights on disk: plain tensors and a plain dict, saved as a whole, and loaded once they are known to be undamaged.

A save goes to a draft in the same folder, of which the sha256 is taken while it is written; see `manifest` beside it.
Every load takes the sha256 first, and then reads the same open file without running any code of it.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from pytorch_lightning.plugins.io import CheckpointIO
from torch import Tensor, nn

from graftrec.training.checkpoints import manifest
from graftrec.transfer.base import ROLES
from graftrec.utils import atomic_files
from graftrec.utils.atomic_files import no_space, whole
from graftrec.utils.errors import FULL, DataError, UserError
from graftrec.utils.fault_injection import strike

SCHEMA = 3  # of what a checkpoint holds beside Lightning's own keys, all of it under "graftrec"
ENTRIES = 100_000  # tensors of a checkpoint
SPREAD = ("tasks.regression.Regression", "tasks.quantiles.Quantiles")  # classes that learn numbers of one size
BEST, LAST, PREVIOUS = "best.ckpt", "last.ckpt", "previous.ckpt"


class SafeIO(CheckpointIO):
    """Lightning's way to `save` and `load`. ``last.ckpt`` leaves the one before it as ``previous.ckpt``."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """See `save`."""
        save(checkpoint, Path(path), keep=PREVIOUS if Path(path).name == LAST else "")

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """See `load`: always as weights only, and on the CPU."""
        return load(path)

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint."""
        remove(Path(path))


def save(checkpoint: Mapping[str, Any], path: Path, keep: str = "") -> None:
    """Write a checkpoint as a whole; what was there before stays under the name ``keep``, if there is one.

    Raises:
        OSError: the disk is full; with the path, the bytes that are needed and those that are free.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = {**checkpoint, "graftrec": {**checkpoint.get("graftrec", {}), "schema": SCHEMA}}
    listed = manifest.read(path.parent)
    with whole(path, lasting=True) as draft:
        strike("save")
        try:
            digest = _written(checkpoint, draft)
        except OSError as error:
            if error.errno in FULL:
                raise no_space(error, path, _size(checkpoint)) from error
            raise
        strike("save")
        new = {"bytes": draft.stat().st_size, "sha256": digest, "step": int(checkpoint.get("global_step", 0))}
        listed.pending = {path.name: new}
        if keep and path.is_file() and path.name in listed.files:
            listed.pending[keep] = listed.files[path.name]
            listed.write(path.parent)
            os.replace(path, path.with_name(keep))
        else:
            listed.write(path.parent)
        strike("save")
    strike("save")
    listed.files |= listed.pending
    listed.pending = {}
    listed.write(path.parent)


def load(path: str | Path) -> dict[str, Any]:
    """A checkpoint, once it is known to be undamaged, in the form of today's schema; its tensors on the CPU.

    Raises:
        DataError: it is no local file, is damaged, holds more than weights and plain values, or is too new.
    """
    with _opened(path) as file:
        _check(Path(path), file)
        try:
            loaded = torch.load(file, map_location="cpu", weights_only=True)
            loaded["state_dict"]
        except Exception as error:
            raise DataError("CKPT-002", f"{path}: cannot be loaded as weights only: {error}") from error
    return _migrated(loaded, path)


def verify(path: Path) -> None:
    """DataError where a checkpoint is not there or is damaged."""
    with _opened(path) as file:
        _check(path, file)


def remove(path: Path) -> None:
    """Remove a checkpoint and its line in the manifest."""
    listed = manifest.read(path.parent)
    atomic_files.remove(path)
    if listed.files.pop(path.name, None):
        listed.write(path.parent)


def weights(path: Path) -> dict[str, Tensor]:
    """The parameters in a checkpoint; see `load`."""
    state: dict[str, Tensor] = load(path)["state_dict"]
    return state


def configuration(path: Path) -> dict[str, Any]:
    """The tree that a checkpoint's model was built from; see `load`. Whatever else it says of a model is not read."""
    return configuration_in(load(path), path)


def configuration_in(loaded: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """The same of a checkpoint that is loaded."""
    tree = loaded.get("hyper_parameters")
    tree = tree.get("config") if isinstance(tree, dict) else None
    if not isinstance(tree, dict):
        raise DataError("CKPT-002", f"{path}: holds no configuration, so no model can be made of it")
    return tree


def belongs_to(loaded: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a checkpoint says of its data; an older one, or a stranger's, may say nothing."""
    ours = loaded.get("graftrec")
    found = ours.get("data") if isinstance(ours, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def check_data(loaded: Mapping[str, Any], data: Mapping[str, Any], where: str) -> None:
    """DataError where weights belong to other data than ``data``: a row of a table is then of somebody else."""
    theirs = belongs_to(loaded).get("fingerprint")
    if theirs is not None and theirs != data.get("fingerprint"):
        raise DataError(
            "CKPT-008",
            f"{where}: these weights were trained on other data (fingerprint {theirs}) than there are now "
            f"({data.get('fingerprint')}): an id, a row or a label has changed, and items would be scored with others' "
            "weights; bring the data back as they were, or train again",
        )


def check_fit(state: Mapping[str, Tensor], module: nn.Module, where: str) -> None:
    """UserError that names tasks and features where the weights in ``where`` are of another model than ``module``."""
    here = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    there = {name: tuple(value.shape) for name, value in state.items()}
    problems = []
    for what, kind in (("tasks", "task"), ("tables", "table of")):
        ours, theirs = _parts(here, what), _parts(there, what)
        problems += [f"{kind} {name} is in the checkpoint and not here" for name in sorted(theirs - ours)]
        problems += [f"{kind} {name} is here and not in the checkpoint" for name in sorted(ours - theirs)]
    if not problems and (odd := sorted(here.keys() ^ there.keys())):
        problems.append(f"{len(odd)} weights are on one side only, such as {', '.join(odd[:3])}")
    problems += [
        f"{name} is {there[name]} in the checkpoint and {here[name]} here"
        for name in here
        if name in there and here[name] != there[name]
    ]
    if problems:
        advice = "take the configuration that it was trained with (config.yaml beside it), or start without it"
        raise UserError(f"{where} is of another model; {advice}: " + "; ".join(problems[:8]))


def _parts(names: Mapping[str, Any], what: str) -> set[str]:
    """Names of tasks, or of the encoder's tables, in the names of a state dict."""
    prefix = "tasks." if what == "tasks" else "encoder.tables."
    found = {name.removeprefix(prefix).split(".")[0] for name in names if name.startswith(prefix)}
    return found - {"projections", "low"}  # of the tables together


def _migrated(loaded: dict[str, Any], path: str | Path) -> dict[str, Any]:
    version = loaded.get("graftrec", {}).get("schema", 0)
    if version > SCHEMA:
        raise DataError("CKPT-005", f"{path}: schema {version} is newer than this program's {SCHEMA}; install that")
    for number in range(version, SCHEMA):
        loaded = MIGRATIONS[number](loaded, path)
    return loaded


def _from_0(loaded: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """Before schemas had a number there was nothing beside the weights; no training goes on from these."""
    return {**loaded, "callbacks": {}, "graftrec": {"schema": 1, "means": []}}


def _from_1(loaded: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """An event's age had a bias and another scale, which no network of today computes; what reads no history serves."""
    if any(name.startswith("encoder.age.") and name.endswith(".bias") for name in loaded["state_dict"]):
        raise DataError(
            "CKPT-007", f"{path}: was made when an event's age had a bias, which no network has now; train it again"
        )
    return {**loaded, "graftrec": {**loaded["graftrec"], "schema": 2}}


def _from_2(loaded: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """Numbers were learnt in the label's own unit, which is a spread of 1: these weights say what they did."""
    tree = configuration_in(loaded, path)
    state = dict(loaded["state_dict"])
    for role in ROLES:
        tasks = tree.get(role)
        for name, task in tasks.items() if isinstance(tasks, Mapping) else ():
            if isinstance(task, Mapping) and str(task.get("_target_")).endswith(SPREAD):
                state[f"tasks.{name}.spread"] = torch.ones(())
    return {**loaded, "state_dict": state, "graftrec": {**loaded["graftrec"], "schema": 3}}


MIGRATIONS = {0: _from_0, 1: _from_1, 2: _from_2}  # from a schema to the next


def _opened(path: str | Path) -> IO[bytes]:
    """A regular local file, opened; nothing else is."""
    if "://" in str(path):
        raise DataError("CKPT-004", f"{path}: a checkpoint is a local file; download it first")
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would wait for its other end
    except FileNotFoundError as error:
        raise DataError("CKPT-001", f"{path}: there is no such checkpoint") from error
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise DataError("CKPT-004", f"{path}: cannot be opened as a file: {error}") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise DataError("CKPT-004", f"{path}: should be a regular file")
    return os.fdopen(handle, "rb")


def _check(path: Path, file: IO[bytes]) -> None:
    """DataError where an open checkpoint is not what its manifest says; the file is at its start again afterwards."""
    expected = manifest.read(path.parent).of(path.name)
    if expected:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        if digest.hexdigest() not in [entry["sha256"] for entry in expected]:
            size, wanted = os.fstat(file.fileno()).st_size, expected[0]["bytes"]
            bytes_ = f"{size:,} bytes in place of {wanted:,}" if size != wanted else f"{size:,} bytes, as it should"
            raise DataError(
                "CKPT-003", f"{path} is damaged: its sha256 differs from {manifest.NAME}'s ({bytes_}); use another one"
            )
    try:
        with zipfile.ZipFile(file) as archive:
            _check_entries(path, archive.infolist(), os.fstat(file.fileno()).st_size)
            # of a file that was copied from elsewhere its own checksums are better than none
            wrong = None if expected else archive.testzip()
    except DataError:
        raise
    except Exception as error:
        raise DataError("CKPT-002", f"{path}: is no checkpoint, or a part of one: {error}") from error
    if wrong:
        raise DataError("CKPT-003", f"{path} is damaged: {wrong} in it differs from its checksum; use another one")
    file.seek(0)


def _check_entries(path: Path, entries: list[zipfile.ZipInfo], size: int) -> None:
    """DataError where a file would be more in memory than on the disk: torch packs nothing, and has no entry twice."""
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    twice = len({entry.filename for entry in entries}) < len(entries)
    if packed or twice or len(entries) > ENTRIES or sum(entry.file_size for entry in entries) > size:
        raise DataError("CKPT-002", f"{path}: is no checkpoint as torch writes them ({len(entries):,} entries)")


class _Hashed(io.RawIOBase):
    """A file to write that takes the sha256 on the way, and remembers the error that torch turns into another."""

    def __init__(self, file: IO[bytes] | None) -> None:
        self.file, self.digest, self.size = file, hashlib.sha256(), 0
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data)
        try:
            if self.file is not None:
                self.file.write(view)
                self.digest.update(view)
        except OSError as error:
            self.error = self.error or error
            raise
        self.size += view.nbytes
        return view.nbytes


def _written(checkpoint: Mapping[str, Any], path: Path) -> str:
    """Write a file; its sha256."""
    with path.open("wb") as file:
        out = _Hashed(file)
        try:
            torch.save(dict(checkpoint), out)  # type: ignore[arg-type]
            file.flush()
        except Exception as error:
            if out.error is not None:
                raise out.error from error
            raise
    return out.digest.hexdigest()


def _size(checkpoint: Mapping[str, Any]) -> int:
    out = _Hashed(None)
    torch.save(dict(checkpoint), out)  # type: ignore[arg-type]
    return out.size
