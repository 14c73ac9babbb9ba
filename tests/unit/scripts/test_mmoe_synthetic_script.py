"""The table and the plot of the MMoE paper's generated case, from runs that are there."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[3] / "scripts"


def test_leads_and_their_slope(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    script = importlib.import_module("mmoe_synthetic")
    monkeypatch.setattr(script, "PLOT", tmp_path / "plot.png")
    monkeypatch.setattr(script, "run", lambda *_: pytest.fail("everything is there"))
    for seed in (1, 2):
        for correlation in script.CORRELATIONS:
            for trunk, mse in (("shared_bottom", 0.2 - 0.1 * correlation), ("mmoe", 0.1 + 0.01 * seed)):
                found = {"mse": mse, "parameters": {"trunk": 14_816, "heads": 66}}
                (tmp_path / f"{trunk}_{correlation}_{seed}.json").write_text(json.dumps(found))
    monkeypatch.setattr("sys.argv", ["mmoe_synthetic.py", str(tmp_path), "1", "2"])
    script.main()
    said = capsys.readouterr().out
    assert "| mmoe MSE | 0.1150 | 0.1150 | 0.1150 | 0.1150 | 14,816 |" in said
    assert "slope of the lead (MSE): -0.1000 [-0.1000, -0.1000], 2 seeds" in said
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
