"""A run folder from a stranger: to go on with it and to predict from it runs nothing; columns go by their names."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from graftrec.cli import main
from graftrec.training.checkpoints import checkpoint, manifest
from graftrec.training.checkpoints.checkpoint import BEST, LAST, PREVIOUS
from graftrec.utils import fault_injection

QUICK = ["transfer.epochs=2", "twin=false", "baselines=false", "trunk=shared_bottom"]
EVIL = dict.fromkeys(
    ("_class_path", "_instantiator", "_target_", "hparams_name", "_orig_mod"), "graftrec.runs.job.run_job"
)


class Evil:
    """A pickle that makes a folder where it is loaded."""

    def __reduce__(self) -> Any:
        return Path.mkdir, (Path("marker"),)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("strangers")
        patch.chdir(folder)
        patch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
        patch.delenv(fault_injection.VARIABLE, raising=False)
        yield folder


@pytest.fixture(scope="module")
def settings(place: Path, shop: Path, shop_settings: list[str]) -> list[str]:
    """Settings that train on a shop of its own, whose files may change."""
    shutil.copytree(shop, place / "shop")
    return [*QUICK, *(word.replace(str(shop), str(place / "shop")) for word in shop_settings), "++dataset.cache=off"]


@pytest.fixture(scope="module")
def stopped(place: Path, settings: list[str]) -> Path:
    """A run that was stopped in its second epoch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(fault_injection.VARIABLE, "val:2:sigterm")
        fault_injection._passed.clear()
        assert main.main(["train", *settings, "hydra.run.dir=runs/stopped"]) == 143
    fault_injection._passed.clear()
    assert (place / "runs" / "stopped" / "checkpoints" / LAST).is_file()
    return place / "runs" / "stopped"


def copy(run: Path, name: str) -> Path:
    return Path(shutil.copytree(run, run.with_name(name)))


@pytest.mark.slow
@pytest.mark.parametrize("resume", ["auto", "path"])
def test_no_way_to_go_on_runs_a_pickle(
    resume: str, stopped: Path, settings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy(stopped, f"evil_{resume}")
    folder = run / "checkpoints"
    for name in (LAST, PREVIOUS, BEST):  # with a manifest that says nothing of them
        torch.save({"state_dict": {}, "graftrec": {"schema": 1, "ended": {}}, "callbacks": Evil()}, folder / name)
    listed = manifest.Manifest()
    listed.write(folder)
    where = "auto" if resume == "auto" else str(folder / LAST)
    assert main.main(["train", *settings, f"hydra.run.dir={run}", f"resume={where}"]) == 65
    said = capsys.readouterr().err
    assert "CKPT-002" in said
    assert "cannot be loaded as weights only" in said
    assert not Path("marker").exists()


@pytest.mark.slow
def test_metadata_that_names_code_changes_nothing(
    stopped: Path, settings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy(stopped, "metadata")
    path = run / "checkpoints" / LAST
    found = checkpoint.load(path)
    found["hyper_parameters"] |= EVIL | {"config": {"trunk": EVIL}}
    checkpoint.save(found | EVIL, path)
    assert main.main(["train", *settings, f"hydra.run.dir={run}", "resume=auto"]) == 0
    assert checkpoint.configuration(run / "checkpoints" / BEST)["trunk"]["_target_"].startswith(
        "graftrec.models.trunks."
    )
    best = checkpoint.load(run / "checkpoints" / BEST)
    best["hyper_parameters"] |= EVIL
    checkpoint.save(best | EVIL, run / "checkpoints" / BEST)
    assert main.main(["predict", f"run={run}", "users=[1,2]", "k=3"]) == 0
    assert pl.read_parquet(run / "predictions.parquet").height == 6
    assert not Path("marker").exists()
    said = capsys.readouterr()
    assert "Traceback" not in said.err


@pytest.mark.slow
def test_a_prediction_reads_columns_by_their_names(
    place: Path, stopped: Path, settings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy(stopped, "columns")
    assert main.main(["train", *settings, f"hydra.run.dir={run}", "resume=auto"]) == 0
    command = ["predict", f"run={run}", "users=[1,2,3]", "k=5"]
    assert main.main(command) == 0
    before = pl.read_parquet(run / "predictions.parquet")
    lines = place / "shop" / "lines.parquet"
    frame = pl.read_parquet(lines)
    other = frame.select(pl.lit("x").alias("extra"), *reversed(frame.columns))
    other.with_columns(pl.col("user", "item").cast(pl.Int32)).write_parquet(lines)
    assert main.main(command) == 0
    assert pl.read_parquet(run / "predictions.parquet").equals(before)
    capsys.readouterr()
    frame.drop("item").write_parquet(lines)
    assert main.main(command) == 2
    assert "item" in capsys.readouterr().err
    assert pl.read_parquet(run / "predictions.parquet").equals(before)
    assert main.main(["predict", "run=http://127.0.0.1:9/run"]) == 2
    assert "run: should be the folder of a run" in capsys.readouterr().err
    frame.write_parquet(lines)
