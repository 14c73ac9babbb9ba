"""The screens show what they were given, also when it looks like markup."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from rich.console import Console
from torch.utils.data import DataLoader

from graftrec.evaluation.report import run_tables, sentences
from graftrec.evaluation.report.sentences import verdict_sentence
from graftrec.training.callbacks.progress import PhaseProgress, rows_in


def _printed(*what: object, width: int = 140) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(*what, sep="\n")
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_result_tables(metrics: dict[str, Any]) -> None:
    text = _printed(*run_tables.result_tables(metrics))
    assert text.index("recommend · test") < text.index("interest · test")
    assert "+0.003 [-0.004, +0.010]" in text
    assert "frequency" in text
    narrow = _printed(*run_tables.result_tables(metrics), width=80)
    assert all(bound in narrow for bound in ("[+0.008,", "+0.034]", "evidence", "popularity"))


def test_a_screen_leaves_side_metrics_to_the_report(metrics: dict[str, Any]) -> None:
    metrics["test"]["interest"] |= {"f1": 0.123, "f1/warm": 0.124, "kappa": 0.125}
    metrics["reasons"] = {"test/f1/copc/warm": "hidden", "test/f1/auc": "0 positives", "baselines/f1/mean/r2": "hidden"}
    text = _printed(*run_tables.result_tables(metrics), *run_tables.undefined_lines(metrics))
    assert "0.125" in text
    assert "0.123" not in text
    assert "0.124" not in text
    assert "test/f1/auc: 0 positives" in text  # a task may be called f1
    assert "hidden" not in text
    metrics["main"] = {"task": "interest", "metric": "f1"}
    assert "0.124" in _printed(*run_tables.result_tables(metrics))


def test_a_screen_leaves_other_lengths_and_histories_to_the_report(metrics: dict[str, Any]) -> None:
    metrics["test"]["recommend"] |= {"ndcg@5": 0.123, "ndcg@10/history_1_4": 0.124, "ndcg@10/history_100": 0.125}
    metrics["test"]["recommend"] |= {"hr@10/history_0": 0.126, "novelty@10": 7.5}
    metrics["test"]["interest"] |= {"recall@5": 0.127}
    metrics["reasons"]["differences/recommend/novelty@10"] = "novelty@10 is no mean over users or rows"
    text = _printed(*run_tables.result_tables(metrics), *run_tables.undefined_lines(metrics))
    assert all(shown in text for shown in ("history 1-4", "0.124", "history 100+", "0.125", "7.500", "0.127"))
    assert "0.123" not in text
    assert "0.126" not in text
    assert "no mean over users" not in text


def test_markup_in_names_survives(metrics: dict[str, Any]) -> None:
    for part in ("test", "twin", "baselines", "differences", "roles"):
        metrics[part] = {"[/foo]" if key == "recommend" else key: value for key, value in metrics[part].items()}
    metrics["baselines"]["[/foo]"]["[bold]x"] = {"[red]": 1.0}
    rows = [{"role": "target", "task": "[/foo]", "learns": "[/]", "reads": "trunk", "loss": "a\x1b[31m", "rows": 12}]
    card = {"dataset": "[/foo]", "rows": 3, "refused": {"bad": 2}}
    text = _printed(
        *run_tables.result_tables(metrics), run_tables.roles_table(rows, 0.1), run_tables.data_line(card, 0.4),
        run_tables.closing_lines(Path("runs/[/a]"), ["graftrec", "train", "task@source=[a,b]"]),
    )  # fmt: skip
    assert text.count("[/foo]") == 3
    assert "[bold]x" in text
    assert "\x1b" not in text
    assert "runs/[/a]/report.html" in text
    assert "'task@source=[a,b]'" in text


def test_data_line_and_roles() -> None:
    card = {"dataset": "cj", "users": 200, "items": 5656, "rows": 112479, "first": "2017-01-01", "last": "2018-01-01"}
    assert run_tables.data_line(card).plain == "cj · 200 users · 5,656 items · 112,479 rows · 2017-01-01 .. 2018-01-01"
    rows = [{"role": "shared", "task": "relevance", "rows": 1000}]
    assert "lambda 0.1" in _printed(run_tables.roles_table(rows, 0.1))


def test_verdict_sentences(metrics: dict[str, Any]) -> None:
    assert (
        verdict_sentence(metrics) == "No evidence of a transfer: recommend ndcg@10 +0.003 [-0.004, +0.010] over 3 seeds"
    )
    metrics["main"]["metric"] = "hr@10"
    assert verdict_sentence(metrics) == "The transfer helped: recommend hr@10 +0.021 [+0.008, +0.034] over 3 seeds"
    metrics["main"]["metric"] = "mrr@10"
    assert verdict_sentence(metrics) == "The transfer hurt: recommend mrr@10 -0.012 [-0.020, -0.004] over 3 seeds"
    assert verdict_sentence({}) == "Whether the transfer helped was not measured: no twin was trained."
    metrics["main"]["metric"] = "auc"
    assert verdict_sentence(metrics).endswith("0 positives of 812 rows.")


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("metric", ["hr@10", "mrr@10", "ndcg@10"])
def test_a_screen_of_fewer_than_three_seeds_has_no_verdict(metric: str, width: int, unjudged: dict[str, Any]) -> None:
    unjudged["main"]["metric"] = metric
    text = _printed(*run_tables.result_tables(unjudged, width), run_tables.verdict_line(unjudged), width=width)
    assert re.search(r"help|hurt|evidence|worse|better", text) is None
    text = " ".join(text.split())
    few = "with seed 7 alone; another seed may say otherwise: seeds=5 or graftrec audit judges"
    assert (few if len(unjudged["seeds"]) == 1 else "with 2 seeds; 3 or more give a verdict") in text


def test_what_stands_below_the_answer(metrics: dict[str, Any]) -> None:
    said = run_tables.verdict_line(metrics).plain.splitlines()
    assert (
        said[1] == "A change of 0.0123 would have been found with 80 % power, after Holm's correction for 3 verdicts."
    )
    assert said[2:5] == [
        "hr@10: +0.021 [+0.008, +0.034], helps",
        "mrr@10: -0.012 [-0.020, -0.004], hurts",
        "first time: +0.012 [-0.004, +0.028]",  # not declared, so without a verdict
    ]
    better = "The grafted model is better than the best simple model, own frequency (0.577): +0.021 [+0.008, +0.034]"
    assert said[5:] == [better]
    metrics["beside"]["recommend"]["weak"] = "own_frequency"
    assert (
        run_tables.verdict_line(metrics)
        .plain.splitlines()[6]
        .startswith("Weak twin: recommend alone is worse than own")
    )
    metrics["differences"]["recommend"]["ndcg@10"]["n"] = 4
    assert "evidence, 4 users" in _printed(*run_tables.result_tables(metrics))
    metrics["main"]["metric"] = "hr@10"
    assert "would have been found" not in run_tables.verdict_line(metrics).plain  # where something was


def test_what_was_declared_is_told_wherever_it_stands(metrics: dict[str, Any]) -> None:
    """In the table, beside the best simple model, and where there is no twin, as nothing."""
    recommend = metrics["differences"]["recommend"]
    metrics["family"]["declared"] = ["recall@10", "ndcg@10/first_time"]
    for part in ("test", "twin"):
        metrics[part]["recommend"]["recall@10"] = 0.1
    recommend["recall@10"] = dict(recommend["mrr@10"])
    assert "recall@10" in _printed(*run_tables.result_tables(metrics))
    worse = dict(recommend["mrr@10"], n=12)
    metrics["beside_declared"] = {
        "recommend": {
            "ndcg@10/first_time": {
                "metric": "ndcg@10/first_time", "best": "ease", "value": 0.3, "weak": "ease",
                "grafted": {"ease": worse}, "twin": {"ease": worse},
            }
        }
    }  # fmt: skip
    text = run_tables.verdict_line(metrics).plain
    assert "first time: the grafted model is worse than the best simple model, ease (0.300): -0.012" in text
    assert "[-0.020, -0.004], 12 users" in text
    assert "Weak twin: recommend alone is worse than ease, ndcg@10 · first time -0.012" in text
    metrics |= {"twin": {}, "differences": {}, "family": {**metrics["family"], "untested": "there is no source"}}
    said = (
        "Whether the transfer helped was not measured: there is no source. Nor is there a verdict of what was declared"
    )
    assert verdict_sentence(metrics) == f"{said}: recall@10, ndcg@10 · first time."


def test_few_users_are_counted_wherever_they_are(metrics: dict[str, Any]) -> None:
    metrics["differences"]["recommend"]["ndcg@10"]["n"] = 4
    assert "[-0.004, +0.010] of 4 users, over 3 seeds" in verdict_sentence(metrics)
    metrics["users"] = {"recommend": {"ndcg@10/first_time": 7}}
    assert "7 users" not in _printed(*run_tables.result_tables(metrics))  # which stands behind the difference
    metrics["differences"] = {}
    assert "first time, 7 users" in " ".join(_printed(*run_tables.result_tables(metrics), width=200).split())


def test_with_one_seed_the_twin_stands_beside_the_best_simple_model(unjudged: dict[str, Any]) -> None:
    beside = unjudged["beside"]["recommend"]
    beside["twin"] = {beside["best"]: dict(beside["grafted"][beside["best"]], delta=-0.5)}
    assert "; twin - own frequency: -0.500" in run_tables.verdict_line(unjudged).plain


def test_spread_and_what_baselines_saw(metrics: dict[str, Any]) -> None:
    text = _printed(*run_tables.result_tables(metrics), *run_tables.fitted_lines(metrics))
    assert text.count("±0.007") == text.count("±0.009") == 1
    assert "recommend: fitted on training and validation rows: own frequency, item knn; all else on training" in text


def test_trainings_are_announced() -> None:
    assert run_tables.trainings_line(10, 5, 2, 4).plain.startswith(
        "10 trainings (5 seeds), 2 of them finished before, 4 at a time"
    )
    assert run_tables.trainings_line(6, 3, 0, 1).plain.startswith("6 trainings (3 seeds), one after the other")


class _Model(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        loss = self.layer(batch).square().mean()
        self.log("train/loss/target", loss, on_step=True, on_epoch=False)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.01)


@pytest.mark.filterwarnings("ignore:.*num_workers.*")
@pytest.mark.parametrize("watched", [False, True])
def test_progress(tmp_path: Path, watched: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=watched, width=150)
    bar = PhaseProgress("joint [/x]", console=console)
    trainer = pl.Trainer(
        max_epochs=2, callbacks=[bar], logger=False, enable_checkpointing=False, enable_model_summary=False,
        accelerator="cpu", default_root_dir=tmp_path, log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(_Model(), DataLoader(torch.randn(16, 2), batch_size=4))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "joint [/x]" in text
    assert "epoch 2/2" in text
    assert "rows/s" in text
    assert "target " in text
    assert bar._rows == 32
    if not watched:
        assert len(text.splitlines()) == 2
        assert "\x1b" not in text


def test_no_epoch_shows_the_loss_of_an_earlier_one() -> None:
    """What was logged stays with the trainer until it is logged again, perhaps epochs later."""
    bar = PhaseProgress("joint", console=Console(file=io.StringIO(), width=150))
    logged = {"train/loss/target": torch.tensor(0.7)}
    trainer: Any = SimpleNamespace(max_epochs=3, current_epoch=0, callback_metrics=logged)
    bar.on_train_start(trainer, trainer)
    assert bar._fields(trainer)["loss"] == "target 0.7"
    bar.on_train_epoch_start(trainer, trainer)
    assert bar._fields(trainer)["loss"] == ""
    logged["train/loss/target"] = torch.tensor(0.7)
    assert bar._fields(trainer)["loss"] == "target 0.7"


def test_rows_in() -> None:
    a, b = torch.zeros(3, 2), torch.zeros(3)
    assert rows_in({"x": a, "y": b}) == 3
    assert rows_in({"one": {"x": a}, "two": {"x": torch.zeros(5)}, "none": None}) == 8
    assert rows_in(({"one": {"x": a}}, 0, 0)) == 3
    assert rows_in(None) == 0


def test_a_source_that_is_below_a_simple_model_is_told(run_folder: Path) -> None:
    metrics = json.loads((run_folder / "metrics.json").read_text())
    assert sentences.below_sentences(metrics) == []  # a target has its own sentence
    hurts = metrics["differences"]["recommend"]["mrr@10"]
    metrics["beside"]["interest"] = {
        "metric": "accuracy", "best": "majority", "value": 0.43, "weak": None, "grafted": {"majority": hurts},
    }  # fmt: skip
    said = "interest (source) is worse than majority, accuracy 0.430: -0.012 [-0.020, -0.004]"
    assert sentences.below_sentences(metrics) == [said]
    assert said in run_tables.verdict_line(metrics).plain


def test_what_the_table_says_of_one_user_is_not_said_twice(metrics: dict[str, Any]) -> None:
    why = "1 user, of whom there is no interval"
    metrics["reasons"]["differences/recommend/ndcg@10/first_time"] = why
    assert why in _printed(*run_tables.undefined_lines(metrics))  # of 812 users the table says no number
    metrics["differences"]["recommend"]["ndcg@10/first_time"]["n"] = 1
    assert why not in _printed(*run_tables.undefined_lines(metrics))
    assert "1 user" in _printed(*run_tables.result_tables(metrics))


def test_values_that_lack_for_one_reason_are_one_line(metrics: dict[str, Any]) -> None:
    metrics["main"]["metric"] = "ndcg@10"
    keys = [f"test/recommend/ndcg@10/cohort_{at}" for at in range(108)]
    metrics["reasons"] = dict.fromkeys(["twin/interest/auc", *keys], "0 users with a relevant item")
    metrics["reasons"]["test/interest/accuracy"] = "no label"
    lines = [line.plain for line in run_tables.undefined_lines(metrics)]
    assert lines == [
        "  – test/recommend/ndcg@10/cohort_0 and 108 more values of 2 tasks: 0 users with a relevant item",  # noqa: RUF001
        "  – test/interest/accuracy: no label",  # noqa: RUF001
    ]


def test_cohorts_that_a_simple_model_won_are_told(metrics: dict[str, Any]) -> None:
    assert not [said for said in sentences.baseline_sentences(metrics) if "is ahead" in said]
    metrics["baselines"]["recommend"]["item_knn"]["ndcg@10/first_time"] = 0.071
    said = "A simple model is ahead, without a verdict, in: first time (item knn 0.071, grafted 0.061)"
    assert said in sentences.baseline_sentences(metrics)
    assert said in run_tables.verdict_line(metrics).plain
    metrics.setdefault("users", {})["recommend"] = {"ndcg@10/first_time": 4}
    assert said not in sentences.baseline_sentences(metrics)  # of four users


def test_of_errors_the_lower_one_is_ahead(metrics: dict[str, Any]) -> None:
    metrics["main"] = {"task": "relevance", "metric": "rmse"}
    metrics["test"]["relevance"] |= {"rmse/cold_user": 0.2, "rmse/cold_item": 0.2}
    metrics["baselines"]["relevance"] = {"bias": {"rmse": 0.3, "rmse/cold_user": 0.19, "rmse/cold_item": 0.21}}
    (said,) = [said for said in sentences.baseline_sentences(metrics) if "is ahead" in said]
    assert said.endswith("in: cold user (bias 0.190, grafted 0.200)")
