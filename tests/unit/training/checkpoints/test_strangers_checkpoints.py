"""No way to load a checkpoint or a cache runs what is in it, whatever the environment and the manifest say."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from graftrec.data.tables import cache
from graftrec.runs.recommender import Recommender
from graftrec.training import fit
from graftrec.training.builder import protocol_of, streams_of
from graftrec.training.checkpoints import checkpoint, manifest
from graftrec.training.checkpoints.checkpoint import BEST, SafeIO, configuration, load, verify, weights
from graftrec.transfer.base import ROLES, Phase
from graftrec.utils.errors import DataError, UserError

Compose = Callable[[list[str]], dict[str, Any]]


class Evil:
    """A pickle that makes a folder where it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


def of_torch(evil: Any) -> bytes:
    out = io.BytesIO()
    torch.save({"state_dict": {}, "hyper_parameters": {"config": {}}, "callbacks": evil}, out)
    return out.getvalue()


def old_torch(evil: Any) -> bytes:
    out = io.BytesIO()
    torch.save({"state_dict": {}, "callbacks": evil}, out, _use_new_zipfile_serialization=False)
    return out.getvalue()


def repacked(content: bytes, packing: int, twice: bool = False) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", packing) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        if twice:
            new.writestr("x", b"")
            new.writestr("y", b"")
    return out.getvalue().replace(b"y", b"x") if twice else out.getvalue()


def safetensors(evil: Any) -> bytes:
    header = (
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    )
    return struct.pack("<Q", len(header)) + header + bytes(4)


KINDS: dict[str, Callable[[Any], bytes]] = {
    "pickle": pickle.dumps,
    "torch": of_torch,
    "torch before 1.6": old_torch,
    "packed": lambda evil: repacked(of_torch(None), zipfile.ZIP_DEFLATED),
    "twice": lambda evil: repacked(of_torch(None), zipfile.ZIP_STORED, twice=True),
    "numpy": lambda evil: b"\x93NUMPY" + pickle.dumps(evil),
    "safetensors": safetensors,
    "empty": lambda evil: b"",
    "cut": lambda evil: of_torch(None)[:-1],
}


def module_of(path: Path) -> Any:
    return Recommender.load(path.parents[1])


def restored(path: Path) -> Any:
    tree = {"target": {"a": {}}, "source": {}, "shared": {}}
    return fit.restore(tree, None, [Phase("joint", ROLES, 1)], path.parent)  # type: ignore[arg-type]


WAYS: dict[str, Callable[[Path], Any]] = {
    "load": load,
    "weights": weights,
    "configuration": configuration,
    "Lightning": lambda path: SafeIO().load_checkpoint(path, weights_only=False),
    "Recommender": module_of,
    "an audit's arm": restored,
}


@pytest.mark.parametrize("listed", [False, True], ids=["alone", "with a manifest"])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_in_a_checkpoint_runs(kind: str, listed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    marker, path = tmp_path / "marker", tmp_path / "run" / "checkpoints" / BEST
    path.parent.mkdir(parents=True)
    path.write_bytes(KINDS[kind](Evil(marker)))
    if listed:
        content = path.read_bytes()
        entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "step": 1}
        manifest.Manifest({BEST: entry}).write(path.parent)
    for way, read in WAYS.items():
        with pytest.raises(DataError, match=r"CKPT-00[23]") as error:
            read(path)
        assert str(path) in str(error.value), way
    said: list[str] = []
    ended = fit.read_ended(path.parent, fit.Going(said.append))  # a run that goes on says it, and begins anew
    assert ended is None
    (line,) = said
    assert str(path) in line
    assert re.search(r"CKPT-00[23]", line)
    assert not marker.exists()


def test_it_would_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch does with the same file where the environment says so, and nobody else anything."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.warns(UserWarning, match="forcing weights_only=False"):
        torch.load(io.BytesIO(of_torch(Evil(tmp_path / "marker"))))
    assert (tmp_path / "marker").is_dir()


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9/a.ckpt", "https://h/a", "file:///etc/hosts", "s3://b/a", "hf://a/b"]
)
def test_no_address_is_loaded(address: str) -> None:
    for read in (load, SafeIO().load_checkpoint):
        with pytest.raises(DataError, match="CKPT-004"):
            read(address)
    with pytest.raises(DataError, match=r"CKPT-00[14]"):
        Recommender.load(address)


def test_only_a_regular_file_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "endless").symlink_to("/dev/zero")
    for name, code in (
        ("pipe", 4),
        ("folder", 4),
        ("dangling", 1),
        ("loop", 4),
        ("endless", 4),
        ("none", 1),
        ("a\0b", 4),
    ):
        for read in (load, verify):
            with pytest.raises(DataError, match=f"CKPT-00{code}"):
                read(tmp_path / name)


def test_metadata_that_names_code_is_not_read(tmp_path: Path) -> None:
    """Lightning before 2.6.6 built what ``_class_path`` and ``_instantiator`` name; nothing of ours asks for them."""
    names = ("_class_path", "_instantiator", "_target_", "hparams_name", "hparams_type", "_orig_mod")
    evil = dict.fromkeys(names, "os.system")
    found = {"state_dict": {}, "hyper_parameters": {**evil, "nested": {"a": [evil]}, "config": {"seed": 3}}, **evil}
    checkpoint.save(found | {"global_step": 1}, tmp_path / "checkpoints" / BEST)
    assert configuration(tmp_path / "checkpoints" / BEST) == {"seed": 3}
    assert weights(tmp_path / "checkpoints" / BEST) == {}
    for odd in ({}, {"config": None}, {"config": "trunk"}, {"config": [1]}):
        checkpoint.save({"state_dict": {}, "hyper_parameters": odd, "global_step": 1}, tmp_path / "odd" / BEST)
        with pytest.raises(DataError, match="CKPT-002"):
            configuration(tmp_path / "odd" / BEST)


def test_a_bomb_of_a_configuration_is_counted_first(tmp_path: Path) -> None:
    tree: Any = ["x"]
    for _ in range(40):
        tree = [tree, tree]
    found = {"state_dict": {}, "hyper_parameters": {"config": {"target": {}, "evil": tree}}, "global_step": 1}
    checkpoint.save(found, tmp_path / "checkpoints" / BEST)
    with pytest.raises(UserError, match="more than 100,000 values"):
        Recommender.load(tmp_path)


def test_a_cache_holds_numbers_only(tmp_path: Path, compose: Compose, shop_settings: list[str]) -> None:
    """Arrays of objects, which are pointers, and files elsewhere are no cache; `np.load` there takes no pickle."""
    tree = compose([*shop_settings, f"++dataset.cache={tmp_path}"])
    protocol_of(tree).prepare(streams_of(tree))
    (folder,) = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert cache.load(folder) is not None
    right = (folder / "meta.json").read_text()
    for change in ("|O", "../codes"):
        said = json.loads(right)
        del said["own"]
        if change == "|O":
            said["arrays"]["codes"][0] = change
        else:
            said["arrays"][change] = said["arrays"]["codes"]
        said["own"] = zlib.crc32(json.dumps(said).encode())
        (folder / "meta.json").write_text(json.dumps(said))
        assert cache.load(folder) is None
    (folder / "meta.json").write_text(right)
    assert cache.load(folder) is not None
