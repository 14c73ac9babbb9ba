"""report.html stands alone and trusts no text."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from graftrec.evaluation.report.run_page import write_report


def _change(folder: Path, name: str, **values: object) -> None:
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_report_is_self_contained(run_folder: Path) -> None:
    text = write_report(run_folder, "graftrec train seed=1").read_text()
    assert "http://" not in text
    assert "https://" not in text
    assert "<script" not in text
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in text
    assert text.count("data:image/png;base64,") == 2
    assert "No evidence of a transfer: recommend ndcg@10 +0.003 [-0.004, +0.010] over 3 seeds" in text
    assert "A change of 0.0123 would have been found with 80 % power, after Holm&#x27;s correction for 3" in text
    assert "p = 0.41 · Holm&#x27;s p = 1 · users = 812 · seeds = 3" in text
    assert '0.601 <span class="soft">±0.007</span>' in text
    assert "fitted on training and validation rows: own frequency, item knn; all else on training rows" in text
    assert "graftrec train seed=1" in text


def test_report_gives_the_reason_for_a_dash(run_folder: Path) -> None:
    text = write_report(run_folder).read_text()
    assert '<abbr title="0 positives of 812 rows">' in text
    assert '<abbr title="own items are never first time">' in text


def test_report_escapes_names(run_folder: Path) -> None:
    evil = "<script>alert(1)</script>\"'$\\frac"
    metrics = json.loads((run_folder / "metrics.json").read_text())
    for part in ("test", "twin", "baselines", "differences", "beside", "roles"):
        metrics[part] = {evil if task == "recommend" else task: value for task, value in metrics[part].items()}
    metrics["main"]["task"] = evil
    metrics["baselines"][evil][evil] = {evil: 0.5}
    metrics["reasons"] = {f"test/{evil}/auc": evil}
    metrics["differences"][evil]["ndcg@10"]["verdict"] = evil
    metrics["fitted_on"] = {evil: {evil: evil}}
    beside = metrics["beside"][evil]
    beside |= {"best": evil, "weak": evil, "metric": evil}
    for arm in ("twin", "grafted"):
        beside[arm] = {evil: beside[arm]["item_knn"]}
    (run_folder / "metrics.json").write_text(json.dumps(metrics))
    _change(run_folder, "data_card.json", dataset=evil, splits={evil: evil}, **{evil: [evil]})
    text = write_report(run_folder, evil).read_text()
    assert "<script" not in text
    assert "<b>&</b>" not in text
    assert 'title="<' not in text
    assert "&lt;script&gt;" in text


def test_report_of_an_empty_folder(tmp_path: Path) -> None:
    assert "was not measured" in write_report(tmp_path).read_text()


def test_report_of_a_run_without_a_twin(run_folder: Path) -> None:
    _change(run_folder, "metrics.json", twin={}, differences={}, beside={})
    text = write_report(run_folder).read_text()
    assert "no twin was trained" in text
    assert "grafted - twin" not in text


def without_style(text: str) -> str:
    """A page without its style and its plots."""
    return re.sub(r"<style>.*?</style>|<img .*?>", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("metric", ["hr@10", "mrr@10", "ndcg@10"])
def test_fewer_than_three_seeds_have_no_verdict(metric: str, unjudged: dict[str, Any], run_folder: Path) -> None:
    unjudged["main"]["metric"] = metric
    (run_folder / "metrics.json").write_text(json.dumps(unjudged))
    text = without_style(write_report(run_folder).read_text())
    assert re.search(r"help|hurt|evidence|worse|better", text) is None
    assert "recommend" in text
    said = "with seed 7 alone; another seed may say otherwise: seeds=5 or graftrec audit judges"
    assert (said if len(unjudged["seeds"]) == 1 else "with 2 seeds; 3 or more give a verdict") in text
    assert "Grafted - the best simple model, own frequency (0.577): +0.021 [+0.008, +0.034]" in text


def test_few_users_and_a_weak_twin_are_said(run_folder: Path, metrics: dict[str, Any]) -> None:
    metrics["differences"]["recommend"]["ndcg@10/first_time"]["n"] = 4
    metrics["beside"]["recommend"]["twin"]["item_knn"] = metrics["differences"]["recommend"]["mrr@10"]
    _change(run_folder, "metrics.json", beside=metrics["beside"], differences=metrics["differences"])
    assert "Weak twin" not in write_report(run_folder).read_text()
    metrics["beside"]["recommend"]["weak"] = "item_knn"
    _change(run_folder, "metrics.json", beside=metrics["beside"])
    text = write_report(run_folder).read_text()
    assert "<small>first time: +0.012 [-0.004, +0.028], 4 users</small>" in text
    assert '<td class="word soft">4 users</td>' in text
    assert (
        "Weak twin: recommend alone is worse than item knn, ndcg@10 -0.012 [-0.020, -0.004]; a change against a" in text
    )
    assert "The grafted model is better than the best simple model, own frequency (0.577): +0.021 [+0.008" in text
