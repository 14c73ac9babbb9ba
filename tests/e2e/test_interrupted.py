"""The command line stopped before, in and after training, and what the same command then does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from graftrec.cli import main
from graftrec.runs.resume import status_of
from graftrec.utils import fault_injection

pytestmark = pytest.mark.slow
SMALL = [
    "++transfer.epochs=2",
    "++trainer.limit_train_batches=4",
    "++encoder.width=8",
    "++trainer.accelerator=cpu",
    "baselines=false",
    "trunk=shared_bottom",
]


def run(settings: list[str], folder: Path, fault: str, monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
    monkeypatch.setenv(fault_injection.VARIABLE, fault)
    fault_injection._passed.clear()
    return main.main(["train", *settings, *SMALL, f"hydra.run.dir={folder}", *more])


@pytest.fixture(scope="module")
def whole(shop_settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The metrics of a run that nothing stops."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert main.main(["train", *shop_settings, *SMALL, f"hydra.run.dir={folder}"]) == 0
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return found


@pytest.mark.parametrize(
    ("fault", "code"), [("data:1:sigterm", 143), ("setup:2:sigint", 130), ("val:1:sigterm", 143), ("save:2:enospc", 74)]
)
def test_the_same_command_again(
    fault: str, code: int, shop_settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str], whole: dict[str, Any],
) -> None:  # fmt: skip
    folder = tmp_path / "run"
    assert run(shop_settings, folder, fault, monkeypatch, "resume=auto") == code
    said = capfd.readouterr().err
    assert f"(exit code {code})" in said
    assert f"resume={os.path.relpath(folder)}" in said.split("continue with: graftrec train ")[1]
    assert status_of(folder)["state"] == ("failed" if code == 74 else "stopped")
    assert status_of(folder)["exit_code"] == code
    if code == 74:
        assert "bytes are free" in said
        assert f"{folder}/checkpoints/" in said
    assert list(folder.rglob("*.draft")) == []
    assert run(shop_settings, folder, "", monkeypatch, "resume=auto") == 0
    assert status_of(folder)["state"] == "finished"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert run(shop_settings, folder, "train:1:sigterm", monkeypatch, "resume=auto") == 0  # there is nothing to do
    for part in ("val", "test", "twin"):
        assert metrics[part] == whole[part], part


def test_a_killed_run_is_known_and_swept(shop_settings: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "graftrec", "train", *shop_settings, *SMALL, f"hydra.run.dir={folder}"]
    ran = subprocess.run(command, env={**os.environ, fault_injection.VARIABLE: "save:6:sigkill"}, capture_output=True)
    assert ran.returncode == -9
    assert json.loads((folder / "status.json").read_text())["state"] == "running"
    assert status_of(folder)["state"] == "killed"
    assert len(list(folder.rglob(".*.draft"))) == 1
    again = subprocess.run([*command, "resume=auto"], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert list(folder.rglob(".*.draft")) == []
    assert status_of(folder)["state"] == "finished"
