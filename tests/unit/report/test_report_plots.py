"""Plots are PNG files, also where there is little to draw."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graftrec.report.plots import comparison, learning_curves

_PNG = b"\x89PNG\r\n\x1a\n"


def test_plots_are_png(run_folder: Path) -> None:
    metrics = json.loads((run_folder / "metrics.json").read_text())
    for path in (
        learning_curves(run_folder / "metrics.csv", run_folder / "plots" / "curves.png"),
        comparison(metrics, run_folder / "plots" / "comparison.png"),
    ):
        assert path.read_bytes().startswith(_PNG)
        assert path.stat().st_size > 10_000


@pytest.mark.parametrize("metrics", [{}, {"test": {"a": {"auc": None}}}, {"test": {"a": {"auc": 0.5}}}])
def test_comparison_with_little(tmp_path: Path, metrics: dict[str, object]) -> None:
    assert comparison(metrics, tmp_path / "c.png").read_bytes().startswith(_PNG)


@pytest.mark.parametrize("text", ["", "phase,step,epoch\n", "phase,step,train/loss/$x_{\njoint,0,1\njoint,1,nan\n"])
def test_curves_with_little(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    assert learning_curves(tmp_path / "metrics.csv", tmp_path / "c.png").read_bytes().startswith(_PNG)
