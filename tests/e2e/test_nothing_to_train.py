"""No run ends well that trained, validated or tested nothing: what is empty is refused, or left out, by name."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from graftrec.data.protocols.base import Protocol
from graftrec.runs.overrides import problems_of_command
from graftrec.runs.train import train
from graftrec.training.builder import check_columns, protocol_of, streams_of
from graftrec.training.checkpoints.checkpoint import BEST, load
from graftrec.utils.errors import DataError, UserError, outcome

Compose = Callable[[list[str]], dict[str, Any]]
TASKS = {"rows": "click", "baskets": "recommend", "pairs": "relevance", "sequences": "next_item"}
PROTOCOLS = ("cross_domain", "cross_platform", "long_short_term", "cold_start")
LABELS = ["++dataset.labels={click: binary}"]
SHORT = ["twin=false", "baselines=false", "schedule=constant", "++trainer.max_steps=2", "++trainer.accelerator=cpu"]
PARTS = {"train": (0.0, 0.8), "val": (0.8, 0.9), "test": (0.9, 2.0)}  # of the time that the table spans


@pytest.fixture(scope="session")
def without(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Lines of two domains, of which ``a`` has none in one part; its clicks are missing in one where it has lines."""
    folder = tmp_path_factory.mktemp("emptied")
    lines = pl.read_parquet(shop / "lines.parquet")
    lines = lines.with_columns(domain=pl.when(pl.col("basket") % 2 == 1).then(pl.lit("a")).otherwise(pl.lit("b")))
    first, last = lines["time"].min(), lines["time"].max()

    def written(part: str, column: str = "") -> Path:
        path = folder / f"{part}{column}.parquet"
        if not path.is_file():
            low, high = (first + timedelta(seconds=share * (last - first).total_seconds()) for share in PARTS[part])
            there = (pl.col("domain") == "a") & pl.col("time").is_between(low, high, closed="left")
            if column:
                lines.with_columns(pl.when(there).then(None).otherwise(pl.col(column)).alias(column)).write_parquet(
                    path
                )
            else:
                lines.filter(~there).write_parquet(path)
        return path

    return written


@pytest.fixture(scope="module")
def tree_of(compose: Compose, shop_settings: list[str]) -> Callable[..., dict[str, Any]]:
    """The tree of a task ``emptied`` that reads ``a`` and plays a role, beside a target ``kept`` that reads ``b``."""
    known: dict[tuple[str, str], dict[str, Any]] = {}

    def tree(kind: str, role: str, protocol: str, path: Path) -> dict[str, Any]:
        if (kind, protocol) not in known:
            target = TASKS["baskets" if kind == "pairs" else kind]
            chosen = ["task@source=[]", f"task@target=[{target}]", f"task@shared=[{TASKS[kind]}]"]
            if kind != "pairs":
                chosen[-1] = "task@shared=[]"
            trunk = ["trunk=sasrec" if kind == "sequences" else "trunk=shared_bottom"]
            data = ["++dataset.domain=domain", "++split.of=span", *(LABELS if kind == "rows" else [])]
            more = [f"protocol={protocol}", *trunk, *data, *SHORT]
            known[kind, protocol] = compose([*shop_settings, *chosen, *more])
        found = copy.deepcopy(known[kind, protocol])
        (target,) = found["target"].values()
        emptied = found["shared"].pop("relevance") if kind == "pairs" else copy.deepcopy(target)
        found["dataset"]["path"] = str(path)
        target["stream"] = f"b/{target['stream']}"
        found["target"] = {"kept": target}
        found[role]["emptied"] = {**emptied, "stream": f"a/{kind}"}
        return found

    return tree


def prepared(tree: dict[str, Any]) -> Protocol:
    protocol = protocol_of(tree)
    protocol.prepare(streams_of(tree), judged=streams_of(tree, ("target",)))
    check_columns(tree, protocol)
    return protocol


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("role", ["source", "target", "shared"])
@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_empty_part_of_a_stream_is_refused_or_named(
    protocol: str, kind: str, role: str, part: str, tree_of: Callable[..., dict[str, Any]],
    without: Callable[[str], Path],
) -> None:  # fmt: skip
    tree = tree_of(kind, role, protocol, without(part))
    if role == "target" or part == "train":
        with pytest.raises(DataError) as told:
            prepared(tree)
        assert outcome(told.value)[0] == 65
        assert f"stream 'a/{kind}'" in str(told.value)
        assert part in str(told.value) or told.value.code == "DATA-053"  # there is none in any part
    else:  # it is trained on, and nothing is chosen by it
        notes = prepared(tree).full_card["notes"]
        assert f"the {part} split of stream 'a/{kind}' has no row" in " ".join(notes)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    for drawing in ("plots.learning_curves", "plots.comparison", "run_page.write_report"):
        monkeypatch.setattr(f"graftrec.evaluation.report.{drawing}", lambda *_, **__: None)


def metrics_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return found


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("part", ["val", "test"])
def test_a_source_that_cannot_be_judged_trains_and_its_metrics_are_null_with_a_reason(
    kind: str, part: str, tree_of: Callable[..., dict[str, Any]], without: Callable[[str], Path], tmp_path: Path,
    undrawn: None,
) -> None:  # fmt: skip
    tree = tree_of(kind, "source", "cross_domain", without(part))
    train(tree, tmp_path / "run")
    metrics = metrics_of(tmp_path / "run")
    assert load(tmp_path / "run" / "checkpoints" / BEST)["global_step"] == 2
    assert metrics[part]["emptied"]
    for metric, value in metrics[part]["emptied"].items():
        assert value is None, metric
        assert metrics["reasons"][f"{part}/emptied/{metric}"]
    assert metrics["test"]["kept"][metrics["main"]["metric"]] is not None


@pytest.mark.parametrize("role", ["source", "target", "shared"])
def test_a_task_without_a_label_in_training_is_refused(
    role: str, tree_of: Callable[..., dict[str, Any]], without: Callable[..., Path]
) -> None:
    tree = tree_of("rows", role, "cross_domain", without("train", "click"))
    with pytest.raises(DataError, match=rf"TASK-005 {role}\.emptied: no training row of stream 'a/rows' has its label"):
        prepared(tree)


@pytest.mark.parametrize("part", ["val", "test"])
def test_a_target_without_a_label_to_be_judged_by_says_so(
    part: str, tree_of: Callable[..., dict[str, Any]], without: Callable[..., Path], tmp_path: Path, undrawn: None,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    tree = tree_of("rows", "target", "cross_domain", without(part, "click"))
    train(tree, tmp_path / "run")
    metrics = metrics_of(tmp_path / "run")
    assert load(tmp_path / "run" / "checkpoints" / BEST)["global_step"] == 2
    assert metrics[part]["emptied"]["auc"] is None
    assert metrics["reasons"][f"{part}/emptied/auc"] == "0 rows"
    assert metrics["test"]["kept"]["auc"] is not None
    said = " ".join(capsys.readouterr().out.split())
    untrusted = "joint: no validation had a score that can be trusted, so the last weights count"
    assert (untrusted if part == "val" else "test/emptied/auc and ") in said
    assert part == "val" or " more values: 0 rows" in said


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("limit_train_batches=0", "a whole number of steps of at least 1, or a share of a pass in (0, 1]"),
        ("limit_train_batches=0.0", "a whole number of steps of at least 1"),
        ("limit_val_batches=0", "a whole number of at least 1, or 1.0 for all"),
        ("limit_test_batches=0.5", "a whole number of at least 1, or 1.0 for all"),
        ("max_steps=0", "at least 1, or -1 for no limit"),
        ("max_epochs=0", "the transfer strategy says how many (transfer.epochs)"),
        ("overfit_batches=1", "see limit_train_batches"),
    ],
)
def test_settings_that_leave_nothing_to_do_are_refused(setting: str, said: str) -> None:
    (problem,) = problems_of_command("train", [f"++trainer.{setting}"], [])
    assert problem.startswith(f"trainer.{setting.partition('=')[0]}: ")
    assert said in problem


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("++trainer.limit_train_batches=0.01", r"trainer\.limit_train_batches: an epoch should have at least 1 step"),
        ("++trainer.max_time={seconds: 0}", "phase joint made no step"),
    ],
)
def test_a_phase_without_a_step_ends_with_2(
    setting: str, said: str, compose: Compose, shop_settings: list[str], tmp_path: Path, undrawn: None
) -> None:
    tree = compose([*shop_settings, *SHORT, setting, "trunk=shared_bottom"])
    with pytest.raises(UserError, match=said):
        train(tree, tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.json").exists()
