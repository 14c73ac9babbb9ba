"""report.html stands alone and trusts no text."""

from __future__ import annotations

import json
from pathlib import Path

from graftrec.report.html import write_report


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
    assert "No evidence that the transfer helped: recommend ndcg@10 +0.003 [-0.004, +0.010]" in text
    assert "graftrec train seed=1" in text


def test_report_gives_the_reason_for_a_dash(run_folder: Path) -> None:
    text = write_report(run_folder).read_text()
    assert '<abbr title="0 positives of 812 rows">' in text
    assert '<abbr title="own items are never first time">' in text


def test_report_escapes_names(run_folder: Path) -> None:
    evil = "<script>alert(1)</script>\"'$\\frac"
    metrics = json.loads((run_folder / "metrics.json").read_text())
    for part in ("test", "twin", "baselines", "differences", "over_baseline", "roles"):
        metrics[part] = {evil if task == "recommend" else task: value for task, value in metrics[part].items()}
    metrics["main"]["task"] = evil
    metrics["baselines"][evil][evil] = {evil: 0.5}
    metrics["reasons"] = {f"test/{evil}/auc": evil}
    metrics["differences"][evil]["ndcg@10"]["verdict"] = evil
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
    _change(run_folder, "metrics.json", twin={}, differences={}, over_baseline={})
    text = write_report(run_folder).read_text()
    assert "no twin was trained" in text
    assert "grafted - twin" not in text
