"""Weights, finished jobs and runs that go on are tied to their data: one other id or label, and they are refused."""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

import graftrec
from graftrec.runs import data_identity
from graftrec.runs.audit.source_selection import settled
from graftrec.runs.recommender import Recommender
from graftrec.training.builder import assemble, learnt_in, protocol_of, streams_of
from graftrec.training.checkpoints import checkpoint
from graftrec.training.checkpoints.checkpoint import BEST, LAST, PREVIOUS
from graftrec.training.fit import Going, data_of, read_ended, start_of, twin_plan
from graftrec.transfer.base import Phase
from graftrec.transfer.joint import Joint
from graftrec.utils import best_effort
from graftrec.utils.errors import DataError

Compose = Callable[[list[str]], dict[str, Any]]
ALONE = ["task@source=[]", "task@target=[recommend]", "task@shared=[]", "trunk=shared_bottom", "++encoder.width=8"]


@pytest.fixture
def files(shop: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shop, tmp_path / "shop"))


@pytest.fixture
def tree(files: Path, shop: Path, shop_settings: list[str], compose: Compose) -> dict[str, Any]:
    own = [setting.replace(str(shop), str(files)) for setting in shop_settings]
    return compose([*own, "++dataset.cache=off", *ALONE])


def change(path: Path, *columns: pl.Expr) -> None:
    pl.read_parquet(path).with_columns(*columns).write_parquet(path)


RENAMED = pl.col("item").replace(101, 9999)  # one item gets another id
CHANGES: dict[str, tuple[str, pl.Expr]] = {
    "id": ("lines", RENAMED),
    "time": ("lines", pl.when(pl.int_range(pl.len()) == 7).then(pl.col("time").dt.offset_by("1s")).otherwise("time")),
    "label": (
        "lines",
        pl.when(pl.int_range(pl.len()) == 7).then(1 - pl.col("click")).otherwise("click").alias("click"),
    ),
    "attribute": ("products", pl.col("brand").replace("own", "house")),
    "user's attribute": ("households", pl.col("age").replace("30", "31")),
}


@pytest.mark.parametrize("what", CHANGES)
def test_the_fingerprint_is_of_all_that_the_data_say(what: str, tree: dict[str, Any], files: Path) -> None:
    tree["dataset"]["labels"] = {"click": "binary"}
    before = protocol_of(tree).fingerprint
    path = files / f"{CHANGES[what][0]}.parquet"
    pl.read_parquet(path).sample(fraction=1.0, shuffle=True, seed=1).write_parquet(path)
    assert protocol_of(tree).fingerprint == before  # the order of rows says nothing
    change(path, CHANGES[what][1])
    assert protocol_of(tree).fingerprint != before


def saved(tree: dict[str, Any], run: Path, phase: Phase, read: list[str] | None = None) -> tuple[Any, Any]:
    """What a run leaves to serve with, of weights that nobody trained; the module and the data that were read."""
    protocol = protocol_of(tree)
    protocol.prepare(read or streams_of(tree), judged=streams_of(tree, ("target",)))
    module = assemble(tree, protocol, phase.roles, 0, learnt_in(tree, phase))
    content = {"state_dict": module.state_dict(), "hyper_parameters": {"config": tree}}
    checkpoint.save({**content, "graftrec": {"data": data_of(protocol), "means": []}}, run / "checkpoints" / BEST)
    return module, protocol


def test_weights_do_not_serve_a_neighbours_item(tree: dict[str, Any], files: Path, tmp_path: Path) -> None:
    saved(tree, tmp_path / "run", Joint().phases()[-1])
    before = Recommender.load(tmp_path / "run").recommend([1, 2], 3)
    assert before.equals(Recommender.load(tmp_path / "run").recommend([1, 2], 3))
    change(files / "lines.parquet", RENAMED)
    with pytest.raises(DataError, match=r"CKPT-008 .*best.ckpt.*trained on other data"):
        Recommender.load(tmp_path / "run")


def test_a_run_whose_search_chose_no_source_serves(compose: Compose, shop_settings: list[str], tmp_path: Path) -> None:
    """Its data were read with the sources, which decide how users are numbered; its settings have none any more."""
    tree = compose([
        *shop_settings, "protocol=cross_domain", "++dataset.domain=department", "trunk=shared_bottom",
        "task@shared=[]", "task@source=[grocery_recommend]", "task@target=[produce_recommend]", "transfer=auto",
        "++encoder.width=8",
    ])  # fmt: skip
    alone = settled(tree, {})
    (phase,) = twin_plan(Joint().phases())
    module, protocol = saved(alone, tmp_path, phase, streams_of(tree))
    served = Recommender.load(tmp_path)
    own = Recommender(module, protocol, "produce_recommend")
    torch.testing.assert_close(served.scores(own.users()), own.scores(own.users()))


def test_a_run_goes_on_with_its_own_data_alone(tree: dict[str, Any], files: Path, tmp_path: Path) -> None:
    data_identity.check(tmp_path, "a" * 20)  # nothing was trained there
    found = protocol_of(tree).fingerprint
    (tmp_path / "data_card.json").write_text(json.dumps({"fingerprint": found}))
    data_identity.check(tmp_path, found)
    data_identity.check_job(tree, tmp_path)
    change(files / "lines.parquet", CHANGES["id"][1])
    data_identity._known.clear()  # of another call
    with pytest.raises(DataError, match=r"RUN-003 .*other data.*resume=null"):
        data_identity.check_job(tree, tmp_path)
    (tmp_path / "data_card.json").write_text(json.dumps({"fingerprint": "0123456789abcdef"}))
    data_identity.check(tmp_path, found)  # an older version's name for them


# --- the last good checkpoint


def checkpoints(folder: Path) -> Path:
    for name in (BEST, LAST):
        keep = PREVIOUS if name == LAST else ""
        for step in range(2):
            content = {"state_dict": {"a": torch.ones(9) * step}, "global_step": step, "graftrec": {}}
            checkpoint.save({**content, "hyper_parameters": {"config": {}}}, folder / name, keep)
    return folder


def test_a_damaged_best_checkpoint_is_not_the_end(tmp_path: Path) -> None:
    folder, said = checkpoints(tmp_path), list[str]()
    going = Going(said.append)
    assert read_ended(folder, going) is None  # it is whole, and its phase has not ended
    content = (folder / BEST).read_bytes()
    (folder / BEST).write_bytes(content[:200] + b"\0\1\2\3" + content[204:])
    assert read_ended(folder, going) is None
    assert "best.ckpt is damaged" in said[0]
    assert start_of(folder, going) == folder / LAST


def test_where_no_checkpoint_is_good_the_phase_begins_anew_and_can_save(tmp_path: Path) -> None:
    folder, said = checkpoints(tmp_path), list[str]()
    (folder / "manifest.json").write_text("{")
    assert start_of(folder, Going(said.append)) is None
    assert "the phase begins anew" in said[-1]
    assert not list(folder.glob("*.ckpt"))
    checkpoints(folder)
    assert start_of(folder, Going(said.append)) == folder / LAST


# --- what stands beside a result


def test_a_plot_that_fails_is_told_and_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    done = []

    def fails() -> None:
        raise ValueError("no axis")

    assert best_effort.tried({"a.png": fails, "b.png": lambda: done.append(1)}) == {
        "a.png": "could not be made: ValueError: no axis"
    }
    assert done == [1]
    assert "a.png could not be made" in capsys.readouterr().err
    with pytest.raises(OSError, match="full"):
        best_effort.tried({"a.png": lambda: (_ for _ in ()).throw(OSError(28, "full"))})


@pytest.mark.parametrize("module", ["runs/train.py", "runs/audit/audit.py"])
def test_no_plot_or_page_is_made_otherwise(module: str) -> None:
    text = (Path(graftrec.__file__).parent / module).read_text()
    odd = [
        ast.unparse(node)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name)
        if node.func.value.id in ("plots", "run_page", "heat_map", "audit_page") or node.func.attr == "show"
    ]
    assert odd == []
