"""Checkpoints on disk: whole or not there, and never loaded when a byte of them is wrong."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from graftrec.training.checkpoints import checkpoint, manifest
from graftrec.training.checkpoints.checkpoint import (
    BEST,
    LAST,
    PREVIOUS,
    SafeIO,
    check_fit,
    load,
    save,
    verify,
    weights,
)
from graftrec.utils import atomic_files, fault_injection
from graftrec.utils.errors import DISK, DataError, UserError, outcome


def state(step: int, rows: int = 50) -> dict[str, Any]:
    random = torch.Generator().manual_seed(step)
    return {
        "global_step": step,
        "state_dict": {"a.weight": torch.randn(rows, 4, generator=random), "a.bias": torch.randn(4, generator=random)},
        "hyper_parameters": {"config": {"seed": step}},
    }


def in_folder(folder: Path) -> Path:
    """A folder with a last, a previous and a best checkpoint."""
    for step in (1, 2):
        SafeIO().save_checkpoint(state(step), folder / LAST)
    SafeIO().save_checkpoint(state(3), folder / BEST)
    return folder


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    fault_injection._passed.clear()
    yield monkeypatch
    fault_injection._passed.clear()


def test_what_is_saved_is_loaded_and_listed(tmp_path: Path) -> None:
    in_folder(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [BEST, LAST, manifest.NAME, PREVIOUS]
    for name, step in ((PREVIOUS, 1), (LAST, 2), (BEST, 3)):
        loaded = SafeIO().load_checkpoint(tmp_path / name, weights_only=False)
        assert torch.equal(loaded["state_dict"]["a.weight"], state(step)["state_dict"]["a.weight"])
        assert loaded["graftrec"] == {"schema": checkpoint.SCHEMA}
        (entry,) = manifest.read(tmp_path).of(name)
        content = (tmp_path / name).read_bytes()
        assert entry == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "step": step}
    SafeIO().remove_checkpoint(tmp_path / PREVIOUS)
    assert manifest.read(tmp_path).of(PREVIOUS) == []
    assert sorted(os.listdir(tmp_path)) == [BEST, LAST, manifest.NAME]


def damages() -> list[tuple[str, int]]:
    """200 of them, spread over the files."""
    kinds = ("flip", "zero", "cut", "append", "swap")
    return [(kind, place) for place in range(40) for kind in kinds]


def test_no_damage_of_200_is_loaded(tmp_path: Path) -> None:
    loud = 0
    in_folder(tmp_path)
    for number, (kind, place) in enumerate(damages()):
        target = tmp_path / (LAST, BEST, PREVIOUS, manifest.NAME)[number % 4]
        before = target.read_bytes()
        at = place * (len(before) - 1) // 39
        broken = bytearray(before)
        if kind == "flip":
            broken[at] ^= 1 << (place % 8)
        elif kind == "zero":
            broken[at : at + 16] = bytes(len(broken[at : at + 16]))
        elif kind == "cut":
            del broken[at:]
        elif kind == "append":
            broken += bytes([place])
        elif kind == "swap":  # another good file, or another place
            other = tmp_path / (PREVIOUS if target.name != PREVIOUS else BEST)
            broken = bytearray(other.read_bytes() if target.name != manifest.NAME else before[at:] + before[:at])
        if bytes(broken) == before:  # zeros already, or swapped with itself
            broken[at] ^= 255
        target.write_bytes(bytes(broken))
        checked = tmp_path / BEST if target.name == manifest.NAME else target
        for read in (load, verify, weights):
            with pytest.raises(DataError, match=r"CKPT-00[36]") as error:
                read(checked)
            assert str(tmp_path) in str(error.value)
        loud += 1
        target.write_bytes(before)
        load(checked)
    assert loud == 200


def test_without_a_manifest_the_files_own_checksums_count(tmp_path: Path) -> None:
    save(state(1), tmp_path / "a" / BEST)
    alone = tmp_path / "copied.ckpt"
    content = bytearray((tmp_path / "a" / BEST).read_bytes())
    alone.write_bytes(content)
    assert load(alone)["global_step"] == 1
    with zipfile.ZipFile(alone) as archive:
        data = max(archive.infolist(), key=lambda info: info.file_size)
    content[data.header_offset + 30 + len(data.filename) + data.file_size // 2] ^= 1
    alone.write_bytes(content)
    with pytest.raises(DataError, match="CKPT-003"):
        load(alone)
    alone.write_bytes(content[:1000])
    with pytest.raises(DataError, match="CKPT-002"):
        load(alone)


def test_only_local_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.ckpt")
    (tmp_path / "folder.ckpt").mkdir()
    (tmp_path / "dangling.ckpt").symlink_to(tmp_path / "gone")
    for name, code in (("pipe", 4), ("folder", 4), ("dangling", 1), ("none", 1)):
        with pytest.raises(DataError, match=f"CKPT-00{code}"):
            load(tmp_path / f"{name}.ckpt")
    with pytest.raises(DataError, match="CKPT-004"):
        SafeIO().load_checkpoint("http://127.0.0.1:9/model.ckpt")


class Marker:
    """A pickle that leaves a file behind where it is run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("forced", ["", "1"])
def test_no_code_in_a_checkpoint_is_run(forced: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", forced)
    torch.save({"state_dict": {}, "callbacks": Marker(tmp_path / "ran")}, tmp_path / "evil.ckpt")
    with pytest.raises(DataError, match="CKPT-002"):
        SafeIO().load_checkpoint(tmp_path / "evil.ckpt", weights_only=False)
    assert not (tmp_path / "ran").exists()


def test_a_newer_schema_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "SCHEMA", 99)
    save(state(1), tmp_path / BEST)
    monkeypatch.undo()
    with pytest.raises(DataError, match=r"CKPT-005.*99"):
        load(tmp_path / BEST)


def test_a_manifest_of_the_first_version_still_counts(tmp_path: Path) -> None:
    save(state(1), tmp_path / BEST)
    content = (tmp_path / BEST).read_bytes()
    entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    old = {"version": 1, "files": {BEST: entry, "pretrain/best.ckpt": entry}}
    (tmp_path / manifest.NAME).write_text(json.dumps(old))
    assert load(tmp_path / BEST)["global_step"] == 1
    (tmp_path / BEST).write_bytes(content + b"x")
    with pytest.raises(DataError, match="CKPT-003"):
        load(tmp_path / BEST)


def in_child(work: Any) -> int:
    """Run ``work`` in a forked process; its exit code, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("point", range(1, 5))
def test_killed_at_any_point_of_a_save(point: int, tmp_path: Path, fault: pytest.MonkeyPatch) -> None:
    in_folder(tmp_path)
    fault.setenv(fault_injection.VARIABLE, f"save:{point}:sigkill")
    fault_injection._passed.clear()
    assert in_child(lambda: SafeIO().save_checkpoint(state(9), tmp_path / LAST)) == -signal.SIGKILL
    fault.delenv(fault_injection.VARIABLE)
    found = {name: load(tmp_path / name)["global_step"] for name in (LAST, PREVIOUS) if (tmp_path / name).exists()}
    assert max(found.values()) == (9 if point == 4 else 2)
    assert atomic_files.sweep(tmp_path) == (point < 4)
    assert set(os.listdir(tmp_path)) <= {LAST, PREVIOUS, BEST, manifest.NAME}
    for step in (10, 11):
        SafeIO().save_checkpoint(state(step), tmp_path / LAST)  # goes on as if nothing had been
    assert [load(tmp_path / name)["global_step"] for name in (PREVIOUS, LAST)] == [10, 11]


def test_an_interrupted_save_leaves_nothing(tmp_path: Path) -> None:
    class Interrupts:
        def __reduce__(self) -> Any:
            raise KeyboardInterrupt

    in_folder(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(KeyboardInterrupt):
        SafeIO().save_checkpoint({**state(4), "callbacks": Interrupts()}, tmp_path / LAST)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_size_limit_reads_as_a_full_disk(tmp_path: Path) -> None:
    in_folder(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OSError) as error:  # noqa: PT011  # its number is looked at below
            SafeIO().save_checkpoint(state(4, rows=5000), tmp_path / LAST)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    code, said = outcome(error.value)
    assert (code, error.value.errno) == (DISK, errno.EFBIG)
    needed = int(said.split(" needs ")[1].split(" bytes")[0].replace(",", ""))
    assert 80_000 < needed < 90_000
    assert str(tmp_path / LAST) in said
    assert "bytes are free" in said
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_full_disk_by_the_hook(tmp_path: Path, fault: pytest.MonkeyPatch) -> None:
    in_folder(tmp_path)
    fault.setenv(fault_injection.VARIABLE, "save:1:enospc")
    with pytest.raises(OSError) as error:  # noqa: PT011
        save(state(4), tmp_path / BEST)
    assert outcome(error.value)[0] == DISK
    assert load(tmp_path / BEST)["global_step"] == 3


def test_another_models_weights_are_told_by_name() -> None:
    module = nn.ModuleDict({"tasks": nn.ModuleDict({"rate": nn.Linear(2, 1), "buy": nn.Linear(2, 1)})})
    there = dict(module.state_dict())
    check_fit(there, module, "last.ckpt")
    click = {name.replace("buy", "click"): value for name, value in there.items()}
    with pytest.raises(UserError, match="task click is in the checkpoint and not here; task buy is here and not in"):
        check_fit(click | {"encoder.tables.item.weight": torch.zeros(3, 2)}, module, "last.ckpt")
    with pytest.raises(UserError, match=r"table of item is in the checkpoint and not here"):
        check_fit(there | {"encoder.tables.item.weight": torch.zeros(3, 2)}, module, "last.ckpt")
    with pytest.raises(UserError, match=r"tasks\.buy\.weight is \(1, 3\) in the checkpoint and \(1, 2\) here"):
        check_fit(there | {"tasks.buy.weight": torch.zeros(1, 3)}, module, "last.ckpt")


def test_faults_cost_nothing_and_are_checked(fault: pytest.MonkeyPatch) -> None:
    fault_injection.strike("save")
    assert not fault_injection._passed
    fault.setenv(fault_injection.VARIABLE, "save:1:explode")
    with pytest.raises(ValueError, match="explode"):
        fault_injection.strike("save")


FULL_DISK = """
import sys
from pathlib import Path
import torch
from graftrec.training.checkpoints.checkpoint import LAST, SafeIO, load
from graftrec.utils.errors import outcome
folder = Path(sys.argv[1])
state = lambda step, rows: {"global_step": step, "state_dict": {"w": torch.full((rows, 100), float(step))}}
SafeIO().save_checkpoint(state(1, 1000), folder / LAST)
SafeIO().save_checkpoint(state(2, 1000), folder / LAST)
try:
    SafeIO().save_checkpoint(state(3, 6000), folder / LAST)
except OSError as error:
    code, said = outcome(error)
    print(said)
assert code == 74
found = {path.name: load(path)["global_step"] for path in folder.glob("*.ckpt")}
assert found == {"last.ckpt": 2, "previous.ckpt": 1}, found
assert sorted(path.name for path in folder.iterdir()) == ["last.ckpt", "manifest.json", "previous.ckpt"]
"""


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_of_3_mb(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode()}")
    try:
        own = {**os.environ, "TMPDIR": str(tmp_path)}
        ran = subprocess.run([sys.executable, "-c", FULL_DISK, str(disk)], env=own, capture_output=True, text=True)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert ran.returncode == 0, ran.stderr
    assert str(disk / LAST) in ran.stdout
    assert "needs 2,40" in ran.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk"]  # nothing in TMPDIR either
