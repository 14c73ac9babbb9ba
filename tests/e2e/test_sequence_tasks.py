"""Tasks on sequences from files to metrics: behaviours, labels beside what follows, a platform known by content."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from graftrec.runs.train import train
from graftrec.training.builder import assemble, prepare
from graftrec.training.checkpoints.checkpoint import weights
from graftrec.transfer.base import ROLES

Compose = Callable[[list[str]], dict[str, Any]]
pytestmark = pytest.mark.slow
KINDS, CHANCE = 6, 0.95  # after an item of one category comes one of the next, but for a few

ALONE = ["task@shared=[]", "trunk=sasrec", "split=leave_last_out", "++candidates.min_users=0", "encoder.id_dropout=0.0"]
ALONE += [
    "++encoder.width=16",
    "++trunk.layers=1",
    "++protocol.batch_size=32",
    "++optimizer.lr=0.01",
    "schedule=constant",
]
NOW = ["++history.short=12", "++trainer.log_every_n_steps=1000"]


def walks(random: np.random.Generator, lengths: Sequence[int], items: int) -> list[tuple[int, int, float]]:
    """User, item and day; item n is of category n % KINDS."""
    rows = []
    for user, length in enumerate(lengths):
        kind = int(random.integers(KINDS))
        for day in range(length):
            rows.append((user, int(random.integers(items // KINDS)) * KINDS + kind, float(day)))
            kind = (kind + 1) % KINDS if random.random() < CHANCE else int(random.integers(KINDS))
    return rows


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than such a run."""
    for drawing in ("plots.learning_curves", "plots.comparison", "run_page.write_report"):
        monkeypatch.setattr(f"graftrec.evaluation.report.{drawing}", lambda *_, **__: None)


def written(folder: Path, rows: pl.DataFrame, **more: str) -> list[str]:
    """Settings that read these rows, whose items have their category in a file of their own."""
    rows.write_csv(folder / "rows.csv")
    items = rows.select("item").unique().sort("item")
    number = pl.col("item").cast(pl.String).str.extract(r"(\d+)$").cast(pl.Int64)
    items.with_columns(("c" + (number % KINDS).cast(pl.String)).alias("category")).write_csv(folder / "items.csv")
    roles = {"user": "user", "item": "item", "time": "time", "time_unit": "days", **more}
    return [
        "dataset=files",
        f"dataset.path={folder}/rows.csv",
        f"++dataset.items={folder}/items.csv",
        *(f"++dataset.{role}={column}" for role, column in roles.items()),
    ]


def done(tree: dict[str, Any], folder: Path) -> tuple[dict[str, Any], pl.DataFrame]:
    train(tree, folder)
    return json.loads((folder / "metrics.json").read_text()), pl.read_parquet(folder / "users.parquet")


def test_behaviours_are_tasks_of_different_roles_and_each_is_judged_by_its_own(
    compose: Compose, tmp_path: Path, silent: None
) -> None:
    random = np.random.default_rng(0)
    rows = pl.DataFrame(walks(random, [10] * 60, 12), ["user", "item", "time"], orient="row")
    rows = rows.with_columns(pl.Series("click", random.integers(0, 2, len(rows))))
    rows = rows.with_columns(conversion=1 - pl.col("click") * pl.Series(random.integers(0, 2, len(rows))))
    settings = [*written(tmp_path, rows), *ALONE, *NOW, "++transfer.epochs=25", "twin=false"]
    settings += ["++dataset.labels={click: binary, conversion: binary}", "++dataset.events={click: 1, conversion: 1}"]
    tree = compose([*settings, "task@source=[next_click]", "task@target=[next_conversion]"])
    metrics, users = done(tree, tmp_path / "run")
    assert metrics["roles"] == {"next_click": "source", "next_conversion": "target"}
    last = rows.filter(pl.col("time") == 9.0)
    for task, column, arms in (
        ("next_click", "click", ["grafted", "popularity"]),
        ("next_conversion", "conversion", ["grafted", "popularity", "item_knn", "ease"]),
    ):
        asked = int(last[column].sum())
        assert 0 < asked < len(last)
        for arm in arms:
            own = users.filter(arm=arm, task=task, metric="recall@10")
            assert int(own["value"].is_not_nan().sum()) == asked, arm
        assert metrics["test"][task]["gauc"] > 0.8  # chance: 0.5


def test_labels_are_learnt_beside_what_follows(compose: Compose, tmp_path: Path, silent: None) -> None:
    """One trunk over one sequence: click, watch time and what follows, each with metrics of its own rows."""
    random = np.random.default_rng(1)
    rows = pl.DataFrame(walks(random, [10] * 80, 12), ["user", "item", "time"], orient="row")
    rows = rows.with_columns(click=pl.col("item") // KINDS % 2)
    rows = rows.with_columns(watch_time=pl.col("click") * (5.0 + pl.col("item")))
    settings = [*written(tmp_path, rows), *ALONE, *NOW, "++transfer.epochs=25", "twin=false"]
    settings += ["++trainer.check_val_every_n_epoch=25"]  # the last weights: the target's best are early ones
    settings += ["++dataset.labels={click: binary, watch_time: number}", "++source.watch_time.loss.every_row=true"]
    for task in ("click", "watch_time"):
        settings += [f"source.{task}.stream=sequences", f"++source.{task}.reads=positions"]
    tree = compose([*settings, "task@source=[click,watch_time]", "task@target=[next_item]"])
    metrics, _ = done(tree, tmp_path / "run")
    assert metrics["test"]["click"]["auc"] > 0.95  # the item that is asked about says it
    assert metrics["test"]["watch_time"]["rmse"] < 0.5 * metrics["baselines"]["watch_time"]["mean"]["rmse"]
    assert metrics["test"]["next_item"]["gauc"] > 0.8


def test_a_platform_is_ranked_by_content_that_another_one_taught(
    compose: Compose, tmp_path: Path, silent: None
) -> None:
    """No id is shared; most items of the target have no training row and stand where their category puts them."""
    random = np.random.default_rng(2)
    parts = []
    for name, lengths, items in (("a", [10] * 200, 30), ("b", [4] * 2 + [3] * 40, 120)):
        part = pl.DataFrame(walks(random, lengths, items), ["user", "item", "time"], orient="row")
        own = [pl.concat_str(pl.lit(name), pl.col(column).cast(pl.String)).alias(column) for column in ("user", "item")]
        parts.append(part.with_columns(*own, platform=pl.lit(name)))
    settings = [*written(tmp_path, pl.concat(parts), domain="platform"), *ALONE, *NOW]
    settings += ["protocol=cross_platform", "++protocol.shared=[category]", "++encoder.dropout=0.0"]
    settings += ["task@source=[next_click]", "task@target=[next_item]", "source.next_click.column=next"]
    settings += ["source.next_click.stream=a/sequences", "target.next_item.stream=b/sequences"]
    tree = compose([*settings, "++transfer.epochs=25"])
    metrics, _ = done(tree, tmp_path / "run")
    found, twin = metrics["test"]["next_item"], metrics["twin"]["next_item"]
    assert twin["gauc/cold_item"] < 0.7 < 0.75 < found["gauc/cold_item"]

    protocol, _ = prepare(tree)
    module = assemble(tree, protocol, ROLES, tree["seed"])
    module.load_state_dict(weights(tmp_path / "run" / "checkpoints" / "best.ckpt"))
    stream = protocol.streams["b/sequences"]
    (batch,) = [batch for batch in stream.evaluation("test") if "relevant" in batch]
    with torch.no_grad():
        logits = module.eval()("b/sequences", batch, ["next_item"])["next_item"]
    cold = batch["cold_item"]
    assert cold.sum() > 20
    (known,) = protocol.tables["b/item"].content.values()
    category = known[batch["catalogue"]]
    assert not torch.isclose(logits[:, cold].std(1), torch.zeros(())).any()
    for one in category[cold].unique():
        own = logits[:, cold & (category == one)]
        torch.testing.assert_close(own, own[:, :1].expand_as(own), atol=1e-5, rtol=1e-5)
