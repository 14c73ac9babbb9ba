"""What is undefined is never the best, stops nothing unseen, and is not what it was an epoch ago."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping
from test_module import Batches, evaluation, module, training

from graftrec.runs.train import train
from graftrec.tasks.metrics.pointwise import Value
from graftrec.training.callbacks.checkpointing import Keeper
from graftrec.training.checkpoints.checkpoint import BEST, load
from graftrec.training.fit import quiet
from graftrec.training.lightning_module import GraftModule

Compose = Callable[[list[str]], dict[str, Any]]


def fit(scores: list[float], folder: Path, monkeypatch: pytest.MonkeyPatch, *callbacks: pl.Callback) -> Keeper:
    """An epoch of one step for each of these scores."""
    given: Iterator[float] = iter(scores)
    monkeypatch.setattr(GraftModule, "score", lambda _: next(given))
    keeper = Keeper(folder, monitored=True)
    with quiet():
        trainer = pl.Trainer(
            max_epochs=len(scores), logger=False, callbacks=[keeper, *callbacks], accelerator="cpu", devices=1,
            num_sanity_val_steps=0, enable_model_summary=False, enable_progress_bar=False, default_root_dir=folder,
        )  # fmt: skip
        trainer.fit(module(), Batches([training()]), Batches(evaluation()))
    return keeper


@pytest.mark.parametrize(
    ("scores", "best", "step"),
    [
        ([0.5, math.nan, 0.4], 0.5, 1),
        ([math.nan, 0.3, math.nan], 0.3, 2),
        ([0.2, math.inf, 0.4], 0.4, 3),
        ([-math.inf, math.nan], None, 0),
    ],
)
def test_a_score_that_is_not_finite_chooses_nothing(
    scores: list[float], best: float | None, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = fit(scores, tmp_path, monkeypatch)
    assert keeper.score == best
    assert (tmp_path / BEST).is_file() == (best is not None)
    if best is not None:
        assert load(tmp_path / BEST)["global_step"] == step
    else:
        assert keeper.path == tmp_path / "last.ckpt"


def test_a_metric_that_is_undefined_now_is_not_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning would go on showing the last value to a callback that stops early."""
    compute = iter([0.25, None])
    task = type(module().task("recommend"))
    monkeypatch.setattr(task, "compute", lambda self: {"ndcg@2": Value(next(compute), "0 rows")})
    stopping = EarlyStopping("val/recommend/ndcg@2", mode="max", patience=5)
    with pytest.raises(RuntimeError, match="`val/recommend/ndcg@2` which is not available"):
        fit([0.5, 0.6], tmp_path, monkeypatch, stopping)
    assert stopping.best_score == 0.25


def test_who_stops_early_is_told_and_stands_beside_our_own_callbacks(
    compose: Compose, shop_settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for drawing in ("plots.learning_curves", "plots.comparison", "run_page.write_report"):
        monkeypatch.setattr(f"graftrec.evaluation.report.{drawing}", lambda *_, **__: None)
    scores = iter([0.5, math.nan])
    monkeypatch.setattr(GraftModule, "score", lambda _: next(scores, 0.5))
    stopping = "{_target_: pytorch_lightning.callbacks.EarlyStopping, monitor: val/score, mode: max}"
    few = ["++trainer.limit_train_batches=1", "++transfer.epochs=5", "twin=false", "baselines=false"]
    train(compose([*shop_settings, *few, "trunk=shared_bottom", f"++trainer.callbacks=[{stopping}]"]), tmp_path)
    assert load(tmp_path / "checkpoints" / BEST)["global_step"] == 1  # of the first epoch
    said = " ".join(capsys.readouterr().out.split())
    assert "joint: stopped early: Monitored metric val/score = nan is not finite" in said
