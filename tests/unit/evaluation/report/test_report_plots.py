"""Plots are PNG files, also where there is little to draw."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from graftrec.evaluation.report import plots
from graftrec.evaluation.report.plots import comparison, learning_curves
from graftrec.training.loggers.logs import CsvLog, replay

_Line = tuple[object, float, list[float], list[float]]  # colour, width, x and y
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


def drawn(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, list[tuple[object, float, list[float], list[float]]]]:
    """Panel -> the colour, width, x and y of each of its lines that has points."""
    figures: list[Figure] = []
    monkeypatch.setattr(plots, "save", lambda figure, out: figures.append(figure) or out)
    learning_curves(path, path.with_suffix(".png"))
    panels = [axes for axes in figures[0].axes if axes.get_title(loc="left")]
    return {
        axes.get_title(loc="left"): [
            (line.get_color(), line.get_linewidth(), list(line.get_xdata()), list(line.get_ydata()))
            for line in axes.lines
            if len(line.get_xdata())
        ]
        for axes in panels
    }


def trained(folder: Path, phase: str, values: list[float]) -> Path:
    """What a training leaves: a loss in each epoch, and a score at its end."""
    log = CsvLog(folder)
    log.phase(phase)
    for epoch, value in enumerate(values):
        log.log_metrics({"train/loss/total": value, "epoch": epoch}, 4 * epoch)
    log.log_metrics({"val/a/auc": values[0] / 10}, 4 * len(values))
    log.close(0)
    return folder


def test_each_seed_is_a_thin_line_of_its_phases_colour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, values = CsvLog(tmp_path), {0: [1.0, 0.5], 5: [1.2, 0.6, 0.4]}
    for seed, losses in values.items():
        for phase in ("joint", "twin"):
            replay(trained(tmp_path / f"{phase}{seed}", phase, losses), seed, seed == 0, [log])
    log.close(0)
    found = drawn(log.path, monkeypatch)
    colours = [plots.GRAFTED, plots.GRAFTED, plots.TWIN, plots.TWIN]
    assert [line[0] for line in found["loss · total"]] == colours
    assert [line[2:] for line in found["loss · total"]] == 2 * [([0, 4], [1.0, 0.5]), ([0, 4, 8], [1.2, 0.6, 0.4])]
    assert [line[2:] for line in found["validation · a · auc"]] == 2 * [([8], [0.1]), ([12], [0.12])]
    one = tmp_path / "one"
    (of_one,) = drawn(trained(one, "joint", [1.0, 0.5]) / "metrics.csv", monkeypatch)["loss · total"]
    assert all(line[1] < of_one[1] for line in found["loss · total"])


def test_each_targets_twin_is_a_line_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = CsvLog(tmp_path)
    for phase, losses in (("joint", [1.0, 0.5]), ("twin", [0.9, 0.8]), ("twin", [0.7, 0.6])):
        log.phase(phase)
        for epoch, loss in enumerate(losses):
            log.log_metrics({"train/loss/total": loss, "epoch": epoch}, 4 * epoch)
    log.close(0)
    lines = drawn(log.path, monkeypatch)["loss · total"]
    assert [line[2:] for line in lines] == [([0, 4], [1.0, 0.5]), ([0, 4], [0.9, 0.8]), ([0, 4], [0.7, 0.6])]
    assert [line[0] for line in lines] == [plots.GRAFTED, plots.TWIN, plots.TWIN]
