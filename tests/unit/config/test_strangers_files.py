"""Names, numbers and links of strangers: no file outside its folder, none through a link, no memory for a number."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graftrec.config import instantiate, size_limits
from graftrec.data.datasets.files import Files
from graftrec.data.sources import download
from graftrec.data.tables.domains import slug
from graftrec.data.tables.interactions import Column
from graftrec.runs.audit.audit import settings
from graftrec.training.builder import protocol_of, streams_of
from graftrec.training.checkpoints import checkpoint
from graftrec.utils import atomic_files
from graftrec.utils.errors import DataError, UserError
from graftrec.utils.filenames import wrong_name

Compose = Callable[[list[str]], dict[str, Any]]
WRONG = [
    "", ".", "..", "../x", "a/b", "a\\b", "/etc/passwd", "C:x", "a\0b", "a\nb", "a\x1bb", "a*", "a?", 'a"', "a<b",
    "a|b", ".hidden", "-rf", " a", "a ", "a.", "con", "CON", "nul.txt", "LPT1", "Aux.tar.gz", "x" * 101, "a\u202eb",
]  # fmt: skip
RIGHT = ["a", "recommend", "a b", "x.y", "drug_gm", "комеди", "é", "a-b", "console", "com", "lpt10"]


@pytest.mark.parametrize("name", WRONG)
def test_a_name_is_one_file_in_one_folder(name: str) -> None:
    assert wrong_name(name)
    found = instantiate.problems_of_tree({"target": {name: {}}})
    assert any(problem.startswith(f"target.{name}: the name ") for problem in found)
    with pytest.raises(ValueError, match="name "):
        Files("rows.csv", user="user", name=name)


def test_names_that_are_right() -> None:
    assert [name for name in RIGHT if wrong_name(name)] == []


@given(st.text())
def test_whatever_is_called_right_stays_in_its_folder(name: str) -> None:
    if not wrong_name(name):
        assert (Path("/a/b") / name).resolve().parent == Path("/a/b")
        assert Path(name).name == name


@given(st.text(alphabet=st.characters(codec="utf-8"), min_size=1))
def test_a_domain_of_any_value_has_a_name_without_separators(value: str) -> None:
    assert not set(slug(value)) & set('/\\:*?"<>|.\0\n\r\t \x1b')
    assert slug(value)


# --- links


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "victim"
    path.write_text("mine")
    return path


def test_a_draft_is_not_written_through_a_link(tmp_path: Path, victim: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draft = tmp_path / f".x.json.{os.getpid()}{atomic_files.DRAFT}"
    draft.symlink_to(victim)
    with atomic_files.whole(tmp_path / "x.json") as path:
        path.write_text("new")
    assert (tmp_path / "x.json").read_text() == "new"
    assert not (tmp_path / "x.json").is_symlink()
    draft.symlink_to(victim)  # and one that is put there in the moment after the look
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
    with pytest.raises(FileExistsError), atomic_files.whole(tmp_path / "x.json") as path:
        path.write_text("evil")
    monkeypatch.undo()
    assert victim.read_text() == "mine"


def test_what_is_replaced_is_the_link_and_not_what_it_leads_to(tmp_path: Path, victim: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in (checkpoint.BEST, checkpoint.LAST, checkpoint.PREVIOUS, "manifest.json"):
        (folder / name).symlink_to(victim)
    victim.write_text("{}")
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").symlink_to(tmp_path / "gone")
    for step in (1, 2):
        checkpoint.SafeIO().save_checkpoint({"state_dict": {}, "global_step": step}, folder / checkpoint.LAST)
    assert victim.read_text() == "{}"
    assert not (tmp_path / "gone").exists()
    assert checkpoint.load(folder / checkpoint.LAST)["global_step"] == 2


def test_drafts_are_removed_and_links_are_not_followed(tmp_path: Path, victim: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / f".a.1{atomic_files.DRAFT}").write_text("of another run")
    run = tmp_path / "run"
    run.mkdir()
    (run / "linked").symlink_to(elsewhere)
    (run / f".b.1{atomic_files.DRAFT}").symlink_to(victim)
    assert atomic_files.sweep(run) == 1
    assert victim.read_text() == "mine"
    assert (elsewhere / f".a.1{atomic_files.DRAFT}").exists()


def test_a_cache_is_not_written_through_a_link(tmp_path: Path, compose: Compose, shop_settings: list[str]) -> None:
    tree = compose([*shop_settings, f"++dataset.cache={tmp_path / 'cache'}"])
    protocol_of(tree).prepare(streams_of(tree))
    (folder,) = (tmp_path / "cache").iterdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine").write_text("mine")
    folder.rename(tmp_path / "old")
    folder.symlink_to(elsewhere)
    protocol_of(tree).prepare(streams_of(tree))
    assert [path.name for path in elsewhere.iterdir()] == ["mine"]
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [folder.name]
    assert not folder.is_symlink()


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_the_umask_says_who_may_read(mask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        checkpoint.save({"state_dict": {}, "global_step": 1}, tmp_path / "a" / checkpoint.BEST)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "a").iterdir()} == {mode}


# --- archives


def zipped(names: list[str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), b"")
    return out.getvalue()


def tarred(names: list[str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
    return out.getvalue()


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_an_archive_of_too_many_members(
    pack: Callable[[list[str]], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert download.MAX_MEMBERS == 100_000
    monkeypatch.setattr(download, "MAX_MEMBERS", 1000)
    monkeypatch.setattr(download, "MAX_RATIO", 10_000)
    for count, packed in ((1001, "too many"), (1000, "right")):
        (tmp_path / packed).write_bytes(pack(["mine", *(f"x{number}" for number in range(count - 1))]))
    with pytest.raises(DataError, match=r"DATA-062.*more than 1,000 members"):
        download.extract(tmp_path / "too many", tmp_path / "out", ["mine"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["right", "too many"]
    assert (download.extract(tmp_path / "right", tmp_path / "out", ["mine"]) / "mine").is_file()


@pytest.mark.parametrize(
    "name", ["a\0b", "C:\\evil", "C:evil", "evil.", "evil ", "con", "a/../b", "//a", "a\x1b[31m", "..."]
)
def test_a_member_with_a_name_that_is_none(name: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(zipped(["mine", name]))
    with pytest.raises(DataError, match=r"DATA-062.*lead out of the folder"):
        download.extract(tmp_path / "a", tmp_path / "out", [name])
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    download.extract(tmp_path / "a", tmp_path / "out", ["mine"])  # one that nobody asked for is left alone
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


# --- numbers


@pytest.mark.parametrize("number", [10**12, 2**63, 10**30, -(2**63)])
def test_a_number_that_no_machine_has_room_for_is_refused_by_name(number: int) -> None:
    places: dict[str, dict[str, Any]] = {
        "encoder.width": {"encoder": {"_target_": "graftrec.models.encoder.Encoder", "width": number}},
        "trunk.layers": {"trunk": {"_target_": "graftrec.models.trunks.transformer.Transformer", "layers": number}},
        "trunk.hidden.1": {
            "trunk": {"_target_": "graftrec.models.trunks.shared_bottom.SharedBottom", "hidden": [8, number]}
        },
        "candidates.min_users": {
            "candidates": {"_target_": "graftrec.data.streams.sampling_config.Candidates", "min_users": number}
        },
        "history.length": {"history": {"_target_": "graftrec.data.streams.sampling_config.History", "length": number}},
        "trainer.devices": {"trainer": {"_target_": "pytorch_lightning.Trainer", "devices": number}},
        "trainer.max_steps": {"trainer": {"_target_": "pytorch_lightning.Trainer", "max_steps": number}},
    }
    for place, tree in places.items():
        found = instantiate.problems_of_tree(tree)
        assert any(problem.startswith(f"{place}: should be at most") for problem in found), (place, found)
    for key in ("seeds", "workers"):
        with pytest.raises(UserError, match=f"audit.{key}: should be a whole number"):
            settings({"audit": {key: number}})
        assert [problem.partition(": should be ")[0] for problem in instantiate.problems_of_tree({key: number})] == [
            key
        ]


def test_the_bounds_of_sizes_and_of_seeds() -> None:
    assert list(size_limits.too_large("width", 65_536)) == []
    assert list(size_limits.too_large("width", 65_537)) == [("", 65_537, 65_536)]
    assert list(size_limits.too_large("seed", 2**40)) == []
    assert list(size_limits.too_large("features", {"a": {"kind": "text", "buckets": 10**12}})) == [
        (".a.buckets", 10**12, 2**24)
    ]
    with pytest.raises(ValueError, match="buckets"):
        Column("text", buckets=10**12)


def test_an_id_of_2_to_the_63_is_an_id_like_any_other(tmp_path: Path) -> None:
    """The table has as many rows as there are ids, whatever they are."""
    (tmp_path / "rows.csv").write_text(
        "user,item\n" + "".join(f"{2**63 + n % 3},{10**18 * (n % 2)}\n" for n in range(12))
    )
    found = Files(str(tmp_path / "rows.csv"), user="user", item="item", cache="off").read()
    assert found.keys["user"].keys.len() == 3
    assert str(2**63) in found.keys["user"].keys.cast(str).to_list()
    assert torch.from_numpy(found.keys["user"].codes.astype("int64")).max() < 4
